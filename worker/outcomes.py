"""Where the event loop puts what has ended, and the drain's thread takes it from, many at a time.

Waking a thread costs more than recording an attempt, so the taker is woken when half of what is in flight has ended, or
a moment after something has.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from worker.recording import Sent

LINGER_SECONDS = 0.005


class Outcomes:
    """Attempts that have ended. One thread takes; any thread puts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._enough = threading.Event()
        self._wanted = 1
        self._sent: list[Sent] = []
        self._later: Callable[[Sent], None] | None = None

    def put(self, sent: Sent) -> None:
        """Add one; or pass it on where the taker has left."""
        with self._lock:
            if self._later is None:
                self._sent.append(sent)
                if len(self._sent) >= self._wanted:
                    self._enough.set()
                return
        self._later(sent)

    def take(self, *, wanted: int, patience_seconds: float) -> list[Sent]:
        """All that is there once `wanted` are, or a moment has passed; nothing when none came for the patience."""
        until = time.monotonic() + patience_seconds
        while not (taken := self._swap(wanted)):
            if time.monotonic() >= until:
                return []
            self._enough.wait(LINGER_SECONDS if wanted > 1 else patience_seconds)
            wanted = 1 if self._sent else wanted
        return taken

    def hand_over(self, later: Callable[[Sent], None]) -> None:
        """Pass on what is there, and from now on all that comes."""
        with self._lock:
            self._later = later
            left, self._sent = self._sent, []
        for sent in left:
            later(sent)

    def _swap(self, wanted: int) -> list[Sent]:
        with self._lock:
            if len(self._sent) < wanted:
                self._wanted = wanted
                self._enough.clear()
                return []
            taken, self._sent = self._sent, []
            return taken
