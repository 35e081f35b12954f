"""The history of deliveries and their attempts, for people to read.

While a delivery is pending, its count of attempts and the time of the next one are in `pending_deliveries`. Must not
write: claiming, recording and replaying have modules of their own.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Integer,
    Select,
    bindparam,
    case,
    func,
    null,
    select,
)
from sqlalchemy.sql.selectable import ScalarSelect

from shared.domain.delivery.exchange import StoredExchange, read_exchange
from shared.domain.delivery.waiting import Wait, wait_of
from shared.domain.ids import DELIVERY_ID_BYTES, delivery_id
from shared.storage.database.bulk import among
from shared.storage.delivery.delivery_filter import DeliveryFilter as DeliveryFilter
from shared.storage.delivery.delivery_filter import DeliveryStatus as DeliveryStatus
from shared.storage.delivery.delivery_filter import SeqRange, indexed, matching_deliveries, of_statuses, seq_range
from shared.storage.schema.tables import attempts, automations, deliveries, entities, pending_deliveries, webhooks

DELETED_REASON = "the webhook was deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDelivery:
    """One delivery without its payload, with the names of its automation and webhook, even if these were deleted."""

    seq: int
    id: str
    entity_id: int
    entity: str
    status: DeliveryStatus
    reason: str | None
    automation_id: int | None
    automation_name: str | None
    webhook_id: int | None
    webhook_name: str | None
    webhook_kind: str | None
    event_id: str
    event_source: str
    event_type: str
    event_project: str | None
    """Null as the other two for deliveries from before these were stored, and for notices."""
    event_run: str | None
    event_collection: str | None
    event_received_at: datetime
    attempts: int
    next_attempt_at: datetime | None
    created_at: datetime
    finished_at: datetime | None
    replay_of: str | None
    claimed: bool
    """Whether an attempt is underway, or its worker died and its lease runs out."""
    webhook_paused: bool | None
    circuit_opened_at: datetime | None
    circuit_probe_at: datetime | None
    next_slot_at: datetime | None
    """When the webhook's rate limit lets the next request out."""


@dataclass(frozen=True, slots=True)
class StoredAttempt:
    """One request of a delivery."""

    number: int
    started_at: datetime
    duration_ms: int
    outcome: str
    status_code: int | None
    error: str | None
    response_body: str | None
    response_truncated: bool
    request_url: str | None
    exchange: StoredExchange | None
    """Null as the URL where no request could be made, and for attempts from before it was kept."""


def wait_for(delivery: StoredDelivery, now: datetime) -> Wait | None:
    """What a pending delivery waits for; None for one that is finished."""
    if delivery.status != DeliveryStatus.PENDING:
        return None
    return wait_of(
        claimed=delivery.claimed,
        paused=bool(delivery.webhook_paused),
        circuit_opened_at=delivery.circuit_opened_at,
        circuit_probe_at=delivery.circuit_probe_at,
        next_attempt_at=delivery.next_attempt_at,
        next_slot_at=delivery.next_slot_at,
        now=now,
    )


def new_delivery_id() -> str:
    """A random id, for a delivery that a person asked for; evaluation derives ids from events (`firing_id`)."""
    return delivery_id(secrets.token_bytes(DELIVERY_ID_BYTES))


def list_deliveries(
    connection: Connection, entity_id: int | None, wanted: DeliveryFilter, *, before: int | None, limit: int
) -> list[StoredDelivery]:
    """The matching deliveries of an entity, or of all, newest first; `before` is the last `seq` of the page before."""
    rows: list[StoredDelivery] = []
    while True:
        found = search_deliveries(connection, entity_id, wanted, before=before, limit=limit - len(rows))
        rows += found.rows
        before = found.searched_to
        if before is None or len(rows) >= limit:
            return rows


@dataclass(frozen=True, slots=True)
class FoundDeliveries:
    """One page of a search, newest first."""

    rows: list[StoredDelivery]
    searched_to: int | None
    """The `seq` from which a page that has too few rows goes on; None if there is no more to find."""


def search_deliveries(
    connection: Connection,
    entity_id: int | None,
    wanted: DeliveryFilter,
    *,
    before: int | None = None,
    after: int | None = None,
    limit: int,
) -> FoundDeliveries:
    """The newest matching deliveries before a `seq`, or the oldest after one, as many as `limit` at most.

    Criteria that no index leads to are looked at in `SEARCHED` deliveries at most, so that a search takes the same time
    however long the history is.
    """
    within = seq_range(connection, wanted)
    if len(wanted.statuses) <= 1 and not wanted.has_unindexed:
        # The page is limited before anything is joined, so it costs the same however many deliveries match.
        seq = _seq(wanted.statuses)
        page = matching_deliveries(select(seq), entity_id, wanted, within)
        return FoundDeliveries(_read(connection, _page(page, seq, before, after, limit).scalar_subquery()), None)
    each: list[tuple[DeliveryStatus, ...]] = [(status,) for status in wanted.statuses] or [()]
    parts = [
        _search(
            connection,
            entity_id,
            replace(wanted, statuses=one),
            within,
            before=before,
            after=after,
            limit=limit,
            searched=max(SEARCHED // len(each), limit),
        )
        for one in each
    ]
    ends = [part.searched_to for part in parts if part.searched_to is not None]
    found = sorted((seq for part in parts for seq in part.seqs), reverse=after is None)
    if not ends:
        return FoundDeliveries(_read(connection, found[:limit]), None)
    # Beyond the nearest of the ends some matches may not have been seen.
    end = min(ends) if after is not None else max(ends)
    seen = [seq for seq in found if (seq <= end if after is not None else seq >= end)][:limit]
    return FoundDeliveries(_read(connection, seen), end if len(seen) < limit else None)


SEARCHED = 5_000
"""How many deliveries one page looks at where no index leads to what is meant, those of all statuses together. Twice as
many take longer than 50 ms on a busy machine."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Matches of one status, in the order of the search, and the last `seq` that was looked at if there are more."""

    seqs: list[int]
    searched_to: int | None


def _search(
    connection: Connection,
    entity_id: int | None,
    wanted: DeliveryFilter,
    within: SeqRange,
    *,
    before: int | None,
    after: int | None,
    limit: int,
    searched: int,
) -> _Part:
    """One page of the deliveries with one status, or with any."""
    seq, last = _seq(wanted.statuses), None
    query = _page(matching_deliveries(select(seq), entity_id, wanted, within), seq, before, after, limit)
    if wanted.has_unindexed:
        walked = within.limit(select(seq), seq)
        if seq.table is deliveries:
            undelivered = wanted.statuses not in ((), (DeliveryStatus.DELIVERED,))
            walked = walked.where(*indexed(entity_id, wanted), *(of_statuses(wanted.statuses) if undelivered else ()))
        last = connection.scalar(_page(walked, seq, before, after, 1).offset(searched - 1))
        if last is not None:
            query = query.where(seq <= last if after is not None else seq >= last)
    seqs = list(connection.scalars(query))
    return _Part(seqs, seqs[-1] if len(seqs) == limit else last)


def _seq(statuses: tuple[DeliveryStatus, ...]) -> Column[int]:
    return pending_deliveries.c.seq if statuses == (DeliveryStatus.PENDING,) else deliveries.c.seq


def _page(
    query: Select[Any], seq: ColumnElement[int], before: int | None, after: int | None, limit: int
) -> Select[Any]:
    # With the size in the text PostgreSQL can keep a plan; with a parameter it plans anew, for half a millisecond.
    size = bindparam("size", limit, Integer, literal_execute=True, unique=True)
    if after is not None:
        return query.where(seq > after).order_by(seq).limit(size)
    if before is not None:
        query = query.where(seq < before)
    return query.order_by(seq.desc()).limit(size)


def _read(connection: Connection, seqs: ScalarSelect[Any] | list[int]) -> list[StoredDelivery]:
    chosen = deliveries.c.seq.in_(seqs) if isinstance(seqs, ScalarSelect) else among(connection, deliveries.c.seq, seqs)
    query = _deliveries().where(chosen).order_by(deliveries.c.seq.desc())
    return [StoredDelivery(**row._mapping) for row in connection.execute(query)]


def find_delivery(connection: Connection, entity_id: int | None, id_: str) -> StoredDelivery | None:
    """The delivery of this id, of one entity or of any; None when there is none."""
    query = _deliveries().where(deliveries.c.id == id_)
    if entity_id is not None:
        query = query.where(deliveries.c.entity_id == entity_id)
    row = connection.execute(query).first()
    return None if row is None else StoredDelivery(**row._mapping)


def event_received_at(connection: Connection, entity_id: int, event_id: str) -> datetime | None:
    """When the newest event of this id came that made a delivery of the entity; None when none is kept."""
    query = select(deliveries.c.event_received_at).where(
        deliveries.c.event_id == event_id, deliveries.c.entity_id == entity_id
    )
    return connection.scalar(query.order_by(deliveries.c.seq.desc()).limit(1))


def deliveries_made(connection: Connection, entity_id: int, event_ids: Collection[str]) -> dict[tuple[str, str], int]:
    """How many deliveries of the entity each of these events made, replays included, by the event's source and id."""
    query = (
        select(deliveries.c.event_source, deliveries.c.event_id, func.count())
        .where(among(connection, deliveries.c.event_id, event_ids), deliveries.c.entity_id == entity_id)
        .group_by(deliveries.c.event_source, deliveries.c.event_id)
    )
    return {(source, event_id): made for source, event_id, made in connection.execute(query)}


def newest_seq(connection: Connection, entity_id: int) -> int:
    """The number of the entity's newest delivery; 0 where there is none."""
    query = select(deliveries.c.seq).where(deliveries.c.entity_id == entity_id).order_by(deliveries.c.seq.desc())
    return connection.execute(query.limit(1)).scalar() or 0


def creation_times(connection: Connection, seqs: Collection[int]) -> tuple[datetime, datetime]:
    """The earliest and the latest time at which these deliveries were created."""
    query = select(deliveries.c.created_at).where(among(connection, deliveries.c.seq, seqs))
    times = list(connection.scalars(query))
    return min(times), max(times)


def sealed_payload(connection: Connection, seq: int) -> str | None:
    """The sealed payload of a delivery, in which secrets are placeholders; None when it has none."""
    payload: str | None = connection.execute(select(deliveries.c.payload).where(deliveries.c.seq == seq)).scalar_one()
    return payload


def list_attempts(connection: Connection, seq: int) -> list[StoredAttempt]:
    """Every request that was made for a delivery, in order."""
    query = (
        select(
            attempts.c.number,
            attempts.c.started_at,
            attempts.c.duration_ms,
            attempts.c.outcome,
            attempts.c.status_code,
            attempts.c.error,
            attempts.c.response_body,
            attempts.c.response_truncated,
            attempts.c.request_url,
            attempts.c.exchange,
        )
        .where(attempts.c.delivery_seq == seq)
        .order_by(attempts.c.number, attempts.c.started_at)
    )
    return [
        StoredAttempt(**{**row._mapping, "exchange": row.exchange and read_exchange(row.exchange)})
        for row in connection.execute(query)
    ]


def _deliveries() -> Select[Any]:
    claimed = pending_deliveries.c.claim.is_not(None)
    return (
        select(
            deliveries.c.seq,
            deliveries.c.id,
            deliveries.c.entity_id,
            entities.c.name.label("entity"),
            deliveries.c.status,
            deliveries.c.reason,
            deliveries.c.automation_id,
            automations.c.name.label("automation_name"),
            deliveries.c.webhook_id,
            webhooks.c.name.label("webhook_name"),
            webhooks.c.kind.label("webhook_kind"),
            deliveries.c.event_id,
            deliveries.c.event_source,
            deliveries.c.event_type,
            deliveries.c.event_project,
            deliveries.c.event_run,
            deliveries.c.event_collection,
            deliveries.c.event_received_at,
            func.coalesce(pending_deliveries.c.attempts, deliveries.c.attempts).label("attempts"),
            # Of a claimed delivery the column holds the end of its lease, while an attempt is underway.
            case((claimed, null()), else_=pending_deliveries.c.next_attempt_at).label("next_attempt_at"),
            deliveries.c.created_at,
            deliveries.c.finished_at,
            deliveries.c.replay_of,
            claimed.label("claimed"),
            webhooks.c.paused.label("webhook_paused"),
            webhooks.c.circuit_opened_at,
            webhooks.c.circuit_probe_at,
            webhooks.c.next_slot_at,
        )
        .outerjoin(entities, entities.c.id == deliveries.c.entity_id)
        .outerjoin(automations, automations.c.id == deliveries.c.automation_id)
        .outerjoin(webhooks, webhooks.c.id == deliveries.c.webhook_id)
        .outerjoin(pending_deliveries, pending_deliveries.c.seq == deliveries.c.seq)
    )
