"""The history of deliveries: listing, one with its attempts, and replaying. Payloads are shown with secrets masked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, TypeVar

from pydantic import Field
from sqlalchemy import Connection

from dispatcher.control.access import Action, may, require
from dispatcher.control.audit import record_change
from dispatcher.control.bodies import Body, Text, View, one_or_many, one_or_many_of, parse_body
from dispatcher.control.delivery_views import DeliveryDetail, DeliveryView, attempt_view, delivery_view, members
from dispatcher.control.errors import Conflict, NotFound
from dispatcher.control.moments import Moment, time_of
from dispatcher.control.paging import PageRequest, TwoWayPage, cursor_after, cursor_before
from shared.domain.delivery.retries import RequestRate
from shared.domain.durations import Rate
from shared.domain.errors import InvalidDefinition
from shared.domain.events.types import EventType
from shared.domain.ids import IdKind, decode_id
from shared.domain.payloads.sealed import content_type_of, shown_payload
from shared.storage.accounts.users import Principal
from shared.storage.database.clock import database_time
from shared.storage.definitions.automations import find_by_name_or_id
from shared.storage.definitions.entities import StoredEntity
from shared.storage.definitions.webhook_fields import ID_KINDS
from shared.storage.definitions.webhooks import find_webhook
from shared.storage.delivery import history as store
from shared.storage.delivery import replay
from shared.storage.delivery.history import (
    DeliveryFilter,
    DeliveryStatus,
    FoundDeliveries,
    StoredDelivery,
)

_T = TypeVar("_T")

MAX_COUNT = 1_000_000
MAX_REPLAYED = 10_000
"""All are replayed in one transaction, which holds up whoever writes in the meantime on SQLite."""


Code = Annotated[int, Field(ge=100, le=599)]


class DeliveryQuery(Body):
    """Which deliveries are meant; what is left out stands for any. Of several values in one member any will do."""

    status: Annotated[tuple[DeliveryStatus, ...], one_or_many_of(DeliveryStatus)] = ()
    automation: Annotated[str | None, Field(description="An automation's id or name.")] = None
    webhook: Annotated[str | None, Field(description="A webhook's or Slack integration's id or name.")] = None
    event: Annotated[str | None, Field(description="An event's id.")] = None
    event_type: Annotated[tuple[EventType, ...], one_or_many_of(EventType)] = ()
    project: Annotated[Text | None, Field(description="The project or registry of the event.")] = None
    run: Annotated[Text | None, Field(description="The id of the event's run.")] = None
    collection: Annotated[Text | None, Field(description="The collection of the event, such as a model's name.")] = None
    response_code: Annotated[
        tuple[Code, ...], one_or_many(Code), Field(description="An attempt was answered with it.")
    ] = ()
    min_attempts: Annotated[int | None, Field(ge=0, le=MAX_COUNT, description="At least so many attempts.")] = None
    max_attempts: Annotated[int | None, Field(ge=0, le=MAX_COUNT, description="At most so many attempts.")] = None
    reason: Annotated[Text | None, Field(description="A part of the reason, in any case.")] = None
    since: Annotated[Moment | None, Field(description="Created at this time or later, or so long ago: `1h`.")] = None
    until: Annotated[Moment | None, Field(description="Created before this time, or longer ago.")] = None


class ReplayQuery(DeliveryQuery):
    """Which deliveries to replay, and how fast."""

    unreplayed: Annotated[bool, Field(description="Leave out deliveries that were replayed before.")] = False
    rate: Annotated[
        RequestRate | None,
        Field(description="How fast at most, such as `10/s`: evenly spaced, in the order of the old deliveries."),
    ] = None


@dataclass(frozen=True, slots=True)
class ReplayedDeliveries:
    """New deliveries, by their ids, and the webhooks that have work now."""

    ids: tuple[str, ...]
    webhook_ids: frozenset[int]
    last_due_at: datetime | None
    """When the last of them is due."""


def list_deliveries(
    connection: Connection, principal: Principal, entity_name: str, raw: object, page: PageRequest
) -> TwoWayPage[DeliveryView]:
    """List the deliveries that match, newest first.

    Raises:
        InvalidDefinition: for a query that can't be understood.
    """
    entity = require(connection, principal, entity_name, Action.READ)
    wanted = _filter(connection, entity, parse_body(DeliveryQuery, raw))
    before, after = (None, page.position) if page.newer else (page.position, None)
    found = store.search_deliveries(connection, entity.id, wanted, before=before, after=after, limit=page.with_one_more)
    return _two_way(page, found)


def _two_way(page: PageRequest, found: FoundDeliveries) -> TwoWayPage[DeliveryView]:
    """The page from up to one row more than it shows; where it has none, its cursors lead back the way it was found."""
    more = len(found.rows) > page.limit
    next_: str | None
    shown = found.rows[-page.limit :] if page.newer else found.rows[: page.limit]
    newest, oldest = (shown[0].seq, shown[-1].seq) if shown else (None, None)
    if page.newer:
        beyond = newest if more else found.searched_to
        previous = None if beyond is None else cursor_before(beyond)
        next_ = cursor_after(oldest if oldest is not None else (page.position or 0) + 1)
    else:
        beyond = oldest if more else found.searched_to
        next_ = None if beyond is None else cursor_after(beyond)
        first = newest if newest is not None else max((page.position or 0) - 1, 0)
        previous = None if page.position is None else cursor_before(first)
    return TwoWayPage(items=[delivery_view(row) for row in shown], next=next_, previous=previous)


def newest_number(connection: Connection, principal: Principal, entity_name: str) -> int:
    """The number of the entity's newest delivery, which grows with each; 0 where there is none."""
    entity = require(connection, principal, entity_name, Action.READ)
    return store.newest_seq(connection, entity.id)


def count_newer(
    connection: Connection, principal: Principal, entity_name: str, raw: object, *, after: int, limit: int
) -> int:
    """How many deliveries match whose numbers are greater, `limit` at most.

    Raises:
        InvalidDefinition: for a query that can't be understood.
    """
    entity = require(connection, principal, entity_name, Action.READ)
    wanted = _filter(connection, entity, parse_body(DeliveryQuery, raw))
    return len(store.search_deliveries(connection, entity.id, wanted, after=after, limit=limit).rows)


@dataclass(frozen=True, slots=True)
class Selection:
    """Criteria for deliveries of an entity that the principal may read, to be read page by page."""

    entity_id: int
    wanted: DeliveryFilter


def select_deliveries(connection: Connection, principal: Principal, entity_name: str, raw: object) -> Selection:
    """The deliveries that match. Raises as `list_deliveries`."""
    entity = require(connection, principal, entity_name, Action.READ)
    return Selection(entity.id, _filter(connection, entity, parse_body(DeliveryQuery, raw)))


def read_next(
    connection: Connection, selection: Selection, *, before: int | None, limit: int
) -> tuple[list[DeliveryView], int | None]:
    """The next deliveries of a selection, newest first, and the position to go on from; None after the last."""
    found = store.search_deliveries(connection, selection.entity_id, selection.wanted, before=before, limit=limit)
    end = found.rows[-1].seq if len(found.rows) == limit else found.searched_to
    return [delivery_view(row) for row in found.rows], end


def get(connection: Connection, principal: Principal, entity_name: str, delivery_id: str) -> DeliveryDetail:
    """One delivery with its payload and attempts. Raises NotFound."""
    entity = require(connection, principal, entity_name, Action.READ)
    stored = _load_delivery(connection, entity, delivery_id)
    sealed = store.sealed_payload(connection, stored.seq)
    hidden = entity.answers_hidden and not may(principal, entity, Action.ADMINISTER)
    return DeliveryDetail(
        **members(stored),
        replays=replay.list_replays(connection, entity.id, stored.id),
        payload=None if sealed is None else shown_payload(sealed),
        content_type=None if sealed is None else content_type_of(sealed),
        attempt_log=[attempt_view(attempt, hidden=hidden) for attempt in store.list_attempts(connection, stored.seq)],
    )


def replay_one(connection: Connection, principal: Principal, entity_name: str, delivery_id: str) -> ReplayedDeliveries:
    """Deliver one again, as a new delivery with the same payload.

    Raises:
        Conflict: when it is pending still, or there is nothing to send or nowhere to send it.
    """
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    stored = _load_delivery(connection, entity, delivery_id)
    if stored.status == DeliveryStatus.PENDING:
        raise Conflict(f"delivery {delivery_id} is pending: it can be replayed once it is finished")
    if not replay.is_replayable(connection, stored.seq):
        raise Conflict(f"delivery {delivery_id} can't be replayed: it has no payload, or its webhook was deleted")
    record_change(connection, principal, "delivery.replay", entity=entity, target_id=stored.id, name="")
    return _replay(connection, [stored.seq])


def replay_matching(connection: Connection, principal: Principal, entity_name: str, raw: object) -> ReplayedDeliveries:
    """Replay all deliveries that match, except those that are pending, have no payload, or whose webhook was deleted.

    Raises:
        InvalidDefinition: for a query without any criterion, or one that more than `MAX_REPLAYED` deliveries match.
    """
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    query = parse_body(ReplayQuery, raw)
    if query.model_copy(update={"rate": None, "unreplayed": False}) == ReplayQuery():
        members = ", ".join(DeliveryQuery.model_fields)
        raise InvalidDefinition.at((), f"must have at least one filter: {members}")
    wanted = _filter(connection, entity, query)
    seqs = replay.list_replayable(connection, entity.id, wanted, limit=MAX_REPLAYED + 1, unreplayed=query.unreplayed)
    if len(seqs) > MAX_REPLAYED:
        raise InvalidDefinition.at((), f"matches more than {MAX_REPLAYED} deliveries: narrow it with since and until")
    given = query.model_dump(mode="json", exclude_unset=True) | _times(wanted)
    # One value of a member that may have several is written as it was sent.
    criteria = {
        member: value[0] if isinstance(value, list) and len(value) == 1 else value for member, value in given.items()
    }
    record_change(
        connection,
        principal,
        "delivery.replay_matching",
        entity=entity,
        target_id=entity.name,
        name="",
        count=len(seqs),
        criteria=criteria,
    )
    return _replay(connection, seqs, query.rate)


class ReplayPreview(View):
    """What a replay of the deliveries that match would send."""

    count: int
    """At most 10001, which stands for that many or more: so many are not replayed at once."""
    oldest_created_at: datetime | None
    newest_created_at: datetime | None
    """Null as `oldest_created_at` if there is none."""


def preview_replay(
    connection: Connection, principal: Principal, entity_name: str, raw: object, *, unreplayed: bool
) -> ReplayPreview:
    """How many deliveries `replay_matching` would replay, and of what time. Raises as it does for a bad query."""
    entity = require(connection, principal, entity_name, Action.READ)
    wanted = _filter(connection, entity, parse_body(DeliveryQuery, raw))
    seqs = replay.list_replayable(connection, entity.id, wanted, limit=MAX_REPLAYED + 1, unreplayed=unreplayed)
    oldest, newest = store.creation_times(connection, seqs[:1] + seqs[-1:]) if seqs else (None, None)
    return ReplayPreview(count=len(seqs), oldest_created_at=oldest, newest_created_at=newest)


def _replay(connection: Connection, seqs: list[int], rate: Rate | None = None) -> ReplayedDeliveries:
    now = database_time(connection)  # that they are due by
    interval = timedelta() if rate is None else rate.period / rate.count
    made = replay.replay(connection, seqs, now, interval=interval)
    return ReplayedDeliveries(tuple(made), frozenset(made.values()), now + interval * (len(seqs) - 1) if seqs else None)


def _filter(connection: Connection, entity: StoredEntity, query: DeliveryQuery) -> DeliveryFilter:
    return DeliveryFilter(
        statuses=_distinct(query.status),
        automation_id=_automation_id(connection, entity, query.automation),
        webhook_id=webhook_number(connection, entity, query.webhook),
        event_id=query.event,
        since=time_of(connection, query.since),
        until=time_of(connection, query.until),
        event_types=_distinct(str(one) for one in query.event_type),
        project=query.project,
        run=query.run,
        collection=query.collection,
        response_codes=_distinct(query.response_code),
        min_attempts=query.min_attempts,
        max_attempts=query.max_attempts,
        reason=query.reason,
    )


def _distinct(values: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(values))


def _times(wanted: DeliveryFilter) -> dict[str, str]:
    """The times meant, for the audit log: how long ago something was is no lasting answer."""
    times = {"since": wanted.since, "until": wanted.until}
    return {name: time.isoformat().replace("+00:00", "Z") for name, time in times.items() if time is not None}


def _automation_id(connection: Connection, entity: StoredEntity, text: str | None) -> int | None:
    """The automation meant; an id may be that of a deleted one, unless an automation has it as its name."""
    if text is None:
        return None
    stored, number = find_by_name_or_id(connection, entity.id, text), decode_id(IdKind.AUTOMATION, text)
    if stored is None and number is None:
        raise InvalidDefinition.at(("automation",), "must be the id or name of an automation of this entity")
    return number if stored is None else stored.id


def webhook_number(connection: Connection, entity: StoredEntity, text: str | None) -> int | None:
    """The webhook or Slack integration meant; an id may be that of a deleted one, or another entity's."""
    if text is None:
        return None
    for kind in ID_KINDS.values():
        if (number := decode_id(kind, text)) is not None:
            return number
    stored = find_webhook(connection, entity.id, name=text, kind=None)
    if stored is None:
        raise InvalidDefinition.at(
            ("webhook",), "must be the id or name of a webhook or Slack integration of this entity"
        )
    return stored.id


def _load_delivery(connection: Connection, entity: StoredEntity, delivery_id: str) -> StoredDelivery:
    stored = store.find_delivery(connection, entity.id, delivery_id)
    if stored is None:
        raise NotFound(f"{entity.name!r} has no delivery {delivery_id!r}")
    return stored
