"""How many events an entity may publish in a second, where an instance administrator has set a limit.

Counted in Redis, over all API processes, by its clock. A rate is held on average: what was saved up in the last
`BURST_SECONDS` may come at once, and a batch is never cut. Entities without a limit cost nothing. Streams that a
backend writes to itself are not counted.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from shared.domain.errors import HooklineError
from shared.domain.events.fast_decoding import AnyEvent
from shared.observability import metrics
from shared.observability.logs import get_logger

log = get_logger("hookline.api")

RATES_KEY = "hookline:event_rates"
"""A hash: for each limited entity the second until which what it has published so far is paid for."""
BURST_SECONDS = 10.0
CACHED_SECONDS = 5.0
"""How soon a new limit holds in every API process."""
_WAIT_SECONDS = 2.0
_NO_BOUND_SECONDS = 1e12

# Events push their entity's second further by their share of the rate; who is too far ahead has to wait. All or none.
_TAKE = """
local time = redis.call('TIME')
local now, wait, worst = tonumber(time[1]) + tonumber(time[2]) / 1e6, 0, ''
local paid = {}
for at = 2, #ARGV, 3 do
  local until_then = math.max(now, tonumber(redis.call('HGET', KEYS[1], ARGV[at]) or '0'))
  local ahead = until_then - now - tonumber(ARGV[1])
  if ahead > wait then wait, worst = ahead, ARGV[at] end
  paid[#paid + 1] = ARGV[at]
  paid[#paid + 1] = string.format('%.6f', until_then + tonumber(ARGV[at + 1]) / tonumber(ARGV[at + 2]))
end
if wait > 0 then return {string.format('%.6f', wait), worst} end
redis.call('HSET', KEYS[1], unpack(paid))
return {}
"""


class RateExceeded(HooklineError):
    """An entity publishes more events than it may; nothing was accepted."""

    def __init__(self, entity: str, limit: int, retry_after_seconds: int) -> None:
        super().__init__(
            f"{entity!r} may publish {limit} events a second (its quota events_per_second): nothing was accepted, "
            f"publish the same events again in {retry_after_seconds} s"
        )
        self.retry_after_seconds = retry_after_seconds


class EventRates:
    """The limits of one API process, used on its event loop only."""

    def __init__(self, redis: Redis, load: Callable[[], Awaitable[Mapping[str, int]]]) -> None:
        """Take the limits from `load`, by the names of entities; it may raise SQLAlchemyError."""
        self._take: Any = redis.register_script(_TAKE)
        self._load = load
        self._limits: Mapping[str, int] = {}
        self._loaded = float("-inf")
        """When, by the monotonic clock."""
        self._loading = asyncio.Lock()

    def forget(self) -> None:
        """Read the limits anew at the next batch: one was changed here."""
        self._loaded = float("-inf")

    async def take(self, events: Sequence[AnyEvent]) -> None:
        """Count a batch that is about to be appended.

        A Redis that does not answer refuses nothing here: the streams will.

        Raises:
            RateExceeded: for the entity that has to wait longest; nothing was counted.
        """
        if limits := await self._current():
            counts = Counter(event.data.entity for event in events if event.data.entity in limits)
            await self._count(limits, counts, len(events))

    async def take_of(self, entity: str, events: int, *, begun: bool = False) -> None:
        """Count events of one entity, as `take` does; those that end what was `begun` are refused by nothing.

        Raises RateExceeded.
        """
        limits = await self._current()
        counts = {entity: events} if entity in limits and events else {}
        await self._count(limits, counts, events, _NO_BOUND_SECONDS if begun else BURST_SECONDS)

    async def _count(
        self, limits: Mapping[str, int], counts: Mapping[str, int], events: int, ahead_seconds: float = BURST_SECONDS
    ) -> None:
        if not counts:
            return
        arguments = [part for entity, count in sorted(counts.items()) for part in (entity, count, limits[entity])]
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                answer = await self._take(keys=[RATES_KEY], args=[ahead_seconds, *arguments])
        except (RedisError, OSError) as exc:
            log.debug("event_rate.uncounted", error=type(exc).__name__)
            return
        if answer:
            metrics.EVENTS_OVER_QUOTA.inc(events)
            entity = answer[1].decode()
            raise RateExceeded(entity, limits[entity], max(1, math.ceil(float(answer[0]))))

    async def _current(self) -> Mapping[str, int]:
        if time.monotonic() - self._loaded <= CACHED_SECONDS:
            return self._limits
        if self._loading.locked():
            return self._limits  # another batch is reading them
        async with self._loading:
            self._loaded = time.monotonic()
            try:
                self._limits = await self._load()
            except SQLAlchemyError as exc:
                log.warning("event_rates.unread", error=type(exc).__name__)
        return self._limits
