"""Orphans: pending deliveries whose webhook was deleted. No drain takes them up, so they become dead letters.

Attempts underway are left to their worker, which records a success as delivered; if it schedules a retry, a later round
finds that.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, exists, select

from shared.storage.delivery.abandon import make_dead_letters
from shared.storage.schema.tables import pending_deliveries, webhooks


def dead_letter_orphans(connection: Connection, *, reason: str, now: datetime) -> int:
    """Make dead letters of the pending deliveries of deleted webhooks, except attempts underway.

    They come from an evaluation that commits while a webhook is being deleted, and from retries as above.

    Returns:
        The number of dead letters.
    """
    has_pending = exists().where(pending_deliveries.c.webhook_id == webhooks.c.id)
    deleted = list(connection.scalars(select(webhooks.c.id).where(webhooks.c.deleted_at.is_not(None), has_pending)))
    return make_dead_letters(connection, pending_deliveries.c.webhook_id.in_(deleted), reason, now) if deleted else 0
