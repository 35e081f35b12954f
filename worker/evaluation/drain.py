"""drain_partition: work one partition batch by batch until nothing is left or its time slice is over."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Protocol

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import DataError, SQLAlchemyError

from shared.domain.events.partitioning import Offset
from shared.messaging.wakeups import BrokerUnavailable
from worker.coordination.lease_keeper import LeaseKeeper
from worker.coordination.partition_lease import Ending, PartitionLease, acquire_lease
from worker.evaluation.evaluator import BATCH_BYTES, BatchEvaluator, Progress
from worker.evaluation.stored_state import StaleAutomation

SET_ASIDE_AFTER = 3
"""How often an entry may be begun and not finished before it is set aside: once among others, then alone.

At two, a process that is killed at a bad moment would be enough; each more is another worker that dies."""
_REASON = "its evaluation ended its worker or failed {} times in a row: it is set aside, and was not evaluated"


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
        keeper: LeaseKeeper,
        slice_seconds: float,
        batch_entries: int,
    ) -> None:
        self._redis = redis
        self._evaluator = evaluator
        self._waker = waker
        self._keeper = keeper
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
        self._evaluator.load_automations()  # before the lease: the first time it takes long
        while (lease := acquire_lease(self._redis, partition, self._batch_entries, BATCH_BYTES)) is not None:
            offset: Offset | None = None
            more = False
            ending = Ending.FINISHED
            try:
                with self._keeper.keeping(lease):
                    for progress in self._batches(lease, deadline):
                        self._keeper.moved_on(partition)
                        offset = progress.offset
                        evaluated += progress.count
            except Exception as exc:
                ending = _ending(exc)
                raise
            finally:
                more = lease.release(offset, ending)
            if not more:
                break
            if time.monotonic() >= deadline:
                self._waker.wake_partitions([partition])
                break
        return evaluated

    def _batches(self, lease: PartitionLease, deadline: float) -> Iterator[Progress]:
        """Evaluate batch after batch, for as long as the lease and the time slice last."""
        partition = lease.partition
        if lease.begun:
            yield self._evaluate_suspect(lease)
            return
        if lease.cached_offset is not None and lease.next.entries:
            # An offset that is behind is found out when the batch is committed.
            progress = self._evaluator.evaluate_entries(partition, lease.cached_offset, lease.next)
        else:
            # One that is ahead found nothing, so where nothing was found the database is asked.
            progress = self._evaluator.evaluate_next(partition)
        yield progress
        while progress.count >= self._batch_entries and time.monotonic() < deadline and lease.renew(progress.offset):
            progress = self._evaluator.evaluate_after(partition, progress.offset)
            yield progress

    def _evaluate_suspect(self, lease: PartitionLease) -> Progress:
        """Evaluate a single entry, since it was begun before and not finished.

        Nothing else is evaluated beside it in this process: if the process ends again, the entry was the cause.
        """
        offset, read = lease.cached_offset, lease.next
        if offset is None or not read.entries:
            offset, read = self._evaluator.read_next(lease.partition)
        if not read.entries:
            return Progress(0, offset)
        if lease.begun >= SET_ASIDE_AFTER:
            return self._evaluator.set_aside(lease.partition, offset, read.entries[0], _REASON.format(lease.begun))
        return self._evaluator.evaluate_alone(lease.partition, offset, read, begin=lease.begin_again)


def _ending(exc: Exception) -> Ending:
    """Whether a failure has its cause in an entry, or in something that every entry needs."""
    if isinstance(exc, DataError):  # the database takes other entries
        return Ending.FAILED
    if isinstance(exc, (SQLAlchemyError, RedisError, BrokerUnavailable, OSError, StaleAutomation)):
        return Ending.INTERRUPTED
    return Ending.FAILED
