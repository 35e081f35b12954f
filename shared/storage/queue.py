"""The work that is left: claiming due deliveries under a lease, and recording what came of them, in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    any_,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)

from shared.domain.circuits import Circuit
from shared.storage.evaluation import chunks
from shared.storage.flow import circuit_of
from shared.storage.tables import attempts, deliveries, pending_deliveries, secrets, webhook_secrets, webhooks
from shared.storage.upserts import insert_ignore


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this worker may attempt until its lease ends."""

    seq: int
    id: str
    payload: str
    attempts: int
    event_received_at: datetime


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """How a webhook is reached, with its secrets still encrypted."""

    id: int
    url: str
    url_secret: bytes | None
    policy: dict[str, Any]
    access_token: bytes | None
    signing_secret: bytes | None
    granted: dict[str, bytes]
    circuit: Circuit
    slow: bool


@dataclass(frozen=True, slots=True)
class DueWebhook:
    """A webhook with something to send, and whether it belongs to the slow lane."""

    id: int
    slow: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """One attempt and what follows from it: a retry has a time, everything else has a final status."""

    seq: int
    number: int
    started_at: datetime
    duration_ms: int
    outcome: str
    status_code: int | None
    error: str | None
    response_body: str
    response_truncated: bool
    next_attempt_at: datetime | None
    final_status: str | None
    reason: str | None


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


def load_endpoint(connection: Connection, webhook_id: int) -> EndpointRow | None:
    """A webhook as deliveries need it; None when nothing may be sent to it now (disabled, paused or deleted)."""
    row = connection.execute(
        select(webhooks).where(
            webhooks.c.id == webhook_id, webhooks.c.enabled, ~webhooks.c.paused, webhooks.c.deleted_at.is_(None)
        )
    ).one_or_none()
    if row is None:
        return None
    granted = connection.execute(
        select(secrets.c.name, secrets.c.ciphertext)
        .join(webhook_secrets, webhook_secrets.c.secret_id == secrets.c.id)
        .where(webhook_secrets.c.webhook_id == webhook_id)
    ).all()
    return EndpointRow(
        id=row.id,
        url=row.url,
        url_secret=_ciphertext(connection, row.url_secret_id),
        policy=row.policy,
        access_token=_ciphertext(connection, row.access_token_secret_id),
        signing_secret=_ciphertext(connection, row.signing_secret_id),
        granted={secret.name: secret.ciphertext for secret in granted},
        circuit=circuit_of(row),
        slow=row.slow,
    )


def _ciphertext(connection: Connection, secret_id: int | None) -> bytes | None:
    if secret_id is None:
        return None
    return connection.scalar(select(secrets.c.ciphertext).where(secrets.c.id == secret_id))


def claim(
    connection: Connection, webhook_id: int, *, limit: int, now: datetime, lease_until: datetime, token: int
) -> list[Claimed]:
    """Take up to `limit` due deliveries of a webhook, longest due first; nobody else gets them until the lease ends.

    Rows that another worker is just claiming are passed over, not waited for.
    """
    due = (
        select(pending_deliveries.c.seq)
        .where(pending_deliveries.c.webhook_id == webhook_id, pending_deliveries.c.next_attempt_at <= now)
        .order_by(pending_deliveries.c.next_attempt_at, pending_deliveries.c.seq)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    taken = connection.execute(
        update(pending_deliveries)
        .where(_among(connection, due))
        .values(next_attempt_at=lease_until, claim=token)
        .returning(pending_deliveries.c.seq, pending_deliveries.c.attempts)
    ).all()
    made = {row.seq: row.attempts for row in taken}
    found: list[Any] = []
    for chunk in chunks(list(made)):
        found += connection.execute(
            select(deliveries.c.seq, deliveries.c.id, deliveries.c.payload, deliveries.c.event_received_at).where(
                deliveries.c.seq.in_(chunk)
            )
        ).all()
    return [
        Claimed(row.seq, row.id, row.payload or "{}", made[row.seq], row.event_received_at)
        for row in sorted(found, key=lambda row: row.seq)
    ]


def _among(connection: Connection, due: Select[Any]) -> ColumnElement[bool]:
    """The rows that `due` names. PostgreSQL gets an array, for which it always takes the index; a join it may hash."""
    if connection.dialect.name == "postgresql":
        return pending_deliveries.c.seq == any_(func.array(due.scalar_subquery()))
    return pending_deliveries.c.seq.in_(due.scalar_subquery())


def record(connection: Connection, results: Sequence[Attempted], *, token: int, now: datetime) -> set[int]:
    """Record attempts and what follows, for the deliveries that are still claimed with `token`.

    A worker that slept past its lease finds its deliveries claimed by another: what it sent is kept as an attempt, but
    it decides nothing any more.

    Returns:
        The `seq` of the deliveries that came to an end.
    """
    connection.execute(insert_ignore(connection, attempts), [_attempt_row(result, token) for result in results])
    ended = _end(connection, [result for result in results if result.final_status is not None], token, now)
    retried = [
        {"of": result.seq, "made": result.number, "at": result.next_attempt_at}
        for result in results
        if result.final_status is None
    ]
    if retried:
        connection.execute(
            update(pending_deliveries)
            .where(pending_deliveries.c.seq == bindparam("of"), pending_deliveries.c.claim == token)
            .values(attempts=bindparam("made"), next_attempt_at=bindparam("at"), claim=None),
            retried,
        )
    return ended


def _attempt_row(result: Attempted, token: int) -> dict[str, Any]:
    return {
        "delivery_seq": result.seq,
        "number": result.number,
        "claim": token,
        "started_at": result.started_at,
        "duration_ms": result.duration_ms,
        "outcome": result.outcome,
        "status_code": result.status_code,
        "error": result.error,
        "response_body": result.response_body,
        "response_truncated": result.response_truncated,
    }


def _end(connection: Connection, results: Sequence[Attempted], token: int, now: datetime) -> set[int]:
    mine: set[int] = set()
    for chunk in chunks([result.seq for result in results]):
        mine.update(
            connection.scalars(
                delete(pending_deliveries)
                .where(pending_deliveries.c.seq.in_(chunk), pending_deliveries.c.claim == token)
                .returning(pending_deliveries.c.seq)
            )
        )
    alike: dict[tuple[str | None, str | None, int], list[int]] = {}
    for result in results:
        if result.seq in mine:
            alike.setdefault((result.final_status, result.reason, result.number), []).append(result.seq)
    for (status, reason, number), seqs in alike.items():
        for chunk in chunks(seqs):
            connection.execute(
                update(deliveries)
                .where(deliveries.c.seq.in_(chunk))
                .values(status=status, reason=reason, attempts=number, finished_at=now)
            )
    return mine


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
    found = connection.execute(
        select(pending_deliveries.c.seq)
        .where(pending_deliveries.c.webhook_id == webhook_id, pending_deliveries.c.next_attempt_at <= now)
        .order_by(pending_deliveries.c.next_attempt_at)
        .limit(1)
    )
    return found.first() is not None


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
    dead = connection.scalar(
        select(func.count()).select_from(deliveries).where(deliveries.c.status.in_(("dead", "refused")))
    )
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
