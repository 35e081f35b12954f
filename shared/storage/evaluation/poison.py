"""Poison entries, stored with the reason so that evaluation can go on: they are no valid events, or end each worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Select, func, select, tuple_

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
    return int(connection.execute(recent_poison(since)).scalar_one())


def recent_poison(since: datetime) -> Select[int]:
    """The query of `count_poison`, for those who count more at once."""
    recent = select(poison_entries.c.partition).where(poison_entries.c.created_at >= since).limit(COUNTED_POISON)
    return select(func.count()).select_from(recent.subquery())


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPoison:
    """A poison entry as it is kept."""

    partition: int
    entry_id: str
    reason: str
    size_bytes: int
    """Of what is kept of its body."""
    created_at: datetime


_COLUMNS = (
    poison_entries.c.partition,
    poison_entries.c.entry_id,
    poison_entries.c.reason,
    func.length(poison_entries.c.body).label("size_bytes"),
    poison_entries.c.created_at,
)
Place = tuple[datetime, int, str]
"""Where a page ended: the time, partition and id of its last entry."""


def list_poison(connection: Connection, *, before: Place | None, limit: int) -> list[StoredPoison]:
    """Poison entries, the newest first, without their bodies."""
    key = (poison_entries.c.created_at, poison_entries.c.partition, poison_entries.c.entry_id)
    query = select(*_COLUMNS).order_by(*(column.desc() for column in key)).limit(limit)
    if before is not None:
        query = query.where(tuple_(*key) < tuple_(*before))
    return [StoredPoison(**row._mapping) for row in connection.execute(query)]


def find_poison(connection: Connection, partition: int, entry_id: str) -> tuple[StoredPoison, bytes] | None:
    """One poison entry, and what is kept of its body."""
    query = select(*_COLUMNS, poison_entries.c.body).where(
        poison_entries.c.partition == partition, poison_entries.c.entry_id == entry_id
    )
    row = connection.execute(query).first()
    if row is None:
        return None
    members = dict(row._mapping)
    body: bytes = members.pop("body")
    return StoredPoison(**members), body
