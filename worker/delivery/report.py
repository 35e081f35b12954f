"""What people hear of recorded attempts: one log line each, and the metrics."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from shared.delivery.endpoint import Endpoint
from shared.domain.delivery.retries import Decision, Verdict
from shared.domain.ids import IdKind, encode_id
from shared.observability import metrics
from shared.observability.logs import get_logger, is_written
from worker.delivery.attempt_result import CompletedAttempt
from worker.delivery.spans import context_of

log = get_logger("hookline.deliver")


def count_attempts(
    decided: Sequence[tuple[CompletedAttempt, Decision]], finished: frozenset[int], now: datetime
) -> None:
    """Count attempts of any webhooks in metrics. Call it only after the commit.

    Args:
        decided: the attempts, each with its decision.
        finished: the `seq` of the deliveries that came to an end.
        now: when that was recorded.
    """
    for outcome, count in Counter(
        str(decision.verdict) for sent, decision in decided if sent.delivery.seq in finished
    ).items():
        metrics.count_finished(outcome, count)
    metrics.EVENT_TO_DELIVERY.observe_all(
        [
            max(0.0, (now - sent.delivery.event_received_at).total_seconds())
            for sent, decision in decided
            if decision.verdict is Verdict.DELIVERED
        ]
    )


def log_attempts(
    endpoint: Endpoint, decided: Sequence[tuple[CompletedAttempt, Decision]], *, claim: int | None
) -> None:
    """Log one line for each attempt. Call it only after the commit.

    Args:
        endpoint: where they went.
        decided: the attempts, each with its decision.
        claim: the claim token, by which the spans of attempts are named; None in workers that do not trace.
    """
    if not is_written("hookline.deliver", logging.INFO):
        return
    lines = (_line(endpoint, *pair) for pair in decided)
    if claim is not None:
        traces = (context_of(sent.delivery, claim).trace for sent, _ in decided)
        lines = (line | {"trace_id": trace} for line, trace in zip(lines, traces, strict=True))
    for line in lines:
        log.info("delivery.attempted", **line)


def _line(endpoint: Endpoint, sent: CompletedAttempt, decision: Decision) -> dict[str, Any]:
    """The line of an attempt, with the ids by which the API, the commands and receivers know its parts."""
    delivery, outcome = sent.delivery, sent.outcome
    automation_id = delivery.automation_id
    return {
        "delivery_id": delivery.id,
        "webhook_id": endpoint.webhook,
        "automation_id": None if automation_id is None else encode_id(IdKind.AUTOMATION, automation_id),
        "entity": delivery.entity,
        "event_id": delivery.event_id,
        "event_source": delivery.event_source,
        "event_type": delivery.event_type,
        "attempt": delivery.attempts + 1,
        "max_attempts": len(endpoint.policy.schedule_seconds) + 1,
        "outcome": str(outcome.kind),
        "status": outcome.status,
        "error": outcome.error,
        "duration_ms": round(outcome.duration_seconds * 1000),
        "verdict": str(decision.verdict),
        "retry_in_seconds": None if decision.delay_seconds is None else round(decision.delay_seconds, 3),
    }
