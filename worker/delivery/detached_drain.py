"""What is left of a drain that has ended while requests were in flight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from worker.delivery.attempt_result import AttemptResult
from worker.delivery.recorded_batch import RecordedBatch
from worker.delivery.recorder import OutcomeRecorder


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetachedDrain:
    """What a drain left in flight, for the background recorder. Its identity is its key there."""

    webhook_id: int
    webhook: str
    """The webhook's public id."""
    leased_until: datetime
    recorder: OutcomeRecorder

    def note(self, _recorded: RecordedBatch) -> None:
        """Nobody claims by what is known of the webhook any more."""

    def may_have_more(self, recorded: RecordedBatch, _results: Sequence[AttemptResult]) -> bool:
        """Whatever the drain left due has no drain any more; unless nothing may be sent for now."""
        return recorded.disabled is None and recorded.circuit.opened_at is None
