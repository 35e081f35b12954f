"""The events of a time range, from the retained streams of all partitions, merged in the order of their ids.

Reads only. Entries that were trimmed are missing, and entries that are no valid events are skipped.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from typing import Any

from redis import Redis

from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import decode_event
from shared.domain.explain.simulator import Arrival
from shared.dry_runs.time_range import TimeRange
from shared.messaging.streams import FIELD, Entry, stream_key

MAX_ENTRIES = 100_000
"""The most entries that a pass reads, since a request must end; the answer says where to go on."""
MAX_BYTES = 256 << 20
"""The most bytes of bodies that a pass reads, for the same reason; they are not kept."""
CHUNK_ENTRIES = 100
"""Entries read from a stream by one command. All partitions' chunks are in memory at the same time."""


class EventHistoryReader:
    """One pass over a time range, for the events of some entities. It belongs to one thread."""

    def __init__(
        self,
        redis: Redis,
        partitions: int,
        time_range: TimeRange,
        entities: Collection[str],
        *,
        max_entries: int = MAX_ENTRIES,
    ) -> None:
        self._redis = redis
        self._partitions = partitions
        self._range = time_range
        self._entities = frozenset(entities)
        self._max_entries = max_entries
        self.truncated = False
        """Whether the pass stopped before the end of the range: after `max_entries` entries or `MAX_BYTES`."""
        self.read_until_ms: int | None = None
        """When the stream received the last entry that was read, in Unix milliseconds; None before the first."""

    def arrivals(self) -> Iterator[Arrival]:
        """The events, as they came. Raises `redis.exceptions.RedisError`."""
        for partition, entry in self._bounded():
            try:
                event = decode_event(entry.body or b"")
            except InvalidDefinition:
                continue
            if event.data.entity in self._entities:
                yield Arrival(event, entry.received_ms, partition, entry.id)

    def _bounded(self) -> Iterator[tuple[int, Entry]]:
        size_bytes = 0
        merged = heapq.merge(*(self._of_partition(partition) for partition in range(self._partitions)), key=_order)
        for number, (partition, entry) in enumerate(merged):
            if number >= self._max_entries or size_bytes >= MAX_BYTES:
                self.truncated = True
                return
            size_bytes += len(entry.body or b"")
            self.read_until_ms = entry.received_ms
            yield partition, entry

    def _of_partition(self, partition: int) -> Iterator[tuple[int, Entry]]:
        first = str(self._range.since_ms)
        while True:
            raw: Any = self._redis.xrange(
                stream_key(partition), min=first, max=f"({self._range.until_ms}-0", count=CHUNK_ENTRIES
            )
            for entry_id, fields in raw:
                yield partition, Entry(entry_id.decode(), fields.get(FIELD))
            if len(raw) < CHUNK_ENTRIES:
                return
            first = f"({raw[-1][0].decode()}"


def _order(placed: tuple[int, Entry]) -> tuple[int, int]:
    return entry_order(placed[1].id)


def entry_order(entry_id: str) -> tuple[int, int]:
    """The order of an entry among those of all partitions: when its stream received it, and a number."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)
