"""Automations that could not be matched: written down, and told to their owners, once in a while."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, or_, update

from shared.storage.delivery.notices import notify_unmatched
from shared.storage.schema.tables import automations


def note_unmatched(
    connection: Connection, automation_id: int, *, reason: str, now: datetime, silence: timedelta
) -> bool:
    """Write down that an automation could not be matched, and insert the notice of it.

    Nothing is written when that was written down less than `silence` ago, whoever did, or when it was deleted.
    """
    due = or_(automations.c.unmatched_at.is_(None), automations.c.unmatched_at <= now - silence)
    noted = connection.execute(
        update(automations)
        .where(automations.c.id == automation_id, automations.c.deleted_at.is_(None), due)
        .values(unmatched_at=now, unmatched_reason=reason)
    )
    if noted.rowcount == 0:
        return False
    notify_unmatched(connection, automation_id, reason=reason, now=now)
    return True
