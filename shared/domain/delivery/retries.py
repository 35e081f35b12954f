"""The retry policy: whether a delivery is delivered, retried, dead or refused after an attempt.

A decision is a value, computed from the policy, the outcome and the attempt's number. This module must not sleep, read
a clock or draw a random number: a retry is a row with a time, which storage writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema

from shared.domain.delivery.answer_rules import MAX_STATUSES, RefusedStatus, SuccessRule, includes
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
    """The longest wait that an endpoint may ask for, by `Retry-After` or a rate limit's reset."""
    retried_statuses: tuple[RefusedStatus, ...] = Field(
        default=(408, 425, 429, "5xx"),
        max_length=MAX_STATUSES,
        strict=False,
    )
    """The statuses, and classes of them, that are retried. Any other is too where the answer says when."""
    success: SuccessRule | None = None
    """Which answers count as a success; any 2xx when unset. What the rule does not take is retried."""
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

    def stored_form(self) -> dict[str, Any]:
        """The policy as JSON, without members of later releases that have their defaults.

        So a row stays what it was until one of them is used, and a worker of the release before can read it.
        """
        members = self.model_dump(mode="json")
        return {name: value for name, value in members.items() if name not in _LATER or value != _LATER[name]}


_LATER = {
    name: value
    for name, value in DeliveryPolicy().model_dump(mode="json").items()
    if name in ("retried_statuses", "success")
}


def whole_policy(stored: dict[str, Any]) -> dict[str, Any]:
    """A stored policy with every member that it has by now, as JSON. Raises ValidationError for one that is none."""
    return DeliveryPolicy.model_validate(stored).model_dump(mode="json")


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


_RETRIED_UNANSWERED = frozenset({OutcomeKind.TIMEOUT, OutcomeKind.NETWORK, OutcomeKind.INTERNAL})
_UNANSWERED_KINDS = _RETRIED_UNANSWERED | {OutcomeKind.BLOCKED}
GONE = 410
"""The status that disables a webhook."""


def decide(policy: DeliveryPolicy, outcome: Outcome, *, attempt: int, jitter: float) -> Decision:
    """Decide what follows attempt number `attempt` (the first is 1).

    A retry waits as the schedule says, shortened or lengthened by up to `policy.jitter` of it (`jitter`, a random
    number in [0, 1), says where between), and at least as long as the endpoint asks for, up to a cap. An answer that
    says when to come back is retried whatever its status: it says that it passes. Otherwise 410 also disables the
    webhook, as Standard Webhooks advises.

    Raises:
        ValueError: for an attempt below 1 or a jitter outside [0, 1).
    """
    if attempt < 1 or not 0 <= jitter < 1:
        raise ValueError("attempt must be at least 1, and jitter in [0, 1)")
    reason = _reason(outcome)
    if outcome.kind is OutcomeKind.SUCCESS:
        return Decision(verdict=Verdict.DELIVERED, reason=reason)
    if not is_retried(policy, outcome):
        return Decision(verdict=Verdict.REFUSED, reason=reason, disable_webhook=outcome.status == GONE)
    delay = _scheduled_delay(policy, attempt=attempt)
    if delay is None:
        made = "1 attempt" if attempt == 1 else f"{attempt} attempts"
        return Decision(verdict=Verdict.DEAD, reason=f"out of retries after {made}: {reason}")
    delay *= 1 + policy.jitter * (2 * jitter - 1)
    return Decision(verdict=Verdict.RETRY, reason=reason, delay_seconds=max(delay, _requested_delay(policy, outcome)))


def is_retried(policy: DeliveryPolicy, outcome: Outcome) -> bool:
    """Whether a delivery is tried again after this outcome, while its schedule lasts: it may fare better later."""
    if outcome.kind in _UNANSWERED_KINDS or outcome.status is None:
        return outcome.kind in _RETRIED_UNANSWERED
    if outcome.kind is OutcomeKind.UNSUCCESSFUL or outcome.retry_after_seconds is not None:
        return True
    return includes(policy.retried_statuses, outcome.status)


def _scheduled_delay(policy: DeliveryPolicy, *, attempt: int) -> float | None:
    """The delay in seconds after this attempt, the first being 1; None when the schedule has no retry left."""
    schedule = policy.schedule_seconds
    return schedule[attempt - 1] if attempt <= len(schedule) else None


def _requested_delay(policy: DeliveryPolicy, outcome: Outcome) -> float:
    return min(outcome.retry_after_seconds or 0.0, policy.retry_after_cap_seconds)


def _reason(outcome: Outcome) -> str:
    if outcome.kind in _UNANSWERED_KINDS:
        return f"{outcome.kind}: {outcome.error}" if outcome.error else str(outcome.kind)
    answered = f"the endpoint answered {outcome.status}"
    return f"{answered}, but {outcome.error}" if outcome.kind is OutcomeKind.UNSUCCESSFUL else answered
