"""The work that is left: what is due, for whom, and claiming it under a lease."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, exists, func, or_, select, text

from shared.domain.delivery.circuits import Circuit
from shared.storage.database.bulk import among_given, is_postgresql, listed
from shared.storage.database.engine import NOT_WAITED_FOR
from shared.storage.delivery.admission import circuit_of
from shared.storage.delivery.sqlite import claim_due
from shared.storage.schema.tables import (
    DEAD,
    deliveries,
    pending_deliveries,
    revisions,
    secrets,
    webhook_secrets,
    webhooks,
)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this worker may attempt until its lease ends."""

    seq: int
    id: str
    payload: str
    attempts: int
    event_received_at: datetime
    due_at: datetime
    automation_id: int | None
    entity: str
    event_id: str
    event_source: str
    event_type: str
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """How a webhook is reached and how it fares; `revision` tells whether anything was edited anywhere."""

    id: int
    revision: int
    kind: str
    url: str
    url_secret_id: int | None
    policy: dict[str, Any]
    access_token_secret_id: int | None
    signing_secret_id: int | None
    client_certificate_secret_id: int | None
    circuit: Circuit
    paused: bool
    slow: bool
    resumed_at: datetime | None
    """Since when requests go out again, if ever they did not."""


@dataclass(frozen=True, slots=True)
class EndpointSecrets:
    """The secrets of a webhook, encrypted: by what they are for, and those granted to it by name."""

    url: bytes | None
    access_token: bytes | None
    signing_secret: bytes | None
    client_certificate: bytes | None
    granted: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class DueWebhook:
    """A webhook with something to send, and whether it belongs to the slow lane."""

    id: int
    slow: bool


@dataclass(frozen=True, slots=True)
class QueueState:
    """The counts that gauges show. What is due is either ready to be sent, or held while its webhook takes nothing."""

    pending: int
    due: int
    held: int
    dead: int
    oldest_due_seconds: float
    webhooks_disabled: int
    circuits_open: int


def load_endpoint(connection: Connection, webhook_id: int, *, whatever_its_state: bool = False) -> EndpointRow | None:
    """A webhook as deliveries need it; None when nothing may be sent to it now (disabled, paused or deleted).

    With `whatever_its_state` only a deleted one is None.
    """
    row = connection.execute(_ENDPOINT, {"webhook_id": webhook_id}).one_or_none()
    if row is None or not (whatever_its_state or (row.enabled and not row.paused)):
        return None
    return _endpoint_row(row)


def load_endpoints(connection: Connection, ids: Collection[int]) -> dict[int, EndpointRow]:
    """Those of these webhooks that are enabled, paused ones included."""
    if not ids:
        return {}
    rows = connection.execute(_enabled(as_array=is_postgresql(connection)), {"ids": listed(ids)})
    return {row.id: _endpoint_row(row) for row in rows}


def _endpoint_row(row: Any) -> EndpointRow:
    return EndpointRow(
        id=row.id,
        revision=row.newest_revision,
        kind=row.kind,
        url=row.url,
        url_secret_id=row.url_secret_id,
        policy=row.policy,
        access_token_secret_id=row.access_token_secret_id,
        signing_secret_id=row.signing_secret_id,
        client_certificate_secret_id=row.client_certificate_secret_id,
        circuit=circuit_of(row),
        paused=row.paused,
        slow=row.slow,
        resumed_at=row.resumed_at,
    )


# The newest revision is read with the rows: who has an endpoint of that revision open has it as it is here.
_ENDPOINTS = select(
    webhooks, select(revisions.c.value).where(revisions.c.id == 1).scalar_subquery().label("newest_revision")
).where(webhooks.c.deleted_at.is_(None))
_ENDPOINT = _ENDPOINTS.where(webhooks.c.id == bindparam("webhook_id"))


@lru_cache(maxsize=2)
def _enabled(*, as_array: bool) -> Select[Any]:
    return _ENDPOINTS.where(among_given(webhooks.c.id, "ids", as_array=as_array), webhooks.c.enabled)


def load_secrets(connection: Connection, row: EndpointRow) -> EndpointSecrets:
    """The secrets of a webhook, as they were when `row` was read: in the same transaction."""
    granted = connection.execute(
        select(secrets.c.name, secrets.c.ciphertext)
        .join(webhook_secrets, webhook_secrets.c.secret_id == secrets.c.id)
        .where(webhook_secrets.c.webhook_id == row.id)
    ).all()
    return EndpointSecrets(
        url=_ciphertext(connection, row.url_secret_id),
        access_token=_ciphertext(connection, row.access_token_secret_id),
        signing_secret=_ciphertext(connection, row.signing_secret_id),
        client_certificate=_ciphertext(connection, row.client_certificate_secret_id),
        granted={secret.name: secret.ciphertext for secret in granted},
    )


def _ciphertext(connection: Connection, secret_id: int | None) -> bytes | None:
    if secret_id is None:
        return None
    return connection.scalar(select(secrets.c.ciphertext).where(secrets.c.id == secret_id))


def claim(
    connection: Connection, webhook_id: int, *, limit: int, now: datetime, lease_until: datetime, token: int
) -> list[Claimed]:
    """Take up to `limit` due deliveries of a webhook, longest due first; nobody else gets them until the lease ends.

    Rows that another worker is just claiming are passed over, not waited for. There are none once a webhook is paused
    or disabled, also for a drain that is at work: so pausing holds at once, on every worker.
    """
    if is_postgresql(connection):
        given = {"webhook_id": webhook_id, "limit": limit, "now": now, "lease_until": lease_until, "token": token}
        return [Claimed(*row) for row in connection.execute(_CLAIM, given)]
    rows = claim_due(connection, webhook_id, limit=limit, now=now, lease_until=lease_until, token=token)
    return [Claimed(*row) for row in rows]


# One round trip. The array and the lateral look-up keep the planner on the keys: it can't know how few rows are taken.
# Nobody waits for the disk: a claim that a crash of the server takes back leaves deliveries due, whose requests may be
# underway, as the crash of a worker does. The setting holds for this transaction, which must make nothing else true.
_CLAIM = text(
    f"""
    WITH due AS (
        SELECT seq, next_attempt_at FROM pending_deliveries WHERE webhook_id = :webhook_id AND next_attempt_at <= :now
            AND (SELECT enabled AND NOT paused AND deleted_at IS NULL FROM webhooks WHERE id = :webhook_id)
            AND {NOT_WAITED_FOR}
        ORDER BY next_attempt_at, seq LIMIT :limit FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE pending_deliveries SET next_attempt_at = :lease_until, claim = :token
        WHERE seq = ANY(ARRAY(SELECT seq FROM due))
        RETURNING seq, attempts
    )
    SELECT taken.seq, delivery.id, coalesce(delivery.payload, '{{}}'), taken.attempts, delivery.event_received_at,
        due.next_attempt_at, delivery.automation_id,
        (SELECT name FROM entities WHERE entities.id = delivery.entity_id),
        delivery.event_id, delivery.event_source, delivery.event_type, delivery.traceparent
    FROM taken JOIN due ON due.seq = taken.seq CROSS JOIN LATERAL (
        SELECT id, payload, event_received_at, automation_id, entity_id, event_id, event_source, event_type, traceparent
        FROM deliveries WHERE deliveries.seq = taken.seq OFFSET 0
    ) AS delivery
    ORDER BY taken.seq
    """  # noqa: S608
)


def due_webhooks(connection: Connection, now: datetime) -> list[DueWebhook]:
    """The webhooks that have due deliveries and may be sent to; one index look-up for each webhook."""
    has_due = exists().where(
        and_(pending_deliveries.c.webhook_id == webhooks.c.id, pending_deliveries.c.next_attempt_at <= now)
    )
    rows = connection.execute(select(webhooks.c.id, webhooks.c.slow).where(_open_to_requests(now), has_due))
    return [DueWebhook(row.id, row.slow) for row in rows]


def _open_to_requests(now: datetime) -> ColumnElement[bool]:
    """Webhooks that are enabled, neither paused nor deleted, and whose circuit lets something through."""
    circuit_lets = or_(webhooks.c.circuit_opened_at.is_(None), webhooks.c.circuit_probe_at <= now)
    return and_(webhooks.c.enabled, ~webhooks.c.paused, webhooks.c.deleted_at.is_(None), circuit_lets)


def has_due(connection: Connection, webhook_id: int, now: datetime) -> bool:
    """Whether a webhook has a due delivery."""
    return connection.execute(_HAS_DUE, {"webhook_id": webhook_id, "now": now}).first() is not None


_HAS_DUE = (
    select(pending_deliveries.c.seq)
    .where(
        pending_deliveries.c.webhook_id == bindparam("webhook_id"),
        pending_deliveries.c.next_attempt_at <= bindparam("now"),
    )
    .order_by(pending_deliveries.c.next_attempt_at)
    .limit(1)
)


def queue_state(connection: Connection, now: datetime) -> QueueState:
    """What the gauges show. Counting is proportional to the work that is left and to the dead letters."""
    due = pending_deliveries.c.next_attempt_at <= now
    ready = and_(due, _open_to_requests(now))
    pending, due_count, ready_count, oldest = connection.execute(
        select(
            func.count(),
            func.count().filter(due),
            func.count().filter(ready),
            func.min(pending_deliveries.c.next_attempt_at).filter(ready),
        ).select_from(pending_deliveries.outerjoin(webhooks, webhooks.c.id == pending_deliveries.c.webhook_id))
    ).one()
    dead = connection.scalar(select(func.count()).select_from(deliveries).where(deliveries.c.unfulfilled.in_(DEAD)))
    disabled, circuits_open = connection.execute(
        select(
            func.count().filter(~webhooks.c.enabled),
            func.count().filter(webhooks.c.enabled, webhooks.c.circuit_opened_at.is_not(None)),
        ).where(webhooks.c.deleted_at.is_(None))
    ).one()
    return QueueState(
        pending=pending,
        due=ready_count,
        held=due_count - ready_count,
        dead=dead or 0,
        oldest_due_seconds=max(0.0, (now - oldest).total_seconds()) if oldest else 0.0,
        webhooks_disabled=disabled,
        circuits_open=circuits_open,
    )
