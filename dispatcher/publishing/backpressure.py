"""Load shedding: whether the streams may take more events, decided without asking the server for each batch.

A sample of the server's memory is used for a moment, plus what this process appended since. It is taken beside the
publishing; only when it is old, or says that the streams are full, does a publisher wait for a new one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from shared.messaging.cluster_clients import async_infos_of
from shared.messaging.stream_memory import StreamMemory, fullest
from shared.observability.logs import get_logger

FRESH_SECONDS = 0.25
"""The age of a sample from which on a new one is taken, while publishing goes on by the old one."""
STALE_SECONDS = 2.0
"""The age from which on a publisher waits for a new sample: meanwhile others may have appended much."""
ENTRY_OVERHEAD_BYTES = 64
"""The memory of an entry besides its body: its id and field, and its part of the node."""

log = get_logger("hookline.api")


class MemoryGate:
    """The newest sample of the server's memory, and the bytes appended since.

    It is used on one event loop only, and changes its members between awaits, so it needs no lock. `_appended_bytes`
    may grow while a sample is taken: the sample subtracts only what was counted when it began.
    """

    def __init__(self, redis: Redis, max_bytes: int | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._max_bytes = max_bytes
        self._clock = clock
        self._sampled_at = float("-inf")
        self._memory = StreamMemory(0, 0)
        self._appended_bytes = 0
        self._sampling: asyncio.Task[None] | None = None

    async def rejects(self, wanted_bytes: int) -> StreamMemory | None:
        """Whether to reject a batch of `wanted_bytes`.

        Returns:
            The server's memory, if the batch would pass its bound; None while there is room for it.

        Raises:
            RedisError, OSError: when the server can't be asked.
        """
        if self._max_bytes == 0:
            return None
        age = self._clock() - self._sampled_at
        if age > FRESH_SECONDS:
            sampling = self._sample_once()
            if age > STALE_SECONDS:
                await asyncio.shield(sampling)
        if not self._over(wanted_bytes):
            return None
        await asyncio.shield(self._sample_once())
        return self._memory if self._over(wanted_bytes) else None

    def count_appended(self, events: int, size_bytes: int) -> None:
        """Count what was appended since the last sample."""
        self._appended_bytes += size_bytes + events * ENTRY_OVERHEAD_BYTES

    def _over(self, wanted_bytes: int) -> bool:
        bound = self._memory.bound_bytes
        return bound > 0 and self._memory.used_bytes + self._appended_bytes + wanted_bytes > bound

    def _sample_once(self) -> asyncio.Task[None]:
        """The sampling that is underway, or a new one."""
        if self._sampling is None or self._sampling.done():
            self._sampling = asyncio.create_task(self._sample())
            self._sampling.add_done_callback(_look_at)
        return self._sampling

    async def _sample(self) -> None:
        counted = self._appended_bytes
        try:
            infos = await async_infos_of(self._redis, "memory")
        except ResponseError as exc:
            # Some managed servers keep INFO to themselves: their own limit, refused writes, is the bound then.
            log.debug("streams.memory_unknown", error=str(exc))
            self._memory = StreamMemory(0, 0)
        else:
            self._memory = fullest(infos, self._max_bytes)
        self._sampled_at = self._clock()
        self._appended_bytes -= counted


def _look_at(sampling: asyncio.Task[None]) -> None:
    """Read the sample's exception, since nobody may wait for it; the next append reports a server that is away."""
    if not sampling.cancelled() and isinstance(sampling.exception(), (RedisError, OSError)):
        log.debug("streams.memory_unread")
