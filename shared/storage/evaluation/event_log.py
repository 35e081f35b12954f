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
from shared.storage.schema.tables import event_log, partitions

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


class _Head(NamedTuple):
    """Where a partition is read from a time on."""

    content: bytes | None
    """The first row that has anything of that time or later."""
    newest: EntryOrder
    """The last logged entry: what comes later is in the stream."""


class EventLog:
    """Reads the log, a row at a time. It belongs to one thread, and to one reading of the streams beside it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._heads: tuple[int, dict[int, _Head]] | None = None
        self._oldest: dict[int, int | None] | None = None

    def forwards(
        self, partition: int, after: EntryOrder, until_ms: int | None, *, beside_others: bool = False
    ) -> Iterator[LoggedEntry]:
        """Oldest first: the entries of a partition after an id, that came before a time.

        `beside_others`: all partitions are read from that time on, so that one query finds where each begins.
        """
        head = self._head(partition, after[0]) if beside_others else None
        content: bytes | None
        while True:
            if head is not None and after >= head.newest:
                return
            if head is not None and head.content is not None:
                content, head = head.content, head._replace(content=None)
            else:
                content = self._row_after(partition, after)
            if content is None:
                return
            for entry in unpack_entries(content):
                if entry.order <= after:
                    continue
                if until_ms is not None and entry.order[0] >= until_ms:
                    return
                after = entry.order
                yield entry

    def _row_after(self, partition: int, after: EntryOrder) -> bytes | None:
        rows = event_log.c.partition == partition, event_log.c.last_ms >= after[0]
        query = select(event_log.c.content).where(*rows).order_by(event_log.c.last_ms, event_log.c.last_number)
        beyond = (event_log.c.last_ms > after[0]) | (event_log.c.last_number > after[1])
        with read_statement(self._engine) as connection:
            return connection.scalar(query.where(beyond).limit(1))

    def _head(self, partition: int, since_ms: int) -> _Head:
        if self._heads is None or self._heads[0] != since_ms:
            of_one = event_log.c.partition == partitions.c.partition
            first = select(event_log.c.content).where(of_one, event_log.c.last_ms >= since_ms)
            first = first.order_by(event_log.c.last_ms, event_log.c.last_number).limit(1)
            last = event_log.c.last_ms.desc(), event_log.c.last_number.desc()
            query = select(
                partitions.c.partition,
                first.scalar_subquery(),
                *(
                    select(column).where(of_one).order_by(*last).limit(1).scalar_subquery()
                    for column in (event_log.c.last_ms, event_log.c.last_number)
                ),
            )
            with read_statement(self._engine) as connection:
                rows = connection.execute(query).all()
            self._heads = since_ms, {row[0]: _Head(row[1], (row[2] or 0, row[3] or 0)) for row in rows}
        # A partition without an offset has nothing in the log, which holds what was evaluated.
        return self._heads[1].pop(partition, _Head(None, (0, 0)))

    def _begins(self, partition: int) -> int | None:
        """The time of a partition's oldest entry; None where none is logged."""
        if self._oldest is None:
            of_one = event_log.c.partition == partitions.c.partition
            oldest = select(func.min(event_log.c.first_ms)).where(of_one).scalar_subquery()
            with read_statement(self._engine) as connection:
                self._oldest = {row[0]: row[1] for row in connection.execute(select(partitions.c.partition, oldest))}
        return self._oldest.get(partition)

    def backwards(self, partition: int, before: EntryOrder | None, since_ms: int) -> Iterator[LoggedEntry]:
        """Newest first: the entries of a partition before an id, or all, that came at a time or later."""
        begins = self._begins(partition)
        while begins is not None and (before is None or before[0] >= begins):
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
