"""Kept events and entries of the streams, as clients see them, and what automations made of an event."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dispatcher.control.bodies import View
from shared.domain.events.fast_decoding import AnyEvent
from shared.domain.explain.dry_run import DryRunResult
from shared.domain.explain.past import InForce
from shared.domain.explain.simulator import DryRunOutcome, Reason
from shared.domain.explain.text import Explanation
from shared.domain.ids import IdKind, encode_id
from shared.dry_runs.event_search import EntryKind, FoundEntry
from shared.dry_runs.kept_entries import Position
from shared.dry_runs.time_range import moment
from shared.messaging.streams import entry_order

_SHOWN_POISON = 64 << 10


class EventFactsView(View):
    """A kept event."""

    entry: str
    """Where it is kept: its partition and its id in the stream."""
    id: str
    source: str
    type: str
    time: datetime | None
    received_at: datetime
    """When the stream received it."""
    entity: str
    project: str | None
    run: str | None
    """The id of the run, of events about runs."""
    collection: str | None
    author: str
    evaluated: bool
    """Whether evaluation has passed it."""


class EventPage(View):
    """One page of events, newest first."""

    items: list[EventFactsView]
    next: str | None
    """The cursor of the page with older events; null when no older ones are kept."""
    previous: str | None
    """The cursor of the page with newer events, also of those that are still to come; null when there was none."""
    scanned: int
    """How many entries were looked at."""
    complete: bool
    """Whether the page ended at its limit or where nothing more is kept. If false, it ended after so many entries:
    it may have fewer items than there are, or none, and `next` goes on."""


class EntryView(View):
    """An entry of a stream, for instance administrators."""

    kind: EntryKind
    entry: str
    received_at: datetime
    event: EventFactsView | None
    """Null for poison."""
    reason: str | None
    """Why it is no event."""
    body: str | None
    """Of poison: its first 64 KiB."""


class EntryPage(View):
    """One page of entries, newest first."""

    items: list[EntryView]
    next: str | None
    previous: str | None
    scanned: int
    complete: bool


class NamedAutomation(View):
    """An automation, also a deleted one."""

    id: str
    name: str
    deleted: bool


class AutomationOutcomeView(View):
    """What an automation made of the event."""

    automation: NamedAutomation
    outcome: DryRunOutcome
    reason: Reason | None
    delivery: str | None
    """The id of the delivery that was stored, also of a skipped one."""
    delivery_status: str | None
    decisive: list[Explanation]
    """The terms that made the outcome."""
    explanation: Explanation
    in_force: InForce | None
    notes: list[str]


class EventDetail(EventFactsView):
    """A kept event, and what the automations made of it."""

    event: dict[str, Any]
    """As it was published."""
    automations: list[AutomationOutcomeView]
    """Those that are, or were, about events of its type, in the order of their ids."""
    next: str | None
    """The cursor of the page with the next automations; null on the last."""
    notes: list[str]


def outcome_view(number: int, name: str, deleted: bool, result: DryRunResult) -> AutomationOutcomeView:
    """What the automation with this number and name made of an event."""
    recorded = result.recorded
    return AutomationOutcomeView(
        automation=NamedAutomation(id=encode_id(IdKind.AUTOMATION, number), name=name, deleted=deleted),
        outcome=result.outcome,
        reason=result.reason,
        delivery=None if recorded is None else recorded.delivery,
        delivery_status=None if recorded is None else recorded.status,
        decisive=list(result.decisive),
        explanation=result.explanation,
        in_force=result.in_force,
        notes=list(result.notes),
    )


def facts_view(found: FoundEntry, offsets: Mapping[int, tuple[int, int]]) -> EventFactsView:
    """An entry that is an event. `offsets` says by partition how far evaluation has come."""
    event, position = found.event, found.position
    assert event is not None  # noqa: S101 - poison is never asked for here
    return _event_view(event, position, offsets)


def _event_view(event: AnyEvent, position: Position, offsets: Mapping[int, tuple[int, int]]) -> EventFactsView:
    data = event.data
    reached = offsets.get(position.partition)
    return EventFactsView(
        entry=f"{position.partition}:{position.entry_id}",
        id=event.id,
        source=event.source,
        type=str(event.type),
        time=_time(event.time),
        received_at=moment(position.received_ms),
        entity=data.entity,
        project=getattr(data, "project", None),
        run=getattr(getattr(data, "run", None), "id", None),
        collection=getattr(getattr(data, "collection", None), "name", None),
        author=data.author,
        evaluated=reached is not None and entry_order(position.entry_id) <= reached,
    )


def _time(value: datetime | str | None) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def entry_view(found: FoundEntry, offsets: Mapping[int, tuple[int, int]]) -> EntryView:
    """An entry, poison too."""
    event, position = found.event, found.position
    return EntryView(
        kind=found.kind,
        entry=f"{position.partition}:{position.entry_id}",
        received_at=moment(position.received_ms),
        event=None if event is None else _event_view(event, position, offsets),
        reason=found.reason,
        body=found.body[:_SHOWN_POISON].decode(errors="replace") if event is None else None,
    )
