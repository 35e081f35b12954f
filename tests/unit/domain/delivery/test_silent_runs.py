"""When a run is silent: never early, whatever workers have written down, and not for Hookline's own outages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.delivery.silent_runs import COARSE_PARTS, GRACE_MS, WatchedRun, crashed_event, deadline_ms, judge
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
        about = {"key": "k", "entity": "acme", "project": "digits", "time": "2026-11-23T09:00:00Z"}
        return crashed_event(**about, run=run, seen_ms=seen_ms, heartbeat_ms=90_000)

    assert made(5) == made(5)
    assert made(5)["id"] != made(6)["id"]
    event = decode_event(write_json(made(5)))
    assert (event.type, event.source, event.data.author) == (EventType.RUN_STATE, "/hookline", "hookline")
    assert "heartbeat of 1m30s" in str(made(5)["data"])
