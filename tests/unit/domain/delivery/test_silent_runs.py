"""When a run is silent: never early, whatever workers have written down, and not for Hookline's own outages."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.delivery.silent_runs import (
    COARSE_PARTS,
    GRACE_MS,
    Silences,
    SilentRun,
    WatchedRun,
    crashed_event,
    deadline_ms,
    judge,
    silent_event,
)
from shared.domain.events.decoding import decode_event
from shared.domain.events.types import EventType
from shared.domain.json_text import write_json

HEARTBEATS = st.integers(1_000, 30 * 86_400_000)
MOMENTS = st.integers(0, 2**41)


@given(HEARTBEATS, MOMENTS, MOMENTS, MOMENTS, st.integers(0, GRACE_MS))
def test_a_run_crashes_no_earlier_than_its_heartbeat_says(
    heartbeat_ms: int, came_ms: int, evaluated_ms: int, alive_ms: int, unknown_ms: int
) -> None:
    written_ms = came_ms - heartbeat_ms // COARSE_PARTS - unknown_ms
    verdict = judge(WatchedRun(heartbeat_ms, written_ms), evaluated_ms=evaluated_ms, alive_since_ms=alive_ms)
    if verdict.crashed:
        assert evaluated_ms - came_ms >= heartbeat_ms
        assert evaluated_ms - alive_ms >= heartbeat_ms
        assert verdict.check_ms is None
    else:
        assert verdict.check_ms is not None
        assert verdict.check_ms > evaluated_ms
        late = judge(WatchedRun(heartbeat_ms, written_ms), evaluated_ms=verdict.check_ms, alive_since_ms=alive_ms)
        assert late.crashed


def test_a_run_without_a_heartbeat_is_not_waited_for() -> None:
    verdict = judge(WatchedRun(None, 0), evaluated_ms=10**15, alive_since_ms=0)
    assert (verdict.crashed, verdict.check_ms) == (False, None)
    assert deadline_ms(8_000) == 9_000 + GRACE_MS


def test_the_event_is_the_same_for_the_same_silence() -> None:
    def made(seen_ms: int) -> dict[str, object]:
        run = {"id": "r1", "name": "first", "user": "alice"}
        time = "2026-11-23T09:00:00Z"
        about = SilentRun(key="k", entity="acme", project="digits", time=time, run=run, seen_ms=seen_ms)
        assert silent_event(about, 60_000) == silent_event(about, 60_000)
        assert silent_event(about, 60_000)["id"] != silent_event(about, 90_000)["id"]
        data: Any = silent_event(about, 60_000)["data"]
        assert (data["state"], data["silent_seconds"]) == ("silent", 60)
        return crashed_event(about, 90_000)

    assert made(5) == made(5)
    assert made(5)["id"] != made(6)["id"]
    event = decode_event(write_json(made(5)))
    assert (event.type, event.source, event.data.author) == (EventType.RUN_STATE, "/hookline", "hookline")
    assert "heartbeat of 1m30s" in str(made(5)["data"])


def test_each_silence_that_is_asked_for_is_told_once_and_the_next_is_waited_for() -> None:
    def look(evaluated_ms: int, told_ms: int = 0, heartbeat_ms: int | None = None) -> Any:
        run = WatchedRun(heartbeat_ms, 0, told_ms, (60_000, 600_000))
        return judge(run, evaluated_ms=evaluated_ms, alive_since_ms=0)

    assert (look(60_000).told_ms, look(60_000).check_ms) == ((), deadline_ms(60_000))
    assert (look(100_000).told_ms, look(100_000).check_ms) == ((60_000,), deadline_ms(600_000))
    assert (look(100_000, 60_000).told_ms, look(100_000, 60_000).crashed) == ((), False)
    assert look(10**9).told_ms == (60_000, 600_000)
    assert look(10**9, 600_000).check_ms is None
    assert look(100_000, 60_000, heartbeat_ms=80_000).crashed
    assert look(60_000, heartbeat_ms=10_000).crashed


def test_silences_are_those_of_the_entity_of_the_project_and_of_organizations_above() -> None:
    asked = [("acme", None, 5), ("acme", "p", 3), ("acme", "q", 4), ("corp", None, 9), ("corp", "p", 1)]
    silences = Silences(asked, {"acme": ("corp",)})
    assert silences.of("acme", "p") == (3, 5, 9)
    assert silences.of("acme", "x") == (5, 9)
    assert silences.of("other", "p") == ()
    assert not Silences()
    assert silences == Silences(asked, {"acme": ("corp",)}) != Silences(asked)
