"""What recording a batch of attempts comes to: what the webhook is like now, or why nothing was recorded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from shared.domain.delivery.circuits import Circuit


@dataclass(frozen=True, slots=True)
class RecordedBatch:
    """What a webhook is like after a batch of its attempts was recorded."""

    finished: frozenset[int]
    """The `seq` of the deliveries that came to an end with this batch."""
    circuit: Circuit
    slow: bool
    disabled: str | None
    """Why the webhook was disabled by this batch, if it was."""

    @property
    def healthy(self) -> bool:
        """Whether the endpoint answers, in time, and without failures lately."""
        return self.disabled is None and not self.slow and self.circuit == Circuit()


class NotRecorded(Enum):
    """Why a way of recording in one statement did nothing; the next way has to be tried."""

    #: The batch is not of the kind that this way is for. The database was not asked.
    NOT_APPLICABLE = auto()
    #: The webhook's row is not as the statement needs it: it has failures to forget, or its circuit is open or opens.
    ROW_DIFFERS = auto()
