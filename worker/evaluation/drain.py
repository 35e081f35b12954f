"""drain_partition: work one partition batch by batch until nothing is left or its time slice is over."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Protocol

from redis import Redis

from shared.domain.events.partitioning import Offset
from worker.coordination.partition_lease import PartitionLease, acquire_lease
from worker.evaluation.evaluator import BATCH_BYTES, BatchEvaluator, Progress


class PartitionWaker(Protocol):
    """What sends wake-ups to drains of partitions."""

    def wake_partitions(self, partitions: Iterable[int]) -> object:
        """Wake the drains of these partitions."""


class PartitionDrainer:
    """Drains partitions, each on the thread that asks for it. Threads share it: it keeps nothing of a drain."""

    def __init__(
        self,
        *,
        redis: Redis,
        evaluator: BatchEvaluator,
        waker: PartitionWaker,
        slice_seconds: float,
        batch_entries: int,
    ) -> None:
        self._redis = redis
        self._evaluator = evaluator
        self._waker = waker
        self._slice_seconds = slice_seconds
        self._batch_entries = batch_entries

    def drain(self, partition: int) -> int:
        """Evaluate a partition until nothing is left or the time slice is over; then make room for other drains.

        Returns:
            The number of entries evaluated; 0 also where another drain is at work on the partition.

        Raises:
            SQLAlchemyError, RedisError, BrokerUnavailable: when the database, Redis or the broker is away. The pump
                wakes the partition again.
        """
        deadline = time.monotonic() + self._slice_seconds
        evaluated = 0
        while (lease := acquire_lease(self._redis, partition, self._batch_entries, BATCH_BYTES)) is not None:
            offset: Offset | None = None
            more = False
            try:
                for progress in self._batches(lease, deadline):
                    offset = progress.offset
                    evaluated += progress.count
            finally:
                more = lease.release(offset)
            if not more:
                break
            if time.monotonic() >= deadline:
                self._waker.wake_partitions([partition])
                break
        return evaluated

    def _batches(self, lease: PartitionLease, deadline: float) -> Iterator[Progress]:
        """Evaluate batch after batch, for as long as the lease and the time slice last."""
        partition = lease.partition
        if lease.cached_offset is not None and lease.next.entries:
            # An offset that is behind is found out when the batch is committed.
            progress = self._evaluator.evaluate_entries(partition, lease.cached_offset, lease.next)
        else:
            # One that is ahead found nothing, so where nothing was found the database is asked.
            progress = self._evaluator.evaluate_next(partition)
        yield progress
        while progress.count >= self._batch_entries and time.monotonic() < deadline and lease.renew():
            progress = self._evaluator.evaluate_after(partition, progress.offset)
            yield progress
