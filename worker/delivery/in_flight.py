"""How much this process has claimed and sends at a time, and which webhook may have more: a bulkhead.

Slow webhooks together get half of the slots, in equal shares, so that a crowd of endpoints that hang leaves the other
half to those that answer. Of what is claimed for healthy endpoints, some waits in the process for its turn (prefetch),
so that claims and records are few and large while no endpoint gets more requests at a time.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

WAITER_TTL_SECONDS = 10.0
"""A slow webhook that found no slot counts for this long when shares are worked out.

The pump wakes it about once a second while it has work, so ten missed rounds mean that its work went elsewhere. At half
of this a busy pump would cost it its share; at twice, the shares of others stay small for longer after a crowd.
"""
MIN_FREE_SHARE = 0.25
"""A slow webhook that has used its share is woken when this part of it is free.

Waking one drain for each freed slot costs more than the requests themselves. At half of this there are twice as many
drains, at twice of it an endpoint is idle for longer between two of them.
"""
PREFETCH_FACTOR = 2
"""This many times as much may be claimed for a healthy endpoint as may be in flight to it.

One batch is then recorded and the next claimed while a full load is in flight. With 1 the endpoint waits for both; with
4 a killed worker leaves twice as many leases to run out.
"""


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """What a webhook asks for."""

    webhook_id: int
    wanted: int
    slow: bool
    prefetch: bool = False
    """Whether some of it may wait in this process for its turn."""


class InFlightLimiter:
    """Slots for what is claimed: `total` of the process, `per_webhook` at most for each webhook.

    With prefetch it is `PREFETCH_FACTOR` times as much of both.

    All state is read and written under one lock, by the threads of drains, of evaluations and of the background
    recorder. Both callbacks are called on the thread that brought the change:

    - `on_change`, with the lock held, is told a webhook, how many requests to it may be in flight, and whether it is
      slow. Calls never overlap, which the scoreboard relies on; it must be quick and must not call back.
    - `on_admitted`, after the lock is released, is given the webhooks that waited for capacity and have it now, each
      with whether it is slow. It may take as long as a round trip, and may call back.
    """

    def __init__(
        self,
        *,
        total: int,
        per_webhook: int,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[int, int, bool], None] = lambda _webhook_id, _count, _slow: None,
        on_admitted: Callable[[Mapping[int, bool]], None] = lambda _lanes: None,
    ) -> None:
        self._total = total
        self._per_webhook = per_webhook
        self._clock = clock
        self._on_change = on_change
        self._on_admitted = on_admitted
        self._lock = threading.Lock()
        self._claimed: Counter[int] = Counter()
        """Slots taken, by webhook; those without any have no key."""
        self._slow: dict[int, float] = {}
        """When each slow webhook last asked for slots. One counts for shares while it has some, and for a while after
        it asked in vain."""
        self._waiting: dict[int, bool] = {}
        """The webhooks that found no capacity, each with whether it is slow. Each is told once, by `release`."""
        self._in_flight = 0
        """Slots taken in all, without what is prefetched: that must not keep others from theirs."""
        self._claimed_in_all = 0
        """Slots taken in all, prefetched ones included."""

    def acquire(self, webhook_id: int, wanted: int, *, slow: bool, prefetch: bool = False) -> int:
        """Take up to `wanted` slots; how many were free for this webhook. With none it waits for capacity."""
        with self._lock:
            self._note_lane(webhook_id, slow=slow)
            acquired = max(0, min(wanted, self._room(webhook_id, slow=slow, prefetch=prefetch)))
            if acquired:
                self._waiting.pop(webhook_id, None)
                self._change(webhook_id, acquired)
            else:
                self._waiting[webhook_id] = slow
            return acquired

    def acquire_whole(self, requests: Iterable[SlotRequest]) -> set[int]:
        """Take for each webhook all the slots that it wants, or none; the webhooks that got theirs.

        A slow webhook that waits for capacity gets none: what waited longer goes first, by a drain.
        """
        with self._lock:
            return {one.webhook_id for one in requests if self._take_whole(one)}

    def acquire_some(self, requests: Sequence[SlotRequest]) -> dict[int, int]:
        """Take for each webhook up to as many slots as it wants; how many each got.

        Where there are too few for all, each gets an equal part of them, and at least one as long as there are some.
        A webhook that gets none waits for capacity.
        """
        taken: dict[int, int] = {}
        with self._lock:
            for number, one in enumerate(requests):
                self._note_lane(one.webhook_id, slow=one.slow)
                free = self._total - self._in_flight
                part = max(1, free // (len(requests) - number))
                room = self._room(one.webhook_id, slow=one.slow, prefetch=False)
                count = max(0, min(one.wanted, part, room))
                if count:
                    self._waiting.pop(one.webhook_id, None)
                    self._change(one.webhook_id, count)
                    taken[one.webhook_id] = count
                else:
                    self._waiting[one.webhook_id] = one.slow
        return taken

    def has_capacity(self, webhook_id: int, *, slow: bool) -> bool:
        """Whether a drain of a webhook would find slots enough. It may be over when the caller acts on it."""
        with self._lock:
            return self._has_capacity(webhook_id, slow=slow)

    def wait_for_capacity(self, webhook_id: int, *, slow: bool) -> bool:
        """Have a webhook wait for capacity, unless there is some; whether it waits. The caller itself does not.

        Question and registration are one step: were slots released in between, nobody would be told of them.
        """
        with self._lock:
            if self._has_capacity(webhook_id, slow=slow):
                return False
            self._waiting[webhook_id] = slow
            return True

    def release(self, webhook_id: int, count: int) -> None:
        """Give slots back: their requests have ended, or were never made. Webhooks that waited for some are told."""
        self.release_all({webhook_id: count})

    def release_all(self, counts: Mapping[int, int]) -> None:
        """Give back so many slots of each webhook, as `release` does."""
        with self._lock:
            for webhook_id, count in counts.items():
                self._change(webhook_id, -count)
                if self._claimed[webhook_id] <= 0:
                    del self._claimed[webhook_id]
            admitted = self._pop_admitted() if self._waiting else {}
        if admitted:
            self._on_admitted(admitted)

    def in_flight(self) -> int:
        """Slots taken in all, prefetched ones included."""
        with self._lock:
            return self._claimed_in_all

    def by_webhook(self) -> dict[int, int]:
        """Slots taken, by webhook."""
        with self._lock:
            return dict(self._claimed)

    # What follows is called with the lock held.

    def _take_whole(self, one: SlotRequest) -> bool:
        self._note_lane(one.webhook_id, slow=one.slow)
        if one.slow and one.webhook_id in self._waiting:
            return False
        if one.wanted > self._room(one.webhook_id, slow=one.slow, prefetch=one.prefetch):
            return False
        self._change(one.webhook_id, one.wanted)
        return True

    def _pop_admitted(self) -> dict[int, bool]:
        """Those who waited and have capacity now, longest first: no more of them than there are free slots."""
        admitted: dict[int, bool] = {}
        free = self._total - self._in_flight
        for webhook_id, slow in self._waiting.items():
            if len(admitted) >= free:
                break
            if self._has_capacity(webhook_id, slow=slow):
                admitted[webhook_id] = slow
        for webhook_id in admitted:
            del self._waiting[webhook_id]
        return admitted

    def _change(self, webhook_id: int, count: int) -> None:
        before = min(self._claimed[webhook_id], self._per_webhook)
        self._claimed[webhook_id] += count
        self._claimed_in_all += count
        in_flight = max(0, min(self._claimed[webhook_id], self._per_webhook))
        self._in_flight += in_flight - before
        self._on_change(webhook_id, in_flight, webhook_id in self._slow)

    def _note_lane(self, webhook_id: int, *, slow: bool) -> None:
        now = self._clock()
        if slow:
            self._slow[webhook_id] = now
        else:
            self._slow.pop(webhook_id, None)
        for other, asked in list(self._slow.items()):
            if other not in self._claimed and now - asked > WAITER_TTL_SECONDS:
                del self._slow[other]

    def _has_capacity(self, webhook_id: int, *, slow: bool) -> bool:
        room = self._room(webhook_id, slow=slow, prefetch=False)
        return room >= (max(1, MIN_FREE_SHARE * self._share()) if slow else 1)

    def _share(self) -> int:
        """The most slots of one slow webhook."""
        return min(self._per_webhook, max(1, self._total // 2 // max(1, len(self._slow))))

    def _room(self, webhook_id: int, *, slow: bool, prefetch: bool) -> int:
        """How many more slots a webhook may have; below zero where its share has shrunk since it took them."""
        if prefetch and not slow:
            return min(
                PREFETCH_FACTOR * self._per_webhook - self._claimed[webhook_id],
                PREFETCH_FACTOR * self._total - self._claimed_in_all,
            )
        room = min(self._per_webhook - self._claimed[webhook_id], self._total - self._in_flight)
        if not slow:
            return room
        of_the_slow = sum(self._claimed[other] for other in self._slow)
        return min(room, self._share() - self._claimed[webhook_id], max(1, self._total // 2) - of_the_slow)
