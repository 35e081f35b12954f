"""What people hear of a committed batch: metrics and log lines."""

from __future__ import annotations

import time

from shared.observability import metrics
from shared.observability.logs import get_logger
from worker.bootstrap import WorkerProcess
from worker.evaluation.batch import Batch
from worker.evaluation.firing_plan import FiringPlan
from worker.evaluation.spans import add_evaluation_exemplars, trace_firings

log = get_logger("hookline.evaluate")


def report_batch(runtime: WorkerProcess, batch: Batch, firings: FiringPlan) -> None:
    """Metrics, logs and wake-ups: only after the commit, so that nothing is told that did not happen."""
    runtime.waker.wake_webhooks(firings.webhooks, slow={one for one in firings.webhooks if firings.enabled[one].slow})
    now = time.time()
    metrics.events_evaluated(batch.types, [now - received_ms / 1000 for received_ms in batch.received_ms])
    metrics.firings(firings.fired)
    for reason, count in firings.skipped.items():
        metrics.SKIPPED.labels(reason=reason).inc(count)
    if firings.samples_ignored:
        metrics.SAMPLES_IGNORED.inc(firings.samples_ignored)
    if runtime.tracing is not None:
        trace_firings(runtime.tracing, firings.traces)
        add_evaluation_exemplars(firings.traces)
    for entry in batch.poison:
        metrics.POISON_ENTRIES.inc()
        log.warning("evaluation.poison", entry_id=entry.entry_id, reason=entry.reason)
