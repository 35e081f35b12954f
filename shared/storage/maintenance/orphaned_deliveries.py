"""Pending deliveries whose webhook is deleted: nobody drains them any more, so they are ended.

Attempts underway are left to whoever makes them: what was delivered is recorded as delivered, and a retry that follows
is found when it is free. Rows that a worker is just writing are passed over, not waited for: it may wait for the
webhook's row, which who deletes the webhook holds.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, exists, select

from shared.storage.delivery.abandon import dead_letter
from shared.storage.schema.tables import pending_deliveries, webhooks


def dead_letter_orphans(connection: Connection, *, reason: str, now: datetime) -> int:
    """Make dead letters of what is pending for webhooks that were deleted, attempts underway excepted.

    Evaluation may commit a firing for a webhook that is just being deleted; no drain would ever take it up.

    Returns:
        How many there were.
    """
    has_pending = exists().where(pending_deliveries.c.webhook_id == webhooks.c.id)
    deleted = list(connection.scalars(select(webhooks.c.id).where(webhooks.c.deleted_at.is_not(None), has_pending)))
    return dead_letter(connection, pending_deliveries.c.webhook_id.in_(deleted), reason, now) if deleted else 0
