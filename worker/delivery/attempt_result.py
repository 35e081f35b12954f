"""How a delivery's claim ended: an attempt with its outcome, or a claim released unsent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from shared.domain.delivery.outcomes import Outcome, OutcomeKind
from shared.storage.delivery.claims import ClaimedDelivery

LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CompletedAttempt:
    """A delivery whose attempt has ended."""

    delivery: ClaimedDelivery
    started_at: datetime
    outcome: Outcome
    probe: bool = False
    """Whether it was let through a half-open circuit."""


@dataclass(frozen=True, slots=True)
class ReleasedClaim:
    """A delivery that was claimed, and not sent after all: it is due for whoever claims it next."""

    delivery: ClaimedDelivery


AttemptResult = CompletedAttempt | ReleasedClaim


def is_failure(ended: AttemptResult) -> bool:
    """Whether an attempt did not deliver."""
    return isinstance(ended, CompletedAttempt) and ended.outcome.kind is not OutcomeKind.SUCCESS
