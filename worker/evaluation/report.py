"""What people hear of a committed batch: wake-ups, metrics and log lines."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Protocol

from shared.observability import metrics
from shared.observability.logs import get_logger
from shared.observability.tracing import Tracing
from worker.evaluation.batch import Batch
from worker.evaluation.commit import CommittedBatch
from worker.evaluation.spans import add_evaluation_exemplars, trace_firings

log = get_logger("hookline.evaluate")


class WebhookWaker(Protocol):
    """What sends wake-ups to drains of webhooks."""

    def wake_webhooks(self, webhook_ids: Iterable[int], *, slow: Collection[int] = ()) -> None:
        """Wake the drains of these webhooks; those that are `slow` in a lane of their own."""


class BatchReporter:
    """Reports batches once they are committed, so that nothing is told that did not happen."""

    def __init__(self, *, waker: WebhookWaker, tracing: Tracing | None) -> None:
        self._waker = waker
        self._tracing = tracing

    def report(self, batch: Batch, committed: CommittedBatch) -> None:
        """Wake the webhooks that have work, and write metrics, spans and logs.

        Raises:
            RedisError, BrokerUnavailable: when nobody could be woken. The pump's next sweep finds the work.
        """
        plan, webhooks = committed.plan, committed.to_wake
        self._waker.wake_webhooks(webhooks, slow={one for one, snapshot in webhooks.items() if snapshot.slow})
        now = time.time()
        metrics.count_evaluated(batch.types, [now - received_ms / 1000 for received_ms in batch.received_ms])
        metrics.count_firings(plan.fired)
        for reason, count in plan.skipped.items():
            metrics.SKIPPED.labels(reason=reason).inc(count)
        if plan.samples_ignored:
            metrics.SAMPLES_IGNORED.inc(plan.samples_ignored)
        if self._tracing is not None:
            trace_firings(self._tracing, plan.traces)
            add_evaluation_exemplars(plan.traces)
        for entry in batch.poison:
            metrics.POISON_ENTRIES.inc()
            log.warning("evaluation.poison", entry_id=entry.entry_id, reason=entry.reason)
