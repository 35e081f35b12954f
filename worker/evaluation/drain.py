"""drain_partition: work one partition batch by batch until nothing is left or its time slice is over."""

from __future__ import annotations

import time
from collections.abc import Iterator

from shared.domain.events.partitioning import Offset
from worker.bootstrap import WorkerProcess
from worker.coordination.partition_lease import PartitionLease, acquire_lease
from worker.evaluation.evaluator import BATCH_BYTES, Progress, evaluate_batch


def drain_partition(runtime: WorkerProcess, partition: int) -> int:
    """Evaluate a partition until nothing is left or the time slice is over; then make room for other drains.

    Returns:
        The number of entries evaluated.
    """
    deadline = time.monotonic() + runtime.settings.drain_slice.total_seconds()
    evaluated = 0
    while (turn := acquire_lease(runtime.redis, partition, runtime.settings.evaluate_batch, BATCH_BYTES)) is not None:
        offset: Offset | None = None
        more = False
        try:
            for progress in _batches(runtime, turn, deadline):
                offset = progress.offset
                evaluated += progress.count
        finally:
            more = turn.end(offset)
        if not more:
            break
        if time.monotonic() >= deadline:
            runtime.waker.wake_partitions([partition])
            break
    return evaluated


def _batches(runtime: WorkerProcess, turn: PartitionLease, deadline: float) -> Iterator[Progress]:
    """Evaluate batch after batch, for as long as the turn and the time slice last."""
    # What the turn read is good if it is something: a mark that is behind is found out when the batch is committed.
    # One that is ahead would find nothing.
    ready = (turn.marked, turn.entries) if turn.marked is not None and turn.entries else None
    progress = evaluate_batch(runtime, turn.partition, ready)
    yield progress
    while progress.count >= runtime.settings.evaluate_batch and time.monotonic() < deadline and turn.renew():
        progress = evaluate_batch(runtime, turn.partition, (progress.offset, None))
        yield progress
