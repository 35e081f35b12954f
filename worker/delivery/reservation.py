"""What a process sets aside for deliveries that it is about to store, so as to send them once they are committed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from shared.storage.evaluation.new_deliveries import NewClaims
from worker.delivery.sessions import WebhookSession


@dataclass(frozen=True, slots=True)
class Reservation:
    """Slots and sessions for some webhooks of a batch: of each webhook all its new deliveries, or none.

    It holds its slots until it is submitted or cancelled; exactly one of the two must happen.
    """

    sessions: Mapping[int, WebhookSession]
    """By webhook. Their deliveries are stored as claimed."""
    counts: Mapping[int, int]
    """How many slots are held for each of them."""
    chars: int
    """How much of payloads is held for all of them."""
    claims: NewClaims
    """By what token and until when they are stored as claimed."""
    claimed_at: datetime
    """When the lease began."""
    waiting: Collection[int] = ()
    """Slow webhooks that wait for capacity: they need no drain before there is some, and are woken then."""

    @property
    def needs_no_drain(self) -> set[int]:
        """The webhooks that nobody has to wake for this batch."""
        return {*self.sessions, *self.waiting}
