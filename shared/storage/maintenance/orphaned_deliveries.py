"""Pending deliveries whose webhook is deleted: nobody drains them any more, so they are ended.

Attempts underway are left to whoever makes them: what was delivered is recorded as delivered, and a retry that follows
is found when it is free. Rows that a worker is just writing are passed over, not waited for: it may wait for the
webhook's row, which who deletes the webhook holds.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, delete, exists, or_, select, update

from shared.storage.database.bulk import among
from shared.storage.schema.tables import deliveries, pending_deliveries, webhooks


def abandon_deliveries(connection: Connection, webhook_id: int, *, reason: str, now: datetime) -> int:
    """Make dead letters of what is pending for a webhook that is going away, attempts underway excepted.

    Returns:
        How many there were.
    """
    return _bury(connection, pending_deliveries.c.webhook_id == webhook_id, reason, now)


def bury_orphans(connection: Connection, *, reason: str, now: datetime) -> int:
    """Make dead letters of what is pending for webhooks that were deleted, attempts underway excepted.

    Evaluation may commit a firing for a webhook that is just being deleted; no drain would ever take it up.

    Returns:
        How many there were.
    """
    has_pending = exists().where(pending_deliveries.c.webhook_id == webhooks.c.id)
    deleted = list(connection.scalars(select(webhooks.c.id).where(webhooks.c.deleted_at.is_not(None), has_pending)))
    return _bury(connection, pending_deliveries.c.webhook_id.in_(deleted), reason, now) if deleted else 0


def _bury(connection: Connection, whose: ColumnElement[bool], reason: str, now: datetime) -> int:
    free = or_(pending_deliveries.c.claim.is_(None), pending_deliveries.c.next_attempt_at <= now)
    takeable = select(pending_deliveries.c.seq).where(whose, free).with_for_update(skip_locked=True)
    buried = connection.execute(
        delete(pending_deliveries)
        .where(pending_deliveries.c.seq.in_(takeable))
        .returning(pending_deliveries.c.seq, pending_deliveries.c.attempts)
    ).all()
    alike: dict[int, list[int]] = defaultdict(list)
    for row in buried:
        alike[row.attempts].append(row.seq)
    for made, seqs in alike.items():
        connection.execute(
            update(deliveries)
            .where(among(connection, deliveries.c.seq, seqs))
            .values(status="dead", reason=reason, attempts=made, finished_at=now)
        )
    return len(buried)
