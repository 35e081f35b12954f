"""The events of a time range, from the retained streams of all partitions, merged in the order of their ids.

Reads only. Entries that were trimmed are missing, and entries that are no valid events are skipped.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from itertools import takewhile
from time import monotonic

from redis import Redis

from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import decode_event
from shared.domain.explain.simulator import Arrival
from shared.dry_runs.kept_entries import MAX_NUMBER
from shared.dry_runs.time_range import TimeRange
from shared.messaging.streams import Entry, entry_order, read_within
from shared.storage.evaluation.event_log import EventLog

MAX_ENTRIES = 100_000
"""The most entries that a pass reads, since a request must end; the answer says where to go on."""
MAX_BYTES = 256 << 20
"""The most bytes of bodies that a pass reads, for the same reason; they are not kept."""
CHUNK_ENTRIES = 100
CHUNK_BYTES = 64 << 10
"""What is read from a stream by one command: so many entries, or until their bodies reach so much. All partitions'
chunks are in memory at the same time."""
_LAST_NUMBER = (1 << 64) - 1
"""Of the entries of a millisecond, by their ids."""


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
        until: float | None = None,
        log: EventLog | None = None,
    ) -> None:
        """Begin a pass, which ends at `until`, of the monotonic clock, at the latest; `log` has what was trimmed."""
        self._log = log
        self._redis = redis
        self._partitions = partitions
        self._range = time_range
        self._entities = frozenset(entities)
        self._max_entries = max_entries
        self._until = until
        self.truncated = False
        """Whether the pass stopped before the end of the range: after `max_entries` entries, `MAX_BYTES`, or
        at `until`."""
        self.read_bytes = 0
        """How many bytes of bodies were read."""
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
        merged = heapq.merge(*(self._of_partition(partition) for partition in range(self._partitions)), key=_order)
        for number, (partition, entry) in enumerate(merged):
            too_late = self._until is not None and number > 0 and monotonic() > self._until
            if number >= self._max_entries or self.read_bytes >= MAX_BYTES or too_late:
                self.truncated = True
                return
            self.read_bytes += len(entry.body or b"")
            self.read_until_ms = entry.received_ms
            yield partition, entry

    def _of_partition(self, partition: int) -> Iterator[tuple[int, Entry]]:
        since_ms, until_ms = self._range.since_ms, self._range.until_ms
        after = f"{since_ms - 1}-{_LAST_NUMBER}" if since_ms else "0-0"
        if self._log is not None:
            begin = since_ms - 1, MAX_NUMBER
            for order, body in self._log.forwards(partition, begin, until_ms, beside_others=True):
                after = f"{order[0]}-{order[1]}"
                yield partition, Entry(after, body)
        while True:
            found = read_within(self._redis, partition, after, CHUNK_ENTRIES, CHUNK_BYTES).entries
            for entry in takewhile(lambda entry: entry.received_ms < until_ms, found):
                yield partition, entry
            if not found or found[-1].received_ms >= until_ms:
                return
            after = found[-1].id


def _order(placed: tuple[int, Entry]) -> tuple[int, int]:
    return entry_order(placed[1].id)
