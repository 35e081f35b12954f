"""When evaluation waits for an announced edit: until the index has it, and not for every edit that anybody makes."""

from __future__ import annotations

from typing import Any

import pytest

from worker.evaluation import automation_cache
from worker.evaluation.automation_cache import AutomationCache


class Stored(AutomationCache):
    """A cache over a database that has nothing but a revision."""

    def __init__(self) -> None:
        engine: Any = None
        super().__init__(engine, 1e9, on_unreadable=lambda _one, _refusal: None)
        self.newest = 0
        self.reads = 0
        self.pauses: list[float] = []

    def _refresh(self) -> None:
        self.reads += 1
        self._revision = self.newest


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Stored:
    found = Stored()
    monkeypatch.setattr("time.sleep", found.pauses.append)
    return found


def test_one_look_takes_in_all_edits_up_to_then(cache: Stored) -> None:
    cache.newest = 50
    cache.current(b"10")
    assert cache.reads == 1
    for revision in range(11, 51):
        cache.current(b"%d" % revision)
    assert cache.reads == 1
    cache.newest = 60
    cache.current(b"51")
    assert cache.reads == 2


def test_an_edit_that_the_index_may_not_have_is_looked_for(cache: Stored) -> None:
    cache.newest = 50
    cache.current(b"50")
    cache.newest = 20  # restored from a backup
    cache.current(b"20")
    assert (cache.reads, cache._revision) == (2, 20)
    cache.newest = 21
    cache.current(b"21")
    assert (cache.reads, cache._revision) == (3, 21)
    cache.current(b"21")
    cache.current(None)
    assert cache.reads == 3


def test_the_first_announcement_is_always_looked_for(cache: Stored) -> None:
    cache.newest = 5
    cache.current()
    assert cache.reads == 1
    cache.current(b"3")
    assert cache.reads == 2


def test_the_time_of_the_database_makes_nobody_wait_longer(cache: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look takes a hundredth of a second of work, and a second of waiting."""
    now, cpu = [100.0], [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.thread_time", lambda: cpu[0])
    read = cache._refresh

    def slow() -> None:
        read()
        now[0] += 1.0
        cpu[0] += 0.01

    monkeypatch.setattr(cache, "_refresh", slow)
    cache._refreshed_at = 100.0
    for revision in (1, 2):
        cache.newest = revision
        cache.current(b"%d" % revision)
    assert cache.pauses == pytest.approx([0.0, 0.01 * (1 / automation_cache.MAX_RELOAD_SHARE - 1)])
