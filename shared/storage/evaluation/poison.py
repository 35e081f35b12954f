"""Poison entries, stored with the reason so that evaluation can go on: they are no valid events, or end each worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from shared.storage.database.upserts import insert_ignore
from shared.storage.schema.tables import poison_entries

KEPT_POISON_BYTES = 64 << 10
"""How much of an entry's body is kept, for people to find out where it came from."""


@dataclass(frozen=True, slots=True)
class PoisonEntry:
    """A stream entry that is not a valid event, or that could not be evaluated."""

    entry_id: str
    reason: str
    body: bytes
    kept_bytes: int = KEPT_POISON_BYTES
    """How much of the body is kept."""


def quarantine(connection: Connection, partition: int, entries: Sequence[PoisonEntry], now: datetime) -> None:
    """Store poison entries. One that is stored already is left as it is."""
    if entries:
        connection.execute(
            insert_ignore(connection, poison_entries),
            [
                {
                    "partition": partition,
                    "entry_id": entry.entry_id,
                    "reason": entry.reason.replace("\0", "�"),
                    "body": entry.body[: entry.kept_bytes],
                    "created_at": now,
                }
                for entry in entries
            ],
        )


COUNTED_POISON = 10_000
"""Where counting ends."""


def count_poison(connection: Connection, since: datetime) -> int:
    """The poison entries since then, up to `COUNTED_POISON`."""
    recent = select(poison_entries.c.partition).where(poison_entries.c.created_at >= since).limit(COUNTED_POISON)
    return int(connection.execute(select(func.count()).select_from(recent.subquery())).scalar_one())
