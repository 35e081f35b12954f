"""When a run is silent: by its heartbeat, or by how long automations wait. Pure; times are Unix milliseconds of Redis.

Workers write down when something of a run came only once in an eighth of the time that matters, so that a run that logs
a lot costs no more than one that beats. So a run is silent an eighth, and a little, later than the time that was said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from shared.domain.delivery.notices import AUTHOR
from shared.domain.durations import format_duration
from shared.domain.events.decoding import check_event
from shared.domain.events.own_sources import SYSTEM
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
    told_ms: int = 0
    """The longest silence since then that was published."""
    silences_ms: tuple[int, ...] = ()
    """The silences that automations ask for, in ascending order."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from a look at a run."""

    crashed: bool
    told_ms: tuple[int, ...]
    """The silences to publish, in ascending order."""
    check_ms: int | None
    """When to look again; None when nothing is waited for."""


def judge(run: WatchedRun, *, evaluated_ms: int, alive_since_ms: int) -> Verdict:
    """Whether a run is silent for too long.

    Args:
        run: what is written down of it.
        evaluated_ms: up to when all events of its partition are evaluated.
        alive_since_ms: since when Hookline could hear of runs without a break: nobody is blamed for its outages.
    """
    seen_ms = max(run.seen_ms, alive_since_ms)
    due = {silence: seen_ms + deadline_ms(silence) for silence in run.silences_ms if silence > run.told_ms}
    told = tuple(silence for silence, due_ms in due.items() if due_ms <= evaluated_ms)
    waits = [due_ms for due_ms in due.values() if due_ms > evaluated_ms]
    if run.heartbeat_ms is not None:
        crash_ms = seen_ms + deadline_ms(run.heartbeat_ms)
        if crash_ms <= evaluated_ms:
            return Verdict(crashed=True, told_ms=told, check_ms=None)
        waits.append(crash_ms)
    return Verdict(crashed=False, told_ms=told, check_ms=min(waits, default=None))


class Silences:
    """The silences that automations ask for, by entity and project."""

    def __init__(
        self,
        asked: Iterable[tuple[str, str | None, int]] = (),
        organizations: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """Args:
        asked: entity, project (None for all of them) and milliseconds of each automation.
        organizations: the organizations above each entity, whose automations watch all its projects.
        """
        self._asked: dict[tuple[str, str | None], set[int]] = {}
        for entity, project, milliseconds in asked:
            self._asked.setdefault((entity, project), set()).add(milliseconds)
        self._organizations = organizations or {}

    def __bool__(self) -> bool:
        return bool(self._asked)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Silences) and (self._asked, self._organizations) == (
            other._asked,
            other._organizations,
        )

    __hash__ = None  # type: ignore[assignment]

    def of(self, entity: str, project: str) -> tuple[int, ...]:
        """Those that matter to runs of a project, in milliseconds, in ascending order."""
        if not self._asked:
            return ()
        places = [(entity, None), (entity, project), *((one, None) for one in self._organizations.get(entity, ()))]
        return tuple(sorted(set().union(*(self._asked.get(place, ()) for place in places))))


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentRun:
    """What is told of a run that is silent."""

    key: str
    entity: str
    project: str
    run: dict[str, Any]
    seen_ms: int
    time: str
    """Of the event, as RFC 3339."""


def crashed_event(about: SilentRun, heartbeat_ms: int) -> dict[str, Any]:
    """The event that a run crashed; always the same for the same silence, so that it fires once."""
    waited = format_duration(timedelta(milliseconds=heartbeat_ms))
    members = {"state": str(RunPhase.CRASHED), "reason": f"nothing came of the run for its heartbeat of {waited}"}
    return _event(about, str(about.seen_ms), members)


def silent_event(about: SilentRun, silence_ms: int) -> dict[str, Any]:
    """The event that a run was silent for a time; always the same for the same silence."""
    waited = format_duration(timedelta(milliseconds=silence_ms))
    members = {
        "state": str(RunPhase.SILENT),
        "silent_seconds": silence_ms / 1000,
        "reason": f"nothing came of the run for {waited}",
    }
    return _event(about, f"{about.seen_ms}:{silence_ms}", members)


def _event(about: SilentRun, what: str, members: dict[str, Any]) -> dict[str, Any]:
    event = {
        "specversion": "1.0",
        "id": f"{EventType.RUN_STATE}:{about.key}:{what}",
        "source": SYSTEM,
        "type": str(EventType.RUN_STATE),
        "time": about.time,
        "data": {"entity": about.entity, "project": about.project, "author": AUTHOR, "run": about.run, **members},
    }
    check_event(event)
    return event
