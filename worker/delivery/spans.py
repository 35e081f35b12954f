"""The spans of attempts. No payload, URL or error text goes into them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from shared.domain.delivery.retries import Decision, Verdict
from shared.observability import metrics
from shared.observability.trace_context import TraceContext, attempt_context, nanoseconds, read_traceparent
from shared.observability.tracing import Tracing
from shared.storage.delivery.claims import ClaimedDelivery
from worker.delivery.attempt_result import CompletedAttempt


def add_attempt_exemplars(attempts: Iterable[tuple[CompletedAttempt, Decision]], claim: int, now: datetime) -> None:
    """Let the durations of attempts, and of what was delivered from the event on, lead to their traces."""
    traced = [(*pair, context) for pair in attempts if (context := context_of(pair[0].delivery, claim)).sampled]
    metrics.ATTEMPT_DURATION.add_exemplars((one.outcome.duration_seconds, context.trace) for one, _, context in traced)
    metrics.EVENT_TO_DELIVERY.add_exemplars(
        (max(0.0, (now - one.delivery.event_received_at).total_seconds()), context.trace)
        for one, decision, context in traced
        if decision.verdict is Verdict.DELIVERED
    )


def context_of(delivery: ClaimedDelivery, claim: int) -> TraceContext:
    """The trace context of the attempt that is made of a delivery under a claim.

    It is worked out and not kept: the request carries it before the attempt has ended, and the span is made after.
    """
    return attempt_context(delivery.traceparent, delivery.id, delivery.attempts + 1, claim)


def trace_attempt(tracing: Tracing, webhook: str, sent: CompletedAttempt, decision: Decision, claim: int) -> None:
    """Record the span of an attempt that is recorded in the database."""
    began_ns = nanoseconds(sent.started_at)
    attributes: dict[str, str | int] = {
        "hookline.delivery_id": sent.delivery.id,
        "hookline.webhook_id": webhook,
        "hookline.attempt": sent.delivery.attempts + 1,
        "hookline.outcome": str(sent.outcome.kind),
        "hookline.verdict": str(decision.verdict),
        "http.request.method": "POST",
    }
    if sent.outcome.status is not None:
        attributes["http.response.status_code"] = sent.outcome.status
    tracing.span(
        "attempt",
        context_of(sent.delivery, claim),
        read_traceparent(sent.delivery.traceparent),
        kind="client",
        began_ns=began_ns,
        ended_ns=began_ns + int(sent.outcome.duration_seconds * 1e9),
        attributes=attributes,
        failed=decision.verdict is not Verdict.DELIVERED,
    )
