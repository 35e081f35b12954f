"""The entries that streams and event log keep of all partitions, merged in one order, from a position either way.

Reads only, a few entries of each partition at a time. Must not decode an entry.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from redis import Redis

from shared.messaging.streams import FIELD, stream_key
from shared.storage.evaluation.event_log import EventLog

FEW_ENTRIES = 8
"""The first read of each stream: entries may be large, and mostly few are wanted."""
MOST_ENTRIES = 128
MAX_NUMBER = 2**63 - 1
SMALL_CHUNK_BYTES = 512 << 10
"""A read that brings less than this is followed by one of twice as many entries."""


class Position(NamedTuple):
    """The place of an entry among those of all partitions: when its stream received it comes first."""

    received_ms: int
    number: int
    partition: int

    @property
    def entry_id(self) -> str:
        """Its id in its stream."""
        return f"{self.received_ms}-{self.number}"


class KeptEntry(NamedTuple):
    """An entry, and the event's JSON; None when it has no such field."""

    position: Position
    body: bytes | None


class KeptEntries:
    """The entries of all partitions. It belongs to one thread. Its methods raise `redis.exceptions.RedisError`."""

    def __init__(self, redis: Redis, partitions: int, log: EventLog | None) -> None:
        self._redis = redis
        self._partitions = partitions
        self._log = log

    def backwards(self, before: Position | None, since_ms: int) -> Iterator[KeptEntry]:
        """Newest first: the entries before a position, or all, that came at a time or later."""
        streams = (self._backwards(one, before, since_ms) for one in range(self._partitions))
        return heapq.merge(*streams, key=_position, reverse=True)

    def forwards(self, after: Position | None, until_ms: int | None = None) -> Iterator[KeptEntry]:
        """Oldest first: the entries after a position, or all, that came before a time."""
        streams = (self._forwards(one, after, until_ms, beside_others=True) for one in range(self._partitions))
        return heapq.merge(*streams, key=_position)

    def at(self, received_ms: int) -> Iterator[KeptEntry]:
        """The entries of one millisecond."""
        return self.forwards(Position(received_ms, -1, -1), received_ms + 1)

    def find(self, position: Position) -> KeptEntry | None:
        """The entry at a position; None when it is not kept any more."""
        if not 0 <= position.partition < self._partitions:
            return None
        raw: Any = self._redis.xrange(stream_key(position.partition), position.entry_id, position.entry_id)
        if raw:
            return KeptEntry(position, raw[0][1].get(FIELD))
        order = position.received_ms, position.number
        logged = None if self._log is None else self._log.find(position.partition, order)
        return None if logged is None else KeptEntry(position, logged.body)

    def of_partition(self, partition: int, span: tuple[int, int]) -> Iterator[KeptEntry]:
        """Oldest first: the entries of a partition that came at a time or later and before another, in Unix ms."""
        begin_ms, end_ms = span
        return self._forwards(partition, Position(begin_ms, -1, -1), end_ms)

    def before_in_stream(self, position: Position) -> Iterator[KeptEntry]:
        """Newest first: the entries of the same partition before a position."""
        return self._backwards(position.partition, position, 0)

    def _backwards(self, partition: int, before: Position | None, since_ms: int) -> Iterator[KeptEntry]:
        reached = _order(before, partition, newer=False)
        for entry in self._stream_backwards(partition, before, since_ms):
            reached = entry.position.received_ms, entry.position.number
            yield entry
        if self._log is not None:
            for order, body in self._log.backwards(partition, reached, since_ms):
                yield KeptEntry(Position(*order, partition), body)

    def _forwards(
        self, partition: int, after: Position | None, until_ms: int | None, *, beside_others: bool = False
    ) -> Iterator[KeptEntry]:
        if self._log is not None:
            begin = _order(after, partition, newer=True) or (0, 0)
            for order, body in self._log.forwards(partition, begin, until_ms, beside_others=beside_others):
                after = Position(*order, partition)
                yield KeptEntry(after, body)
        yield from self._stream_forwards(partition, after, until_ms)

    def _stream_backwards(self, partition: int, before: Position | None, since_ms: int) -> Iterator[KeptEntry]:
        key, last = stream_key(partition), "+" if before is None else _bound(before, partition, newer=False)
        yield from _chunked(
            lambda end, count: self._redis.xrevrange(key, max=end, min=f"{since_ms}-0", count=count), last, partition
        )

    def _stream_forwards(self, partition: int, after: Position | None, until_ms: int | None) -> Iterator[KeptEntry]:
        key, first = stream_key(partition), "-" if after is None else _bound(after, partition, newer=True)
        end = "+" if until_ms is None else f"({until_ms}-0"
        yield from _chunked(
            lambda begin, count: self._redis.xrange(key, min=begin, max=end, count=count), first, partition
        )


def _order(position: Position | None, partition: int, *, newer: bool) -> tuple[int, int] | None:
    """The id after which, or before which, the entries of a partition are on the wanted side of a position."""
    if position is None:
        return None
    if position.number < 0:
        return (position.received_ms - 1, MAX_NUMBER) if newer else (position.received_ms, 0)
    taken = partition > position.partition if newer else partition < position.partition
    step = 0 if not taken else -1 if newer else 1
    return position.received_ms, position.number + step


def _bound(position: Position, partition: int, *, newer: bool) -> str:
    """Where the entries of a partition begin, or end, that are newer, or older, than a position."""
    if position.number < 0:
        return f"{position.received_ms}-0" if newer else f"({position.received_ms}-0"
    # Among entries with the same id the partition decides.
    taken = partition > position.partition if newer else partition < position.partition
    return position.entry_id if taken else f"({position.entry_id}"


def _chunked(read: Callable[[str, int], Any], bound: str, partition: int) -> Iterator[KeptEntry]:
    count = FEW_ENTRIES
    while True:
        raw = read(bound, count)
        size_bytes = 0
        for entry_id, fields in raw:
            body = fields.get(FIELD)
            size_bytes += len(body or b"")
            yield KeptEntry(_place(entry_id, partition), body)
        if len(raw) < count:
            return
        bound = f"({raw[-1][0].decode()}"
        if size_bytes <= SMALL_CHUNK_BYTES:
            count = min(2 * count, MOST_ENTRIES)


def _place(entry_id: bytes, partition: int) -> Position:
    milliseconds, _, number = entry_id.partition(b"-")
    return Position(int(milliseconds), int(number), partition)


def _position(entry: KeptEntry) -> Position:
    return entry.position
