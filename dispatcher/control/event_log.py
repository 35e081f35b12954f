"""The events that are kept: listed by what they are about, and one with what every automation made of it."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from redis import Redis
from sqlalchemy import Connection, Engine

from dispatcher.control.access import Action, require, require_instance_admin
from dispatcher.control.errors import NotFound
from dispatcher.control.event_views import (
    EntryPage,
    EventDetail,
    EventFactsView,
    EventPage,
    entry_view,
    facts_view,
    outcome_view,
)
from dispatcher.control.paging import MAX_LIMIT, PageRequest, cursor_after, decode_cursor, encode_cursor
from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.events.decoding import decode_event
from shared.domain.ids import MAX_ROW_NUMBER
from shared.domain.json_text import read_event_json
from shared.dry_runs.event_outcomes import outcomes_of, run_history
from shared.dry_runs.event_search import EntryKind, EventCriteria, EventFilter, EventSearch, FoundEntry, find_event
from shared.dry_runs.kept_entries import KeptEntries, KeptEntry, Position
from shared.dry_runs.service import evaluated_to, organizations_of
from shared.dry_runs.time_range import TimeRange, parse_moment, unix_ms
from shared.settings import Settings
from shared.storage.accounts.users import Principal
from shared.storage.database.transactions import read_transaction
from shared.storage.definitions.entities import StoredEntity, entity_names
from shared.storage.delivery.history import deliveries_made as count_made
from shared.storage.delivery.history import event_received_at
from shared.storage.evaluation.event_log import EventLog

_CURSOR = re.compile(r"(older|newer) (\d{1,19})-(\d{1,19})@(\d{1,4})", re.ASCII)
_ENTRY = re.compile(r"(\d{1,4}):(\d{1,19})-(\d{1,19})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery(EventCriteria):
    """What a client asks for: events about something, of a time, and a page of them."""

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
        wanted = EventFilter(criteria=query, entities=_inside(connection, entity))
        offsets = evaluated_to(connection)
    search = EventSearch(wanted)
    found, following, previous = _page(search, KeptEntries(redis, settings.partitions, EventLog(engine)), query, now)
    return EventPage(
        items=[facts_view(one, offsets) for one in found],
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
        wanted = EventFilter(criteria=query, kind=kind, known=entity_names(connection))
        offsets = evaluated_to(connection)
    search = EventSearch(wanted)
    found, following, previous = _page(search, KeptEntries(redis, settings.partitions, EventLog(engine)), query, now)
    return EntryPage(
        items=[entry_view(one, offsets) for one in found],
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
    wanted = EventFilter(criteria=EventCriteria(id=event_id, source=source), entities=inside)
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
        facts = facts_view(found, evaluated_to(connection))
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
        automations=[outcome_view(one.stored.id, one.stored.name, one.deleted, one.result) for one in shown],
        next=cursor_after(shown[-1].stored.id) if len(outcomes) > page.limit else None,
        notes=notes,
    )


def _inside(connection: Connection, entity: StoredEntity) -> frozenset[str]:
    above = organizations_of(connection)
    return frozenset({entity.name, *(name for name, organizations in above.items() if entity.name in organizations)})


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
