"""When a run is silent: by its heartbeat, or by how long automations wait. Pure; times are Unix milliseconds of Redis.

Workers write down when something of a run came only once in an eighth of the time that matters, so that a run that logs
a lot costs no more than one that beats. So a run is silent an eighth, and a little, later than the time that was said.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from shared.domain.delivery.notices import AUTHOR, SOURCE
from shared.domain.durations import format_duration
from shared.domain.events.decoding import check_event
from shared.domain.events.types import EventType, RunPhase

COARSE_PARTS: Final = 8
"""What is written down of a run is at most this part of the time that matters old."""
GRACE_MS: Final = 3_000
"""What a worker may take to see that a run is watched."""


def deadline_ms(wait_ms: int) -> int:
    """How long after what is written down a run has certainly been silent for a time."""
    return wait_ms + wait_ms // COARSE_PARTS + GRACE_MS


@dataclass(frozen=True, slots=True)
class WatchedRun:
    """A run that has not ended, as it is written down."""

    heartbeat_ms: int | None
    """After how long a silence it counts as crashed; None where it does not say."""
    seen_ms: int
    """When something of it came last, or up to an eighth of the shortest time that matters earlier."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from a look at a run."""

    crashed: bool
    check_ms: int | None
    """When to look again; None when nothing is waited for."""


def judge(run: WatchedRun, *, evaluated_ms: int, alive_since_ms: int) -> Verdict:
    """Whether a run is silent for too long.

    Args:
        run: what is written down of it.
        evaluated_ms: up to when all events of its partition are evaluated.
        alive_since_ms: since when Hookline could hear of runs without a break: nobody is blamed for its outages.
    """
    if run.heartbeat_ms is None:
        return Verdict(crashed=False, check_ms=None)
    due_ms = max(run.seen_ms, alive_since_ms) + deadline_ms(run.heartbeat_ms)
    crashed = evaluated_ms >= due_ms
    return Verdict(crashed, None if crashed else due_ms)


def crashed_event(
    *, key: str, entity: str, project: str, run: dict[str, Any], seen_ms: int, heartbeat_ms: int, time: str
) -> dict[str, Any]:
    """The event that a run crashed; always the same for the same silence, so that it fires once."""
    waited = format_duration(timedelta(milliseconds=heartbeat_ms))
    event = {
        "specversion": "1.0",
        "id": f"{EventType.RUN_STATE}:{key}:{seen_ms}",
        "source": SOURCE,
        "type": str(EventType.RUN_STATE),
        "time": time,
        "data": {
            "entity": entity,
            "project": project,
            "author": AUTHOR,
            "run": run,
            "state": str(RunPhase.CRASHED),
            "reason": f"nothing came of the run for its heartbeat of {waited}",
        },
    }
    check_event(event)
    return event
