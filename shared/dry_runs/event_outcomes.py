"""One kept event against the automations of an entity: what each made of it, and which term said no."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from shared.domain.conditions.run_starts import is_start
from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import decode_event
from shared.domain.events.models import Event, RunMetricEvent
from shared.domain.events.partitioning import subject_key
from shared.domain.explain.dry_run import DryRunResult, past_result_of
from shared.domain.explain.past import PastSimulator, Witness
from shared.domain.explain.simulator import Arrival
from shared.domain.matching.compiled import firing_id
from shared.dry_runs.kept_entries import KeptEntries, KeptEntry, Position
from shared.dry_runs.service import complete_since, evaluated_to, organizations_of, read_recorded, was_evaluated
from shared.dry_runs.time_range import TimeRange
from shared.dry_runs.timeline import automation_timelines
from shared.settings import Settings
from shared.storage.definitions.automations import StoredAutomation, concerned_by

MAX_BEFORE = 20_000
"""The most entries of the run's partition that are read back to fill windows."""
MAX_BEFORE_BYTES = 64 << 20
MAX_REPLAYED = 20_000
"""How many events of the run all automations of an answer look at together, before the one that is asked for."""

_LOOKED_UP = 16
"""Automations whose revisions and deliveries are read, and in memory, at a time."""


@dataclass(frozen=True, slots=True)
class AutomationOutcome:
    """What one automation made of the event."""

    stored: StoredAutomation
    deleted: bool
    result: DryRunResult


@dataclass(frozen=True, slots=True)
class RunHistory:
    """The events of a run before one of them, oldest first."""

    arrivals: tuple[Arrival, ...]
    is_whole: bool
    """Whether all that are kept were read."""


def arrival_of(event: Event, position: Position) -> Arrival:
    """A kept event as it came."""
    return Arrival(event, position.received_ms, position.partition, position.entry_id)


def run_history(entries: KeptEntries, event: Event, position: Position) -> RunHistory:
    """The events of a metric event's run that came before it; nothing for other events.

    They are in its partition, since all events of a run are.
    """
    if not isinstance(event, RunMetricEvent):
        return RunHistory((), is_whole=True)
    key, run_id = subject_key(event), event.data.run.id.encode()
    found: list[Arrival] = []
    size_bytes = 0
    for scanned, entry in enumerate(entries.before_in_stream(position)):
        if scanned >= MAX_BEFORE or size_bytes >= MAX_BEFORE_BYTES:
            return RunHistory(tuple(reversed(found)), is_whole=False)
        size_bytes += len(entry.body or b"")
        arrival = _of_run(entry, key, run_id)
        if arrival is not None:
            found.append(arrival)
    return RunHistory(tuple(reversed(found)), is_whole=True)


def _of_run(entry: KeptEntry, key: str, run_id: bytes) -> Arrival | None:
    body = entry.body or b""
    if run_id not in body and b"\\" not in body:
        return None
    try:
        event = decode_event(body)
    except InvalidDefinition:
        return None
    is_wanted = (isinstance(event, RunMetricEvent) or is_start(event)) and subject_key(event) == key
    return arrival_of(event, entry.position) if is_wanted else None


def outcomes_of(
    connection: Connection,
    entity_id: int,
    event: Event,
    position: Position,
    before: RunHistory,
    settings: Settings,
    now: datetime,
    *,
    after: int,
    limit: int,
) -> Iterator[AutomationOutcome]:
    """What the entity's automations made of an event: those that are, or were, about its type, by id after `after`."""
    candidates = concerned_by(connection, entity_id, str(event.type), after=after, limit=limit)
    arrival = arrival_of(event, position)
    evaluated = partial(was_evaluated, evaluated_to(connection))
    since_ms = complete_since(settings, now)
    organizations = organizations_of(connection)
    most = MAX_REPLAYED // max(1, len(candidates))
    samples = before.arrivals[-most:]
    cut = (f"windows begin {len(samples)} events before",) if len(samples) < len(before.arrivals) else ()
    begin_ms = min(samples[0].received_ms if samples else position.received_ms, position.received_ms)
    span = TimeRange(begin_ms, position.received_ms + 1)
    for begin in range(0, len(candidates), _LOOKED_UP):
        some = candidates[begin : begin + _LOOKED_UP]
        timelines = automation_timelines(connection, some, span, organizations)
        ids = [firing_id(stored.id, one.event) for stored, _ in some for one in (*samples, arrival)]
        witness = Witness(read_recorded(connection, ids), since_ms, evaluated)
        for (stored, deleted), timeline in zip(some, timelines, strict=True):
            simulator = PastSimulator(timeline)
            for earlier in samples:
                simulator.consider(earlier, witness)
            result = past_result_of(simulator.consider(arrival, witness), stored.name)
            yield AutomationOutcome(stored, deleted, replace(result, notes=(*result.notes, *cut)))
