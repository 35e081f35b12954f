"""Threads shared fairly: few calls at the same time, fewer of one user, and places that run out."""

from __future__ import annotations

import threading

import anyio
import anyio.from_thread
import pytest

from dispatcher.api import fair_threads as fair_threads_module
from dispatcher.api.fair_threads import FairThreads, Places, Refusals
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


def test_refusals_of_a_user_are_told_at_a_bounded_rate_and_those_of_others_at_once() -> None:
    async def check() -> None:
        refusals = Refusals(per_second=20, most_seconds=1)
        began = anyio.current_time()
        told: list[float] = []

        async def refused() -> None:
            await refusals.wait(1)
            told.append(anyio.current_time() - began)

        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(refused)
            await anyio.wait_all_tasks_blocked()
            assert len(told) == 1
            with anyio.fail_after(0):
                await refusals.wait(2)
        # Nothing is told early: the first is due at once, the 11th after half a second, and none waits over a second.
        assert sorted(told)[10] >= 0.5
        assert sorted(told)[19] >= 0.95
        assert max(refusals._next.values()) <= began + told[-1] + 1.1

    anyio.run(check)


def test_who_was_refused_long_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_threads_module, "_USERS_KEPT", 10)

    async def check() -> None:
        refusals = Refusals(per_second=1e9, most_seconds=1)
        for user in range(100):
            await refusals.wait(user)
            assert len(refusals._next) <= 10

    anyio.run(check)
