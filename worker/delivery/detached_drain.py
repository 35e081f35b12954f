"""What is left of a drain that has ended while requests were in flight."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from shared.observability.logs import get_logger
from worker.delivery.attempt_result import AttemptResult
from worker.delivery.due_check import DueCheck
from worker.delivery.in_flight import InFlightLimiter
from worker.delivery.recorder import OutcomeRecorder

log = get_logger("hookline.deliver")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetachedDrain:
    """Records what a drain left in flight, and wakes another drain where there is more to do.

    Its identity is its key in the background recorder, on whose threads it is used, one at a time.
    """

    webhook_id: int
    webhook: str
    """The webhook's public id."""
    leased_until: datetime
    recorder: OutcomeRecorder
    limiter: InFlightLimiter
    due_check: DueCheck

    def complete(self, results: list[AttemptResult]) -> None:
        """Record results, release their slots, and wake another drain where there is more to do."""
        try:
            recorded = self.recorder.record(results)
        finally:
            self.limiter.release(self.webhook_id, len(results))
        if recorded.disabled or recorded.circuit.opened_at is not None:
            return
        try:
            self.due_check.wake_if_due(self.webhook_id, slow=recorded.slow)
        except SQLAlchemyError as exc:
            log.warning("wake.failed", error=type(exc).__name__)  # and what has ended is recorded all the same
