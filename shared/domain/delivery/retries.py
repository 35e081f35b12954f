"""The retry policy: whether a delivery is delivered, retried, dead or refused after an attempt.

A decision is a value, computed from the policy, the outcome and the attempt's number. This module must not sleep, read
a clock or draw a random number: a retry is a row with a time, which storage writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema

from shared.domain.delivery.outcomes import Outcome, OutcomeKind
from shared.domain.durations import Rate, parse_rate
from shared.domain.errors import InvalidDefinition

WEEK_SECONDS = 7 * 86400


def _rate(value: object) -> Rate:
    try:
        return parse_rate(value)
    except InvalidDefinition as exc:
        raise ValueError(exc.errors[0].msg) from exc


DelaySeconds = Annotated[float, Field(ge=0, le=WEEK_SECONDS, allow_inf_nan=False)]
RequestRate = Annotated[
    Rate, PlainValidator(_rate), PlainSerializer(str), WithJsonSchema({"type": "string", "examples": ["10/s"]})
]


class DeliveryPolicy(BaseModel):
    """How a webhook's deliveries are attempted. The default schedule ends after about 28 hours."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    timeout_seconds: float = Field(default=15.0, ge=0.1, le=120)
    """For a whole attempt, from the connection to the end of the answer."""
    connect_timeout_seconds: float = Field(default=5.0, ge=0.1, le=60)
    """For the connection alone, TLS included."""
    schedule_seconds: tuple[DelaySeconds, ...] = Field(
        default=(5.0, 30.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 36000.0),
        max_length=20,
        strict=False,  # JSON has lists; their members are checked strictly
    )
    """The delay before each retry; its length is the number of retries, none when empty."""
    jitter: float = Field(default=0.2, ge=0, le=1)
    """The part of a delay by which it is shortened or lengthened at most."""
    retry_after_cap_seconds: DelaySeconds = 3600.0
    """The longest `Retry-After` that is honoured."""
    rate_limit: RequestRate | None = None
    """The most requests in a period, evenly spaced; no limit when unset."""
    concurrency: int | None = Field(default=None, ge=1, le=1000)
    """The most requests in flight, over all workers; when unset, each worker process has its own limit."""
    circuit_failures: int = Field(default=20, ge=0, le=10_000)
    """The number of failures in a row that opens the circuit; 0: it never opens."""
    circuit_cool_off_seconds: float = Field(default=10.0, ge=0.1, le=86400)
    """How long nothing is sent when the circuit opens; twice as long each time that it opens again."""
    circuit_cool_off_cap_seconds: float = Field(default=300.0, ge=0.1, le=86400)
    """The longest that nothing is sent."""


class Verdict(StrEnum):
    """The result of an attempt for its delivery."""

    #: The endpoint took it.
    DELIVERED = "delivered"
    #: Another attempt follows.
    RETRY = "retry"
    #: The schedule is used up: a dead letter.
    DEAD = "dead"
    #: Another attempt would get the same answer: a dead letter without retries.
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The decision after an attempt; `delay_seconds` is set for a retry, `reason` is a short text for people."""

    verdict: Verdict
    reason: str
    delay_seconds: float | None = None
    disable_webhook: bool = False


_RETRIED_KINDS = frozenset({OutcomeKind.SERVER_ERROR, OutcomeKind.TIMEOUT, OutcomeKind.NETWORK, OutcomeKind.INTERNAL})
_UNANSWERED_KINDS = frozenset({OutcomeKind.TIMEOUT, OutcomeKind.NETWORK, OutcomeKind.BLOCKED, OutcomeKind.INTERNAL})
_RETRIED_STATUSES = frozenset({408, 425, 429})
_RETRY_AFTER_STATUSES = frozenset({429, 503})
_GONE = 410


def decide(policy: DeliveryPolicy, outcome: Outcome, *, attempt: int, jitter: float) -> Decision:
    """Decide what follows attempt number `attempt` (the first is 1).

    A retry waits as the schedule says, shortened or lengthened by up to `policy.jitter` of it (`jitter`, a random
    number in [0, 1), says where between), and on 429 and 503 at least the endpoint's `Retry-After`, up to its cap.
    410 also disables the webhook, as Standard Webhooks advises.

    Raises:
        ValueError: for an attempt below 1 or a jitter outside [0, 1).
    """
    if attempt < 1 or not 0 <= jitter < 1:
        raise ValueError("attempt must be at least 1, and jitter in [0, 1)")
    reason = _reason(outcome)
    if outcome.kind is OutcomeKind.SUCCESS:
        return Decision(verdict=Verdict.DELIVERED, reason=reason)
    if not _is_retryable(outcome):
        return Decision(verdict=Verdict.REFUSED, reason=reason, disable_webhook=outcome.status == _GONE)
    delay = _scheduled_delay(policy, attempt=attempt)
    if delay is None:
        return Decision(verdict=Verdict.DEAD, reason=f"out of retries after {attempt} attempts: {reason}")
    delay *= 1 + policy.jitter * (2 * jitter - 1)
    return Decision(verdict=Verdict.RETRY, reason=reason, delay_seconds=max(delay, _requested_delay(policy, outcome)))


def _is_retryable(outcome: Outcome) -> bool:
    """Whether the same request may fare better later."""
    if outcome.kind is OutcomeKind.CLIENT_ERROR:
        return outcome.status in _RETRIED_STATUSES
    return outcome.kind in _RETRIED_KINDS


def _scheduled_delay(policy: DeliveryPolicy, *, attempt: int) -> float | None:
    """The delay in seconds after this attempt, the first being 1; None when the schedule has no retry left."""
    schedule = policy.schedule_seconds
    return schedule[attempt - 1] if attempt <= len(schedule) else None


def _requested_delay(policy: DeliveryPolicy, outcome: Outcome) -> float:
    if outcome.status not in _RETRY_AFTER_STATUSES or outcome.retry_after_seconds is None:
        return 0.0
    return min(outcome.retry_after_seconds, policy.retry_after_cap_seconds)


def _reason(outcome: Outcome) -> str:
    if outcome.kind in _UNANSWERED_KINDS:
        return f"{outcome.kind}: {outcome.error}" if outcome.error else str(outcome.kind)
    return f"the endpoint answered {outcome.status}"
