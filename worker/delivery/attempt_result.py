"""How a delivery's claim ended: an attempt with its outcome, or a claim released unsent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from shared.domain.delivery.outcomes import Outcome, OutcomeKind
from shared.storage.delivery.claims import ClaimedDelivery

LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CompletedAttempt:
    """A delivery whose request was made, or could not be made, and with which outcome."""

    delivery: ClaimedDelivery
    started_at: datetime
    outcome: Outcome
    probe: bool = False
    """Whether it was let through a half-open circuit."""
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    """Those of the request, which hold secrets until they are masked; None where no request could be made."""


@dataclass(frozen=True, slots=True)
class ReleasedClaim:
    """A delivery that was claimed and not sent: it becomes due again, and whoever claims it next sends it."""

    delivery: ClaimedDelivery


AttemptResult = CompletedAttempt | ReleasedClaim


def is_failure(result: AttemptResult) -> bool:
    """Whether a request was made and did not deliver; a released claim is no failure."""
    return isinstance(result, CompletedAttempt) and result.outcome.kind is not OutcomeKind.SUCCESS
