"""Of documents that read much, one runs at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from dispatcher.graphql import budget
from dispatcher.graphql.budget import HEAVY_BYTES, Budget, OverBudget


@pytest.fixture(autouse=True)
def quick_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """To look through all that pytest holds takes a second each time."""
    monkeypatch.setattr(budget, "release_memory", lambda: None)


def test_heavy_documents_run_one_after_the_other_and_light_ones_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MAX_WAIT_SECONDS", 300.0)
    inside, most, guard = 0, 0, threading.Lock()

    def heavy() -> None:
        nonlocal inside, most
        with closing(Budget()) as own:
            own.spend(HEAVY_BYTES)
            own.spend(1)
            with guard:
                inside += 1
                most = max(most, inside)
            own.spend(1)
            with closing(Budget()) as light:
                light.spend(HEAVY_BYTES)
            with guard:
                inside -= 1

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(heavy) for _ in range(40)]:
            done.result(timeout=60)
    assert most == 1


def test_waiting_is_no_time_of_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(budget, "monotonic", lambda: now)
    waiting = Budget()

    class Slow:
        def acquire(self, timeout: float) -> bool:
            nonlocal now
            now += timeout - 1
            return True

        def release(self) -> None:
            """Nobody else wants it."""

    monkeypatch.setattr(budget, "_heavy", Slow())
    waiting.spend(HEAVY_BYTES + 1)
    waiting.check()
    now += budget.MAX_SECONDS + 1
    with pytest.raises(OverBudget, match="took more than"):
        waiting.check()


def test_what_writes_does_not_wait_and_what_waits_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Budget()) as first:
        first.spend(HEAVY_BYTES + 1)
        with closing(Budget(writes=True)) as second, pytest.raises(OverBudget, match="again later"):
            second.spend(HEAVY_BYTES + 1)
        monkeypatch.setattr(budget, "MAX_WAIT_SECONDS", 0.001)
        with closing(Budget()) as third, pytest.raises(OverBudget, match="again later"):
            third.spend(HEAVY_BYTES + 1)
    with closing(Budget(writes=True)) as fourth:
        fourth.spend(HEAVY_BYTES + 1)
