"""The event log: evaluated events, compressed, many in a row, for longer than the streams hold them.

The dispatcher writes it from the streams. Rows of a partition follow one another and do not overlap. A reader has one
row in memory for each partition that it reads.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Engine, delete, func, select

from shared.storage.database.transactions import read_statement
from shared.storage.database.upserts import insert_ignore
from shared.storage.schema.tables import event_log

MAX_ENTRIES = 1000
"""The most entries of one row."""
MAX_BYTES = 4 << 20
"""A row ends with the entry that passes this, uncompressed."""
_HEAD = struct.Struct("<QQi")
_LEVEL = 3
"""Of zlib: level 6 takes twice the time for a tenth less."""

EntryOrder = tuple[int, int]
"""An entry's id: milliseconds and number."""


class LoggedEntry(NamedTuple):
    """An entry of the log; the body is None where the stream's entry had none."""

    order: EntryOrder
    body: bytes | None


def pack_entries(entries: Sequence[LoggedEntry]) -> bytes:
    """The content of a row."""
    parts = []
    for (ms, number), body in entries:
        parts.append(_HEAD.pack(ms, number, -1 if body is None else len(body)))
        parts.append(body or b"")
    return zlib.compress(b"".join(parts), _LEVEL)


def unpack_entries(content: bytes) -> list[LoggedEntry]:
    """The entries of a row, oldest first."""
    data, at = zlib.decompress(content), 0
    found = []
    while at < len(data):
        ms, number, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        body = None if length < 0 else data[at : at + length]
        at += max(0, length)
        found.append(LoggedEntry((ms, number), body))
    return found


def logged_to(connection: Connection) -> dict[int, EntryOrder]:
    """The last logged entry of each partition."""
    newest = select(func.max(event_log.c.id)).group_by(event_log.c.partition)
    query = select(event_log.c.partition, event_log.c.last_ms, event_log.c.last_number)
    return {row[0]: (row[1], row[2]) for row in connection.execute(query.where(event_log.c.id.in_(newest)))}


def insert_row(connection: Connection, partition: int, entries: Sequence[LoggedEntry]) -> bool:
    """Store entries that follow the last logged one; False when another dispatcher was faster."""
    (first_ms, first_number), (last_ms, last_number) = entries[0].order, entries[-1].order
    statement = insert_ignore(connection, event_log).values(
        partition=partition,
        first_ms=first_ms,
        first_number=first_number,
        last_ms=last_ms,
        last_number=last_number,
        entries=len(entries),
        content=pack_entries(entries),
    )
    return connection.execute(statement.returning(event_log.c.id)).one_or_none() is not None


def delete_rows(connection: Connection, *, before_ms: int, most: int) -> int:
    """Delete rows whose entries all came before a time; returns how many."""
    old = select(event_log.c.id).where(event_log.c.last_ms < before_ms).limit(most)
    return connection.execute(delete(event_log).where(event_log.c.id.in_(old))).rowcount


class EventLog:
    """Reads the log, a row at a time. It belongs to one thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def forwards(self, partition: int, after: EntryOrder, until_ms: int | None) -> Iterator[LoggedEntry]:
        """Oldest first: the entries of a partition after an id, that came before a time."""
        while True:
            rows = event_log.c.partition == partition, event_log.c.last_ms >= after[0]
            query = select(event_log.c.content).where(*rows).order_by(event_log.c.last_ms, event_log.c.last_number)
            beyond = (event_log.c.last_ms > after[0]) | (event_log.c.last_number > after[1])
            with read_statement(self._engine) as connection:
                content = connection.scalar(query.where(beyond).limit(1))
            if content is None:
                return
            for entry in unpack_entries(content):
                if entry.order <= after:
                    continue
                if until_ms is not None and entry.order[0] >= until_ms:
                    return
                after = entry.order
                yield entry

    def backwards(self, partition: int, before: EntryOrder | None, since_ms: int) -> Iterator[LoggedEntry]:
        """Newest first: the entries of a partition before an id, or all, that came at a time or later."""
        while True:
            query = select(event_log.c.content).where(event_log.c.partition == partition)
            if before is not None:
                earlier = (event_log.c.first_ms == before[0]) & (event_log.c.first_number < before[1])
                query = query.where((event_log.c.first_ms < before[0]) | earlier)
            query = query.order_by(event_log.c.first_ms.desc(), event_log.c.first_number.desc())
            with read_statement(self._engine) as connection:
                content = connection.scalar(query.limit(1))
            if content is None:
                return
            for entry in reversed(unpack_entries(content)):
                if before is not None and entry.order >= before:
                    continue
                if entry.order[0] < since_ms:
                    return
                before = entry.order
                yield entry

    def find(self, partition: int, order: EntryOrder) -> LoggedEntry | None:
        """One entry; None when it is not logged."""
        for entry in self.forwards(partition, (order[0], order[1] - 1), None):
            return entry if entry.order == order else None
        return None
