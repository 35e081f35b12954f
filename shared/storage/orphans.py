"""Pending deliveries whose webhook was deleted: nobody drains them, so they are sought out and ended."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, exists, or_, select, update

from shared.storage.tables import deliveries, pending_deliveries, webhooks


def bury_orphans(connection: Connection, *, reason: str, now: datetime) -> int:
    """Make dead letters of what is pending for webhooks that were deleted, attempts underway excepted.

    Evaluation may commit a firing for a webhook that is just being deleted; no drain would ever take it up.

    Returns:
        How many there were.
    """
    has_pending = exists().where(pending_deliveries.c.webhook_id == webhooks.c.id)
    deleted = list(connection.scalars(select(webhooks.c.id).where(webhooks.c.deleted_at.is_not(None), has_pending)))
    if not deleted:
        return 0
    free = or_(pending_deliveries.c.claim.is_(None), pending_deliveries.c.next_attempt_at <= now)
    buried = connection.execute(
        delete(pending_deliveries)
        .where(pending_deliveries.c.webhook_id.in_(deleted), free)
        .returning(pending_deliveries.c.seq, pending_deliveries.c.attempts)
    ).all()
    if buried:
        connection.execute(
            update(deliveries)
            .where(deliveries.c.seq == bindparam("of"))
            .values(status="dead", reason=reason, attempts=bindparam("made"), finished_at=now),
            [{"of": row.seq, "made": row.attempts} for row in buried],
        )
    return len(buried)
