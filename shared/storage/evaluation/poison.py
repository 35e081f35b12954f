"""Stream entries that are not events, set aside with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    Connection,
)

from shared.storage.database.upserts import insert_ignore
from shared.storage.schema.tables import (
    poison_entries,
)

KEPT_POISON_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class PoisonEntry:
    """A stream entry that is not an event."""

    entry_id: str
    reason: str
    body: bytes


def quarantine(connection: Connection, partition: int, entries: Sequence[PoisonEntry], now: datetime) -> None:
    """Keep entries that are not events, with the reason, out of the way of those that are."""
    if entries:
        connection.execute(
            insert_ignore(connection, poison_entries),
            [
                {
                    "partition": partition,
                    "entry_id": entry.entry_id,
                    "reason": entry.reason.replace("\0", "�"),
                    "body": entry.body[:KEPT_POISON_BYTES],
                    "created_at": now,
                }
                for entry in entries
            ],
        )
