"""Ending pending deliveries that must not be sent any more: they become dead letters."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, delete, or_, select, update

from shared.storage.database.bulk import among
from shared.storage.delivery.delivery_filter import DeliveryStatus
from shared.storage.schema.tables import deliveries, pending_deliveries, webhooks


def abandon_deliveries(connection: Connection, webhook_id: int, *, reason: str, now: datetime) -> int:
    """Make dead letters of the pending deliveries of a webhook that is being deleted, except attempts underway.

    Locks: the webhook's row before all others. A worker that records late takes that one first too, and then rows of
    deliveries whose lease is over, which this transaction may take as well.

    Returns:
        The number of dead letters.
    """
    # FOR NO KEY UPDATE: inserts of rows that refer to the webhook are not held up.
    connection.execute(select(webhooks.c.id).where(webhooks.c.id == webhook_id).with_for_update(key_share=True))
    return make_dead_letters(connection, pending_deliveries.c.webhook_id == webhook_id, reason, now)


def make_dead_letters(connection: Connection, which: ColumnElement[bool], reason: str, now: datetime) -> int:
    """Make dead letters of the pending deliveries that meet a condition and are not under a lease; returns how many."""
    return end_pending(connection, which, DeliveryStatus.DEAD, reason, now)


def end_pending(
    connection: Connection, which: ColumnElement[bool], status: DeliveryStatus, reason: str, now: datetime
) -> int:
    """End the pending deliveries that meet a condition and are not under a lease; returns how many.

    Locks (docs/decisions/0012, "delete a webhook", "dead-letter orphans, stop a replay"): pending_deliveries, SKIP
    LOCKED → deliveries. A row that a worker has locked is skipped: the worker may be waiting for the webhook's row,
    which this transaction may hold.
    """
    free = or_(pending_deliveries.c.claim.is_(None), pending_deliveries.c.next_attempt_at <= now)
    takeable = select(pending_deliveries.c.seq).where(which, free).with_for_update(skip_locked=True)
    removed = connection.execute(
        delete(pending_deliveries)
        .where(pending_deliveries.c.seq.in_(takeable))
        .returning(pending_deliveries.c.seq, pending_deliveries.c.attempts)
    ).all()
    by_attempts: dict[int, list[int]] = defaultdict(list)
    for row in removed:
        by_attempts[row.attempts].append(row.seq)
    for attempts, seqs in by_attempts.items():
        connection.execute(
            update(deliveries)
            .where(among(connection, deliveries.c.seq, seqs))
            .values(status=status.value, reason=reason, attempts=attempts, finished_at=now)
        )
    return len(removed)
