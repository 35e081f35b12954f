"""Claims of deliveries, and until when each may be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.storage.delivery.claims import ClaimedDelivery

MAX_SEND_DELAY_SECONDS = 5.0
"""A delivery is sent within so long of its claim, or of its slot, or it is put back where all workers find it: its
lease, which counts from the claim too, must outlast the request. In between came a crowd before it, a commit whose
answer was long on its way, or a process that stood still."""


PREFETCH_MAX_PAYLOAD_CHARS = 16_000
"""Only of payloads that are no longer than this, on average, more is claimed than is sent at once."""


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """What was claimed at once: when, at which times it may be sent if the rate is limited, and whether to probe."""

    at: datetime
    claimed: Sequence[ClaimedDelivery] = ()
    slots: Sequence[datetime] | None = None
    probe: bool = False
