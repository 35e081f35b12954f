"""A time span of the retained event streams: all partitions' entries, merged in the order of their ids.

Reads only. What a stream has trimmed is gone; what is no event is passed over, as it was set aside by evaluation.
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
MAX_BYTES = 256 << 20
CHUNK_ENTRIES = 100


class EventHistoryReader:
    """One pass over a span, for the events of some entities."""

    def __init__(
        self,
        redis: Redis,
        partitions: int,
        span: TimeRange,
        entities: Collection[str],
        *,
        max_entries: int = MAX_ENTRIES,
    ) -> None:
        self._redis = redis
        self._partitions = partitions
        self._span = span
        self._entities = frozenset(entities)
        self._max_entries = max_entries
        self.truncated = False
        """Whether the pass stopped before the span's end: after `max_entries` entries or `MAX_BYTES`."""
        self.read_until_ms: int | None = None
        """When the last entry was received that was read; None when there was none."""

    def arrivals(self) -> Iterator[Arrival]:
        """The events, as they came. Raises `redis.exceptions.RedisError`."""
        for entry in self._bounded():
            try:
                event = decode_event(entry.body or b"")
            except InvalidDefinition:
                continue
            if event.data.entity in self._entities:
                yield Arrival(event, entry.received_ms)

    def _bounded(self) -> Iterator[Entry]:
        size_bytes = 0
        merged = heapq.merge(*(self._of_partition(partition) for partition in range(self._partitions)), key=_order)
        for number, entry in enumerate(merged):
            if number >= self._max_entries or size_bytes >= MAX_BYTES:
                self.truncated = True
                return
            size_bytes += len(entry.body or b"")
            self.read_until_ms = entry.received_ms
            yield entry

    def _of_partition(self, partition: int) -> Iterator[Entry]:
        first = str(self._span.since_ms)
        while True:
            raw: Any = self._redis.xrange(
                stream_key(partition), min=first, max=f"({self._span.until_ms}-0", count=CHUNK_ENTRIES
            )
            for entry_id, fields in raw:
                yield Entry(entry_id.decode(), fields.get(FIELD))
            if len(raw) < CHUNK_ENTRIES:
                return
            first = f"({raw[-1][0].decode()}"


def _order(entry: Entry) -> tuple[int, int]:
    milliseconds, _, number = entry.id.partition("-")
    return int(milliseconds), int(number)
