"""The history of deliveries and their attempts, for people to read.

While a delivery is pending, its count of attempts and the time of the next one are in `pending_deliveries`. Must not
write: claiming, recording and replaying have modules of their own.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
    Select,
    bindparam,
    case,
    func,
    null,
    select,
)

from shared.domain.ids import DELIVERY_ID_BYTES, delivery_id
from shared.storage.schema.tables import attempts, automations, deliveries, entities, pending_deliveries, webhooks

DELETED_REASON = "the webhook was deleted"


class DeliveryStatus(StrEnum):
    """The status of a delivery."""

    #: Waits for an attempt, the first or a retry.
    PENDING = "pending"
    #: The endpoint took it.
    DELIVERED = "delivered"
    #: Out of retries: a dead letter.
    DEAD = "dead"
    #: Refused for good by the endpoint or by the guard: a dead letter at once.
    REFUSED = "refused"
    #: Held back by a cooldown, a rate limit or a disabled webhook.
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Criteria for deliveries; None stands for any. They were made at `since` or later, and before `until`."""

    status: DeliveryStatus | None = None
    automation_id: int | None = None
    webhook_id: int | None = None
    event_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


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
    event_received_at: datetime
    attempts: int
    next_attempt_at: datetime | None
    created_at: datetime
    finished_at: datetime | None
    replay_of: str | None


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


def new_delivery_id() -> str:
    """A random id, for a delivery that a person asked for; evaluation derives ids from events (`firing_id`)."""
    return delivery_id(secrets.token_bytes(DELIVERY_ID_BYTES))


def list_deliveries(
    connection: Connection, entity_id: int | None, wanted: DeliveryFilter, *, before: int | None, limit: int
) -> list[StoredDelivery]:
    """The matching deliveries of an entity, or of all, newest first; `before` is the last `seq` of the page before."""
    # The page is limited before anything is joined, so it costs the same however many deliveries match.
    seq = pending_deliveries.c.seq if wanted.status is DeliveryStatus.PENDING else deliveries.c.seq
    # With the size in the text PostgreSQL can keep a plan; with a parameter it plans anew, for half a millisecond.
    size = bindparam("size", limit, Integer, literal_execute=True)
    page = matching_deliveries(select(seq), entity_id, wanted).order_by(seq.desc()).limit(size)
    if before is not None:
        page = page.where(seq < before)
    query = _deliveries().where(deliveries.c.seq.in_(page.scalar_subquery())).order_by(deliveries.c.seq.desc())
    return [StoredDelivery(**row._mapping) for row in connection.execute(query)]


def find_delivery(connection: Connection, entity_id: int | None, id_: str) -> StoredDelivery | None:
    """The delivery of this id, of one entity or of any; None when there is none."""
    query = _deliveries().where(deliveries.c.id == id_)
    if entity_id is not None:
        query = query.where(deliveries.c.entity_id == entity_id)
    row = connection.execute(query).first()
    return None if row is None else StoredDelivery(**row._mapping)


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
        )
        .where(attempts.c.delivery_seq == seq)
        .order_by(attempts.c.number, attempts.c.started_at)
    )
    return [StoredAttempt(*row) for row in connection.execute(query)]


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
            deliveries.c.event_received_at,
            func.coalesce(pending_deliveries.c.attempts, deliveries.c.attempts).label("attempts"),
            # Of a claimed delivery the column holds the end of its lease, while an attempt is underway.
            case((claimed, null()), else_=pending_deliveries.c.next_attempt_at).label("next_attempt_at"),
            deliveries.c.created_at,
            deliveries.c.finished_at,
            deliveries.c.replay_of,
        )
        .outerjoin(entities, entities.c.id == deliveries.c.entity_id)
        .outerjoin(automations, automations.c.id == deliveries.c.automation_id)
        .outerjoin(webhooks, webhooks.c.id == deliveries.c.webhook_id)
        .outerjoin(pending_deliveries, pending_deliveries.c.seq == deliveries.c.seq)
    )


def matching_deliveries(query: Select[Any], entity_id: int | None, wanted: DeliveryFilter) -> Select[Any]:
    """The query, limited to matching deliveries. Pending ones it finds by way of the queue, which is short."""
    if wanted.status is DeliveryStatus.PENDING:
        # OFFSET 0 keeps PostgreSQL from starting with the deliveries, of which hardly any is pending.
        mine = select(deliveries.c.seq).where(deliveries.c.seq == pending_deliveries.c.seq)
        return query.where(_narrowed(mine, entity_id, wanted).offset(0).exists())
    if wanted.status is not None:
        delivered = wanted.status is DeliveryStatus.DELIVERED
        status = deliveries.c.status if delivered else deliveries.c.unfulfilled
        query = query.where(status == wanted.status.value)
    return _narrowed(query, entity_id, wanted)


def _narrowed(query: Select[Any], entity_id: int | None, wanted: DeliveryFilter) -> Select[Any]:
    """The query with all conditions but the one on the status."""
    if entity_id is not None:
        query = query.where(deliveries.c.entity_id == entity_id)
    if wanted.automation_id is not None:
        query = query.where(deliveries.c.automation_id == wanted.automation_id)
    if wanted.webhook_id is not None:
        query = query.where(deliveries.c.webhook_id == wanted.webhook_id)
    if wanted.event_id is not None:
        query = query.where(deliveries.c.event_id == wanted.event_id)
    if wanted.since is not None:
        query = query.where(deliveries.c.created_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(deliveries.c.created_at < wanted.until)
    return query
