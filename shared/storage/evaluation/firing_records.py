"""What evaluation made of events, by the ids of the deliveries that they would make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from shared.storage.database.bulk import among, chunks
from shared.storage.schema.tables import deliveries


@dataclass(frozen=True, slots=True)
class FiringRecord:
    """A delivery that evaluation stored, also one that was skipped."""

    id: str
    status: str
    reason: str | None
    has_payload: bool
    event_received_at: datetime
    created_at: datetime


def read_firings(connection: Connection, ids: Sequence[str]) -> list[FiringRecord]:
    """Those of these deliveries that exist."""
    columns = (
        deliveries.c.id,
        deliveries.c.status,
        deliveries.c.reason,
        deliveries.c.payload.is_not(None),
        deliveries.c.event_received_at,
        deliveries.c.created_at,
    )
    return [
        FiringRecord(row[0], row[1], row[2], bool(row[3]), row[4], row[5])
        for some in chunks(ids)
        for row in connection.execute(select(*columns).where(among(connection, deliveries.c.id, some)))
    ]
