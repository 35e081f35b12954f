"""The spans of evaluations: one for each firing. No payload, URL or error text goes into them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from shared.domain.ids import IdKind, encode_id
from shared.observability import metrics
from shared.observability.trace_context import TraceContext, nanoseconds
from shared.observability.tracing import Tracing


def trace_firings(tracing: Tracing, traces: Iterable[tuple[TraceContext, TraceContext | None, dict[str, Any]]]) -> None:
    """Firings that are committed."""
    ended_ns = time.time_ns()
    for own, parent, row in traces:
        tracing.span(
            f"evaluate {row['event_type']}",
            own,
            parent,
            kind="consumer",
            began_ns=nanoseconds(row["created_at"]),
            ended_ns=ended_ns,
            attributes={
                "hookline.delivery_id": row["id"],
                "hookline.automation_id": encode_id(IdKind.AUTOMATION, row["automation_id"]),
                "hookline.delivery_status": row["status"],
                "cloudevents.event_id": row["event_id"],
                "cloudevents.event_source": row["event_source"],
                "cloudevents.event_type": row["event_type"],
            },
        )


def add_evaluation_exemplars(traces: Iterable[tuple[TraceContext, TraceContext | None, dict[str, Any]]]) -> None:
    """Let the delays of evaluations that fired lead to their traces."""
    now = datetime.now(UTC)
    metrics.EVALUATION_DELAY.add_exemplars(
        (max(0.0, (now - row["event_received_at"]).total_seconds()), own.trace) for own, _, row in traces if own.sampled
    )
