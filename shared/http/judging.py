"""When success rules judge answers, on the event loop that serves all requests: those that take long take turns.

A rule's patterns may take some 10 ms for an answer at worst. Nothing else is sent meanwhile, so an entity with such
rules and busy endpoints would hold up all others. Rules that cost what others cost are judged at once. Must not change
what a rule says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

COSTLY_SECONDS = 0.0005
"""A rule that took longer than this for its webhook's last answer takes turns: a delivery costs half as much in all."""
SHARE = 0.1
"""How much of the event loop's time all such rules together may take."""
MOST_SECONDS = 10.0
"""No answer waits longer. The claim of its delivery lasts for `HOOKLINE_LEASE_MARGIN` beyond the time-out."""
WEBHOOKS_KEPT = 10_000

_T = TypeVar("_T")


@dataclass(slots=True)
class _Lane:
    """The answers of one webhook that wait: one of them at a time waits for its turn among all webhooks."""

    free: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted: int = 0


class JudgingTurns:
    """It belongs to one event loop."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, cpu: Callable[[], float] = time.thread_time
    ) -> None:
        """`clock` tells the time and `cpu` the processor time of the loop's thread, both in seconds."""
        self._clock = clock
        self._cpu = cpu
        self._costs: dict[str, float] = {}
        """What a judgement cost, in seconds, by webhooks with costly rules."""
        self._lanes: dict[str, _Lane] = {}
        self._free_at = 0.0

    async def judged(self, webhook: str, judge: Callable[[], _T]) -> _T:
        """What `judge` says of an answer of this webhook, when it is its turn."""
        if webhook in self._costs:
            await self._wait(webhook)
        began = self._cpu()
        try:
            return judge()
        finally:
            self._note(webhook, self._cpu() - began)

    async def _wait(self, webhook: str) -> None:
        lane = self._lanes.setdefault(webhook, _Lane())
        lane.wanted += 1
        try:
            async with asyncio.timeout(MOST_SECONDS), lane.free:
                now = self._clock()
                at = max(now, self._free_at)
                self._free_at = at + self._costs.get(webhook, 0.0) / SHARE
                if at > now:
                    await asyncio.sleep(at - now)
        except TimeoutError:
            pass  # judged late rather than never
        finally:
            lane.wanted -= 1
            if not lane.wanted:
                del self._lanes[webhook]

    def _note(self, webhook: str, seconds: float) -> None:
        if seconds <= COSTLY_SECONDS:
            self._costs.pop(webhook, None)
            return
        if len(self._costs) >= WEBHOOKS_KEPT:
            self._costs.clear()
        self._costs[webhook] = seconds
