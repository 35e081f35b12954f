"""The spans of evaluations: one for each firing. No payload, URL or error text goes into them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime

from shared.domain.ids import IdKind, encode_id
from shared.observability import metrics
from shared.observability.trace_context import nanoseconds
from shared.observability.tracing import Tracing
from worker.evaluation.firing_plan import FiringTrace


def trace_firings(tracing: Tracing, traces: Iterable[FiringTrace]) -> None:
    """Record the spans of firings that are committed."""
    ended_ns = time.time_ns()
    for own, parent, delivery in traces:
        tracing.span(
            f"evaluate {delivery['event_type']}",
            own,
            parent,
            kind="consumer",
            began_ns=nanoseconds(delivery["created_at"]),
            ended_ns=ended_ns,
            attributes={
                "hookline.delivery_id": delivery["id"],
                "hookline.automation_id": encode_id(IdKind.AUTOMATION, delivery["automation_id"]),
                "hookline.delivery_status": delivery["status"],
                "cloudevents.event_id": delivery["event_id"],
                "cloudevents.event_source": delivery["event_source"],
                "cloudevents.event_type": delivery["event_type"],
            },
        )


def add_evaluation_exemplars(traces: Iterable[FiringTrace]) -> None:
    """Let the delays of evaluations that fired lead to their traces."""
    now = datetime.now(UTC)
    metrics.EVALUATION_DELAY.add_exemplars(
        (max(0.0, (now - delivery["event_received_at"]).total_seconds()), own.trace)
        for own, _, delivery in traces
        if own.sampled
    )
