"""Threads shared fairly: few calls at the same time, fewer of one user, and places that run out."""

from __future__ import annotations

import threading

import anyio
import anyio.from_thread
import pytest

from dispatcher.api.fair_threads import FairThreads, Places
from dispatcher.api.problems import Problem

SECONDS = 30


def fair_threads(threads: int, threads_of_a_user: int) -> FairThreads:
    return FairThreads(Places("requests", 8, 4), threads=threads, threads_of_a_user=threads_of_a_user)


def test_one_user_waits_behind_itself_and_nobody_else_does() -> None:
    release = threading.Event()
    running: list[int] = []
    most: list[int] = []

    def hold(user: int) -> int:
        running.append(user)
        most.append(running.count(user))
        if len(most) == 2:
            anyio.from_thread.run_sync(both.set)
        release.wait(SECONDS)
        running.remove(user)
        return user

    both = anyio.Event()

    async def check() -> None:
        pool = fair_threads(threads=3, threads_of_a_user=2)
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(pool.run, 1, hold, 1)
            await both.wait()
            assert await pool.run(2, lambda: "served") == "served"
            release.set()
        assert await pool.run(1, lambda text: text, "again") == "again"
        assert not pool._turns._users

    anyio.run(check)
    assert max(most) == 2
    assert len(most) == 4


def test_a_failed_call_gives_its_thread_back() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async def check() -> None:
        pool = fair_threads(threads=1, threads_of_a_user=1)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await pool.run(1, fail)

    anyio.run(check)


def test_places_run_out_for_a_user_before_they_do_for_all() -> None:
    places = Places("dry runs", most=3, most_of_a_user=2)
    with places.hold(1), places.hold(1):
        with pytest.raises(Problem, match=r"2 dry runs of yours") as refused, places.hold(1):
            pass
        assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "1")
        with places.hold(2), pytest.raises(Problem, match=r"^3 dry runs are"), places.hold(3):
            pass
        with places.hold(3):
            pass
    with places.hold(1):
        pass
    assert not places._held
