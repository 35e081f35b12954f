"""The events that are kept: listed by what they are about, and one with what every automation made of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redis import Redis
from sqlalchemy import Connection, Engine

from dispatcher.control.access import Action, require, require_instance_admin
from dispatcher.control.bodies import View
from dispatcher.control.errors import NotFound
from dispatcher.control.paging import MAX_LIMIT, PageRequest, cursor_after, decode_cursor, encode_cursor
from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.events.decoding import decode_event
from shared.domain.events.fast_decoding import AnyEvent
from shared.domain.events.types import EventType
from shared.domain.explain.dry_run import DryRunResult
from shared.domain.explain.past import InForce
from shared.domain.explain.simulator import DryRunOutcome, Reason
from shared.domain.explain.text import Explanation
from shared.domain.ids import MAX_ROW_NUMBER, IdKind, encode_id
from shared.domain.json_text import read_event_json
from shared.dry_runs.event_history import entry_order
from shared.dry_runs.event_outcomes import outcomes_of, run_history
from shared.dry_runs.event_search import EntryKind, EventFilter, EventSearch, FoundEntry, find_event
from shared.dry_runs.kept_entries import KeptEntries, KeptEntry, Position
from shared.dry_runs.service import evaluated_to, organizations_of
from shared.dry_runs.time_range import TimeRange, moment, parse_moment, unix_ms
from shared.settings import Settings
from shared.storage.accounts.users import Principal
from shared.storage.database.transactions import read_transaction
from shared.storage.definitions.entities import StoredEntity, entity_names
from shared.storage.delivery.history import deliveries_made as count_made
from shared.storage.delivery.history import event_received_at
from shared.storage.evaluation.event_log import EventLog

_CURSOR = re.compile(r"(older|newer) (\d{1,19})-(\d{1,19})@(\d{1,4})", re.ASCII)
_ENTRY = re.compile(r"(\d{1,4}):(\d{1,19})-(\d{1,19})", re.ASCII)
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


@dataclass(frozen=True, slots=True)
class EventQuery:
    """What a client asks for."""

    type: EventType | None = None
    project: str | None = None
    run: str | None = None
    collection: str | None = None
    author: str | None = None
    source: str | None = None
    id: str | None = None
    since: str | None = None
    until: str | None = None
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class _Turn:
    """Where a page begins, and which way it goes."""

    newer: bool
    position: Position | None


def list_events(
    engine: Engine,
    principal: Principal,
    entity_name: str,
    query: EventQuery,
    redis: Redis,
    settings: Settings,
    now: datetime,
) -> EventPage:
    """The kept events of an entity, and of the teams in it, newest first.

    One page looks at `MAX_SCANNED` entries at most. Raises `redis.exceptions.RedisError`.
    """
    with read_transaction(engine) as connection:
        entity = require(connection, principal, entity_name, Action.READ)
        wanted = _filter(query, entities=_inside(connection, entity))
        offsets = evaluated_to(connection)
    search = EventSearch(wanted)
    found, following, previous = _page(search, KeptEntries(redis, settings.partitions, EventLog(engine)), query, now)
    return EventPage(
        items=[_facts(one, offsets) for one in found],
        next=following,
        previous=previous,
        scanned=search.scanned,
        complete=not search.bounded,
    )


def deliveries_made(
    engine: Engine, principal: Principal, entity_name: str, events: Collection[EventFactsView]
) -> dict[str, int]:
    """How many deliveries of the entity each event made, replays included, by the events' entries."""
    with read_transaction(engine) as connection:
        entity = require(connection, principal, entity_name, Action.READ)
        made = count_made(connection, entity.id, {event.id for event in events})
    return {event.entry: made.get((event.source, event.id), 0) for event in events}


def list_entries(
    engine: Engine,
    principal: Principal,
    query: EventQuery,
    kind: EntryKind | None,
    redis: Redis,
    settings: Settings,
    now: datetime,
) -> EntryPage:
    """The kept entries of all entities, poison and events of unknown entities too. For instance administrators."""
    require_instance_admin(principal)
    with read_transaction(engine) as connection:
        wanted = _filter(query, kind=kind, known=entity_names(connection))
        offsets = evaluated_to(connection)
    search = EventSearch(wanted)
    found, following, previous = _page(search, KeptEntries(redis, settings.partitions, EventLog(engine)), query, now)
    return EntryPage(
        items=[_entry_view(one, offsets) for one in found],
        next=following,
        previous=previous,
        scanned=search.scanned,
        complete=not search.bounded,
    )


def get_event(
    engine: Engine,
    principal: Principal,
    entity_name: str,
    *,
    entry: str | None,
    event_id: str | None,
    source: str | None,
    page: PageRequest,
    redis: Redis,
    settings: Settings,
    now: datetime,
) -> EventDetail:
    """One kept event, and what every automation of the entity made of it.

    Raises:
        NotFound: when it is not kept, or is of another entity.
        redis.exceptions.RedisError: when the streams can't be read.
    """
    with read_transaction(engine) as connection:
        entity = require(connection, principal, entity_name, Action.READ)
        inside = _inside(connection, entity)
        came_at = None if event_id is None else event_received_at(connection, entity.id, event_id)
    entries = KeptEntries(redis, settings.partitions, EventLog(engine))
    wanted = EventFilter(entities=inside, id=event_id, source=source)
    if entry is not None:
        found = _at(entries, _parse_entry(entry), wanted)
    elif event_id is not None:
        found = find_event(entries, wanted, received_ms=None if came_at is None else unix_ms(came_at))
    else:
        raise InvalidDefinition.at(("id",), "either entry is required, or the event's id and perhaps its source")
    if found is None or found.event is None:
        raise NotFound("no such event of this entity is kept")
    event = decode_event(found.body)
    before = run_history(entries, event, found.position)
    with read_transaction(engine) as connection:
        facts = _facts(found, evaluated_to(connection))
        outcomes = list(
            outcomes_of(
                connection,
                entity.id,
                event,
                found.position,
                before,
                settings,
                now,
                after=page.after,
                limit=page.with_one_more,
            )
        )
    shown = outcomes[: page.limit]
    notes = [] if before.is_whole else ["the run has more events than were read: windows begin later than it does"]
    return EventDetail(
        **facts.model_dump(),
        event=read_event_json(found.body),
        automations=[_outcome(one.stored.id, one.stored.name, one.deleted, one.result) for one in shown],
        next=cursor_after(shown[-1].stored.id) if len(outcomes) > page.limit else None,
        notes=notes,
    )


def _outcome(number: int, name: str, deleted: bool, result: DryRunResult) -> AutomationOutcomeView:
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


def _inside(connection: Connection, entity: StoredEntity) -> frozenset[str]:
    above = organizations_of(connection)
    return frozenset({entity.name, *(name for name, organizations in above.items() if entity.name in organizations)})


def _filter(query: EventQuery, **more: Any) -> EventFilter:
    return EventFilter(
        type=None if query.type is None else str(query.type),
        project=query.project,
        run=query.run,
        collection=query.collection,
        author=query.author,
        source=query.source,
        id=query.id,
        **more,
    )


def _page(
    search: EventSearch, entries: KeptEntries, query: EventQuery, now: datetime
) -> tuple[list[FoundEntry], str | None, str | None]:
    """The entries of a page, newest first, and the cursors of the pages beside it."""
    span = _span(query, now)
    turn = _Turn(False, None) if query.cursor is None else _parse_cursor(query.cursor)
    if turn.newer:
        return _newer_page(search, entries, query, span, turn)
    before = turn.position
    end = Position(span.until_ms, -1, -1)
    if query.until is not None and (before is None or before > end):
        before = end
    found: list[FoundEntry] = []
    more = False
    for one in search.among(entries.backwards(before, span.since_ms)):
        if len(found) == query.limit:
            more = True
            break
        found.append(one)
    following = None
    if more:
        following = _cursor("older", found[-1].position)
    elif search.bounded and search.last is not None:
        following = _cursor("older", search.last)
    newest = found[0].position if found else turn.position
    return found, following, None if newest is None else _cursor("newer", newest)


def _newer_page(
    search: EventSearch, entries: KeptEntries, query: EventQuery, span: TimeRange, turn: _Turn
) -> tuple[list[FoundEntry], str | None, str | None]:
    until_ms = None if query.until is None else span.until_ms
    found: list[FoundEntry] = []
    for one in search.among(entries.forwards(turn.position, until_ms)):
        found.append(one)
        if len(found) == query.limit:
            break
    found.reverse()
    newest = found[0].position if len(found) == query.limit else search.last or turn.position
    oldest = found[-1].position if found else newest
    following = None if oldest is None else _cursor("older", oldest)
    return found, following, None if newest is None else _cursor("newer", newest)


def _span(query: EventQuery, now: datetime) -> TimeRange:
    faults: list[FieldError] = []
    times: dict[str, datetime] = {}
    for member, text in (("since", query.since), ("until", query.until)):
        try:
            if text is not None:
                times[member] = parse_moment(member, text, now)
        except InvalidDefinition as exc:
            faults.extend(exc.errors)
    if not 1 <= query.limit <= MAX_LIMIT:
        faults.append(FieldError(("limit",), f"must be between 1 and {MAX_LIMIT}"))
    if faults:
        raise InvalidDefinition(*faults)
    since_ms = unix_ms(times["since"]) if "since" in times else 0
    return TimeRange(since_ms, unix_ms(times.get("until", now)))


def _cursor(way: str, position: Position) -> str:
    return encode_cursor(f"{way} {position.entry_id}@{position.partition}")


def _parse_cursor(cursor: str) -> _Turn:
    match = _CURSOR.fullmatch(decode_cursor(cursor))
    if match is None or int(match[2]) > MAX_ROW_NUMBER or int(match[3]) > MAX_ROW_NUMBER:
        raise InvalidDefinition.at(("cursor",), "must be the `next` or `previous` of an earlier answer")
    return _Turn(match[1] == "newer", Position(int(match[2]), int(match[3]), int(match[4])))


def _parse_entry(entry: str) -> Position:
    match = _ENTRY.fullmatch(entry)
    if match is None or int(match[2]) > MAX_ROW_NUMBER or int(match[3]) > MAX_ROW_NUMBER:
        raise InvalidDefinition.at(("entry",), "must be the `entry` of an event in a list")
    return Position(int(match[2]), int(match[3]), int(match[1]))


def _at(entries: KeptEntries, position: Position, wanted: EventFilter) -> FoundEntry | None:
    found = entries.find(position)
    kept: list[KeptEntry] = [] if found is None else [found]
    return next(EventSearch(wanted).among(iter(kept)), None)


def _facts(found: FoundEntry, offsets: Mapping[int, tuple[int, int]]) -> EventFactsView:
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


def _entry_view(found: FoundEntry, offsets: Mapping[int, tuple[int, int]]) -> EntryView:
    event, position = found.event, found.position
    return EntryView(
        kind=found.kind,
        entry=f"{position.partition}:{position.entry_id}",
        received_at=moment(position.received_ms),
        event=None if event is None else _event_view(event, position, offsets),
        reason=found.reason,
        body=found.body[:_SHOWN_POISON].decode(errors="replace") if event is None else None,
    )
