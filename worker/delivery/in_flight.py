"""How much this process has claimed and sends at once, and who may have more.

Slow webhooks together get half of the places, in equal shares, so that a crowd of endpoints that hang leaves the other
half to those that answer. Of what is claimed for endpoints that answer briskly, some waits in the process for its turn,
so that claims and records are few and large while no endpoint gets more requests at a time.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

WAITER_TTL_SECONDS = 10.0
"""A slow webhook that found no place keeps its claim to a share for so long; drains come back sooner."""
MIN_FREE_SHARE = 0.25
"""A slow webhook whose share is used up is let in again when so much of it is free: a drain for each place costs more
than the requests."""
PREFETCH_FACTOR = 2
"""So many times as much may be claimed for an endpoint that answers briskly as may be in flight to it."""


class InFlightLimiter:
    """Places for what is claimed: `total` of the process, `per_webhook` at most for each webhook.

    With `ahead` it is `PREFETCH_FACTOR` times as much of both. `show` is told of every change: a webhook, how many
    requests to it are in flight as long as its places on the `RequestScheduler` are taken, and whether it is slow.
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
        self._refused: dict[int, bool] = {}
        self._flying = 0
        """Places taken, without what is ahead: that must not keep others from theirs."""

    def take(self, webhook_id: int, wanted: int, *, slow: bool, ahead: bool = False) -> int:
        """Take up to `wanted` places; how many were free for this webhook."""
        with self._lock:
            self._place(webhook_id, slow=slow)
            taken = max(0, min(wanted, self._room(webhook_id, slow=slow, ahead=ahead)))
            if taken:
                self._refused.pop(webhook_id, None)
                self._change(webhook_id, taken)
            else:
                self._refused[webhook_id] = slow
            return taken

    def take_all(self, webhook_id: int, wanted: int, *, slow: bool, ahead: bool = False) -> bool:
        """Take `wanted` places, or none; whether there were as many.

        Not where a slow webhook found no place lately: those that waited for one go first.
        """
        with self._lock:
            self._place(webhook_id, slow=slow)
            if (slow and webhook_id in self._refused) or wanted > self._room(webhook_id, slow=slow, ahead=ahead):
                return False
            self._change(webhook_id, wanted)
            return True

    def is_open(self, webhook_id: int, *, slow: bool) -> bool:
        """Whether a drain of a webhook would find places enough; if not, the webhook waits until it is let in."""
        with self._lock:
            if self._has_enough(webhook_id, slow=slow):
                return True
            self._refused[webhook_id] = slow
            return False

    def let_in(self) -> dict[int, bool]:
        """The webhooks that found no place when they asked, and would now, each with whether it is slow: told once."""
        if not self._refused:
            return {}
        with self._lock:
            found = {
                webhook_id: slow
                for webhook_id, slow in self._refused.items()
                if self._has_enough(webhook_id, slow=slow)
            }
            for webhook_id in found:
                del self._refused[webhook_id]
            return found

    def give_back(self, webhook_id: int, count: int) -> None:
        """Give places back: their requests have ended, or were never made."""
        with self._lock:
            self._change(webhook_id, -count)
            if self._taken[webhook_id] <= 0:
                del self._taken[webhook_id]

    def _change(self, webhook_id: int, count: int) -> None:
        before = min(self._taken[webhook_id], self._per_webhook)
        self._taken[webhook_id] += count
        flying = max(0, min(self._taken[webhook_id], self._per_webhook))
        self._flying += flying - before
        self._show(webhook_id, flying, webhook_id in self._slow)

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
            if other not in self._taken and now - asked > WAITER_TTL_SECONDS:
                del self._slow[other]

    def _has_enough(self, webhook_id: int, *, slow: bool) -> bool:
        room = self._room(webhook_id, slow=slow, ahead=False)
        return room >= (max(1, MIN_FREE_SHARE * self._share()) if slow else 1)

    def _share(self) -> int:
        """The most places of one slow webhook."""
        return min(self._per_webhook, max(1, self._total // 2 // max(1, len(self._slow))))

    def _room(self, webhook_id: int, *, slow: bool, ahead: bool) -> int:
        if ahead and not slow:
            return min(
                PREFETCH_FACTOR * self._per_webhook - self._taken[webhook_id],
                PREFETCH_FACTOR * self._total - self._taken.total(),
            )
        room = min(self._per_webhook - self._taken[webhook_id], self._total - self._flying)
        if not slow:
            return room
        of_the_slow = sum(self._taken[other] for other in self._slow)
        return min(room, self._share() - self._taken[webhook_id], max(1, self._total // 2) - of_the_slow)
