"""Where the event loop puts results of attempts, and a recording thread takes them from, many at a time.

Waking a thread costs more than recording an attempt, so the taker is woken when as many have ended as it wants, mostly
half of what is in flight, or a moment after the first has.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

LINGER_SECONDS = 0.02
"""How long the taker waits for more once there is something.

Long enough for what ends together to be recorded together, short beside a request over a network. At half of it batches
are smaller and transactions more; at twice, a slot that is free and a retry that is due are known that much later.
"""


_T = TypeVar("_T")


class CompletionBuffer(Generic[_T]):
    """Results of attempts that nobody has recorded yet. Any thread puts; one thread at a time takes.

    The lock guards all three attributes. The taker reads `_results` without it where it says so; it then sees a moment
    ago, and looks again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._enough = threading.Event()
        """Set by a putter when `_wanted` results are there; cleared by the taker as it begins to wait for them."""
        self._wanted = 1
        """Written by the taker, read by putters."""
        self._results: list[_T] = []
        self._redirect: Callable[[_T], None] | None = None
        """Where results go once the taker has left. It is set once, so a putter that has seen it may call it without
        the lock."""

    def put(self, result: _T) -> None:
        """Add one; or pass it on where the taker has left."""
        with self._lock:
            if self._redirect is None:
                self._results.append(result)
                if len(self._results) >= self._wanted:
                    self._enough.set()
                return
        self._redirect(result)

    def take_batch(self, *, wanted: int, patience_seconds: float) -> list[_T]:
        """All results, once `wanted` are there or `LINGER_SECONDS` after the first.

        An empty list says that none came within `patience_seconds`.
        """
        until = time.monotonic() + patience_seconds
        while not (taken := self._take_or_announce(wanted)):
            if time.monotonic() >= until:
                return []
            self._enough.wait(LINGER_SECONDS if wanted > 1 else patience_seconds)
            # An unlocked look: a result that is put just now is seen in the next round.
            wanted = 1 if self._results else wanted
        return taken

    def is_empty(self) -> bool:
        """Whether nothing has been put that nobody has taken. A result that is put meanwhile may be missed."""
        return not self._results

    def redirect_to(self, redirect: Callable[[_T], None]) -> None:
        """Pass on what is here, and from now on all that is put. The taker leaves with this call."""
        with self._lock:
            self._redirect = redirect
            left, self._results = self._results, []
        for result in left:
            redirect(result)

    def _take_or_announce(self, wanted: int) -> list[_T]:
        """All results where at least `wanted` are there; else none, and putters know how many are waited for."""
        with self._lock:
            if len(self._results) < wanted:
                self._wanted = wanted
                self._enough.clear()
                return []
            taken, self._results = self._results, []
            return taken
