"""Where the event loop puts what has ended, and the drain's thread takes it from, many at a time.

Waking a thread costs more than recording an attempt, so the taker is woken when half of what is in flight has ended, or
a moment after something has.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from worker.delivery.attempt_result import AttemptResult

LINGER_SECONDS = 0.02


class CompletionBuffer:
    """Attempts that have ended. One thread takes; any thread puts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._enough = threading.Event()
        self._wanted = 1
        self._ended: list[AttemptResult] = []
        self._later: Callable[[AttemptResult], None] | None = None

    def put(self, ended: AttemptResult) -> None:
        """Add one; or pass it on where the taker has left."""
        with self._lock:
            if self._later is None:
                self._ended.append(ended)
                if len(self._ended) >= self._wanted:
                    self._enough.set()
                return
        self._later(ended)

    def take(self, *, wanted: int, patience_seconds: float) -> list[AttemptResult]:
        """All that is there once `wanted` are, or a moment has passed; nothing when none came for the patience."""
        until = time.monotonic() + patience_seconds
        while not (taken := self._swap(wanted)):
            if time.monotonic() >= until:
                return []
            self._enough.wait(LINGER_SECONDS if wanted > 1 else patience_seconds)
            wanted = 1 if self._ended else wanted
        return taken

    def are_there(self) -> bool:
        """Whether something has ended that nobody has taken."""
        return bool(self._ended)

    def hand_over(self, later: Callable[[AttemptResult], None]) -> None:
        """Pass on what is there, and from now on all that comes."""
        with self._lock:
            self._later = later
            left, self._ended = self._ended, []
        for ended in left:
            later(ended)

    def _swap(self, wanted: int) -> list[AttemptResult]:
        with self._lock:
            if len(self._ended) < wanted:
                self._wanted = wanted
                self._enough.clear()
                return []
            taken, self._ended = self._ended, []
            return taken
