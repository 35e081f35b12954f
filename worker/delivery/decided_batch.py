"""What follows from a batch of attempts to one webhook, worked out before anything of it is stored. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.domain.delivery.circuits import CircuitSignal, is_responsive, is_slow
from shared.domain.delivery.exchange import stored_exchange
from shared.domain.delivery.outcomes import OutcomeKind
from shared.domain.delivery.retries import Decision, DeliveryPolicy, Verdict, decide
from shared.storage.delivery.recording import AttemptRecord
from worker.delivery.attempt_result import CompletedAttempt

DecidedAttempt = tuple[CompletedAttempt, Decision]

_COMMON = frozenset({Verdict.DELIVERED, Verdict.RETRY})


@dataclass(frozen=True, slots=True)
class DecidedBatch:
    """Attempts in the order in which they ended, each with its decision."""

    attempts: Sequence[DecidedAttempt]
    at: datetime
    """When it was decided: retries count from then."""
    was_slow: bool
    slow: bool
    """Whether the webhook belongs in the slow lane, by these attempts."""
    rows: Sequence[AttemptRecord]

    @property
    def lane_changes(self) -> bool:
        """Whether the webhook moves to the slow lane, or back."""
        return self.slow != self.was_slow

    @property
    def all_delivered(self) -> bool:
        """Whether every attempt delivered."""
        return all(decision.verdict is Verdict.DELIVERED for _, decision in self.attempts)

    @property
    def is_usual(self) -> bool:
        """Whether all delivered and the webhook stays in its lane, so that mostly its row does not change."""
        return self.all_delivered and not self.lane_changes

    @property
    def tells_owners_nothing(self) -> bool:
        """Whether all were delivered or will be tried again: there is no dead letter, refusal or disabling in it."""
        return all(decision.verdict in _COMMON for _, decision in self.attempts)

    @property
    def undelivered(self) -> list[DecidedAttempt]:
        """The attempts that did not deliver."""
        return [pair for pair in self.attempts if pair[1].verdict is not Verdict.DELIVERED]

    @property
    def signals(self) -> list[CircuitSignal]:
        """What the webhook's circuit learns from each."""
        return [CircuitSignal(is_responsive(attempt.outcome), attempt.probe) for attempt, _ in self.attempts]

    @property
    def succeeded(self) -> bool:
        """Whether some delivered."""
        return any(self._delivered())

    @property
    def failed(self) -> bool:
        """Whether some failed. A fault of Hookline's own is no failure of the webhook."""
        return not all(self._delivered())

    @property
    def disables_webhook(self) -> bool:
        """Whether an answer asks for nothing more to be sent, as 410 Gone does."""
        return any(decision.disable_webhook for _, decision in self.attempts)

    def _delivered(self) -> list[bool]:
        return [
            decision.verdict is Verdict.DELIVERED
            for attempt, decision in self.attempts
            if attempt.outcome.kind is not OutcomeKind.INTERNAL
        ]


def decide_batch(
    policy: DeliveryPolicy,
    completed: Sequence[CompletedAttempt],
    *,
    url: str,
    at: datetime,
    was_slow: bool,
    jitter: Callable[[], float],
) -> DecidedBatch:
    """Decide what follows from attempts.

    Args:
        policy: the webhook's.
        completed: the attempts, with outcomes and headers that may be stored: without secrets.
        url: the webhook's, without secrets.
        at: the time.
        was_slow: whether the webhook is in the slow lane so far.
        jitter: gives a number from 0 to 1 for each attempt, which spreads its retry.
    """
    attempts = [(one, decide(policy, one.outcome, attempt=_number(one), jitter=jitter())) for one in completed]
    slow = is_slow([one.outcome for one in completed], before=was_slow)
    return DecidedBatch(attempts, at, was_slow, slow, [_row(*pair, url, at) for pair in attempts])


def _number(attempt: CompletedAttempt) -> int:
    return attempt.delivery.attempts + 1


def _row(attempt: CompletedAttempt, decision: Decision, url: str, at: datetime) -> AttemptRecord:
    again = decision.verdict is Verdict.RETRY
    delivered = decision.verdict is Verdict.DELIVERED
    outcome, exchange = attempt.outcome, None
    if outcome.exchange is not None and attempt.headers is not None:
        exchange = stored_exchange(outcome.exchange, attempt.headers)
    return AttemptRecord(
        seq=attempt.delivery.seq,
        number=_number(attempt),
        started_at=attempt.started_at,
        duration_ms=round(outcome.duration_seconds * 1000),
        outcome=str(outcome.kind),
        status_code=outcome.status,
        error=outcome.error,
        response_body=outcome.response_body,
        response_truncated=outcome.response_truncated,
        request_url=None if exchange is None else url,
        exchange=exchange,
        next_attempt_at=at + timedelta(seconds=decision.delay_seconds or 0) if again else None,
        final_status=None if again else str(decision.verdict),
        reason=None if delivered else decision.reason,
    )
