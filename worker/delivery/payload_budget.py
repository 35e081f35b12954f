"""How much of payloads this process has claimed at a time: they are in memory until their attempts are recorded."""

from __future__ import annotations

import threading

from shared.storage.delivery.claims import MAX_CLAIM_BYTES

MAX_CHARS_IN_FLIGHT = 32 << 20
"""The characters of payloads that a process holds. Each is in memory up to three times, as it is stored, with its
secrets and as a request, so this is about 100 MiB. Twice as much would be most of a small worker's memory; half would
leave room for 16 of the largest payloads."""

USUAL_CHARS = 4 << 10
"""What a claim sets aside for each delivery; most payloads have half a kilobyte. Were it all that a claim may bring,
a few drains that begin together would take the budget from all others while they ask the database."""
MIN_CLAIM_CHARS = 1 << 20
"""What a claim sets aside at least, so that a few deliveries with large payloads are claimed together."""


class PayloadBudget:
    """Counts the characters of what is claimed. Threads share it: `_lock` guards `_held`.

    Where it is used up, nothing more is claimed until something is recorded. What is due then is found by the drains
    that follow a record, and by the dispatcher's sweep.
    """

    def __init__(self, total: int = MAX_CHARS_IN_FLIGHT) -> None:
        self._total = total
        self._lock = threading.Lock()
        self._held = 0

    def take(self, chars: int) -> bool:
        """Hold so much, or nothing; whether there was room. There is for anything while nothing is held."""
        with self._lock:
            if self._held and self._held + chars > self._total:
                return False
            self._held += chars
            return True

    def reserve(self, count: int) -> int:
        """Hold as much as a claim of so many deliveries may bring; 0 where nothing is left.

        The claim ends there, so a claim of large payloads brings fewer. `settle` it once the claim is made.
        """
        wanted = min(max(MIN_CLAIM_CHARS, count * USUAL_CHARS), MAX_CLAIM_BYTES)
        with self._lock:
            reserved = max(0, min(wanted, self._total - self._held))
            self._held += reserved
            return reserved

    def settle(self, reserved: int, chars: int) -> None:
        """Hold `chars` in the place of what was reserved; a claim may bring one payload more."""
        self.release(reserved - chars)

    def release(self, chars: int) -> None:
        """Hold so much less."""
        with self._lock:
            self._held -= chars

    def held(self) -> int:
        """How much is held."""
        with self._lock:
            return self._held
