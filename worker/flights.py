"""How many requests are in flight from this process, and who may send more.

Slow webhooks together get half of the places, in equal shares, so that a crowd of endpoints that hang leaves the other
half to those that answer.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

REMEMBERED_SECONDS = 10.0
"""A slow webhook that found no place keeps its claim to a share for so long; drains come back sooner."""


class Flights:
    """Places for requests in flight: `total` of the process, `per_webhook` at most for each webhook.

    `show` is told of every change: a webhook, how many places it has, and whether it is slow.
    """

    def __init__(
        self,
        *,
        total: int,
        per_webhook: int,
        clock: Callable[[], float] = time.monotonic,
        show: Callable[[int, int, bool], None] = lambda _webhook_id, _count, _slow: None,
    ) -> None:
        self._total = total
        self._per_webhook = per_webhook
        self._clock = clock
        self._show = show
        self._lock = threading.Lock()
        self._taken: Counter[int] = Counter()
        self._slow: dict[int, float] = {}

    def take(self, webhook_id: int, wanted: int, *, slow: bool) -> int:
        """Take up to `wanted` places; how many were free for this webhook."""
        with self._lock:
            self._place(webhook_id, slow=slow)
            taken = max(0, min(wanted, self._room(webhook_id, slow=slow)))
            if taken:
                self._taken[webhook_id] += taken
                self._show(webhook_id, self._taken[webhook_id], webhook_id in self._slow)
            return taken

    def give_back(self, webhook_id: int, count: int) -> None:
        """Give places back: their requests have ended, or were never made."""
        with self._lock:
            self._taken[webhook_id] -= count
            self._show(webhook_id, max(0, self._taken[webhook_id]), webhook_id in self._slow)
            if self._taken[webhook_id] <= 0:
                del self._taken[webhook_id]

    def in_flight(self) -> int:
        """Places taken in all."""
        with self._lock:
            return self._taken.total()

    def by_webhook(self) -> dict[int, int]:
        """Places taken, by webhook."""
        with self._lock:
            return dict(self._taken)

    def _place(self, webhook_id: int, *, slow: bool) -> None:
        now = self._clock()
        if slow:
            self._slow[webhook_id] = now
        else:
            self._slow.pop(webhook_id, None)
        for other, asked in list(self._slow.items()):
            if other not in self._taken and now - asked > REMEMBERED_SECONDS:
                del self._slow[other]

    def _room(self, webhook_id: int, *, slow: bool) -> int:
        room = min(self._per_webhook - self._taken[webhook_id], self._total - self._taken.total())
        if not slow:
            return room
        half = self._total // 2
        share = max(1, half // len(self._slow))
        of_the_slow = sum(self._taken[other] for other in self._slow)
        return min(room, share - self._taken[webhook_id], max(1, half) - of_the_slow)
