"""Ending pending deliveries that nobody may send any more: they become dead letters."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, delete, or_, select, update

from shared.storage.database.bulk import among
from shared.storage.schema.tables import deliveries, pending_deliveries


def abandon_deliveries(connection: Connection, webhook_id: int, *, reason: str, now: datetime) -> int:
    """Make dead letters of what is pending for a webhook that is going away, attempts underway excepted.

    Returns:
        How many there were.
    """
    return dead_letter(connection, pending_deliveries.c.webhook_id == webhook_id, reason, now)


def dead_letter(connection: Connection, whose: ColumnElement[bool], reason: str, now: datetime) -> int:
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
