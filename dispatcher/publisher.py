"""Publishing: check a batch as a whole, then append all of it in one transaction of the server, or nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import telemetry
from shared.domain.errors import HooklineError
from shared.domain.events import Event, check_events, partition_of
from shared.streams import FIELD, stream_key

CONFIRM_SECONDS = 5.0


class StreamUnavailable(HooklineError):
    """The event streams did not confirm. Publish the same events again: what they have already fires nothing twice."""


class Publisher:
    """Appends events to their partitions' streams."""

    def __init__(self, redis: Redis, partitions: int) -> None:
        self._redis = redis
        self._partitions = partitions

    async def publish(self, candidates: Sequence[object]) -> int:
        """Check and append a batch of decoded JSON objects, whole or not at all.

        Returns:
            The number of events, once the streams have them.

        Raises:
            InvalidDefinition: with the index and field of each fault; nothing was published.
            StreamUnavailable: when the server did not confirm. A batch published again fires nothing twice, since an
                event is known by its source and id.
        """
        return await self.append(check_events(candidates), candidates)

    async def append(self, events: Sequence[Event], candidates: Sequence[object]) -> int:
        """Append checked events as the JSON they came in. Raises StreamUnavailable."""
        pipeline: Any = self._redis.pipeline(transaction=True)
        for event, candidate in zip(events, candidates, strict=True):
            pipeline.xadd(stream_key(partition_of(event, self._partitions)), {FIELD: orjson.dumps(candidate)})
        try:
            # Bounds the client's own time-outs and retries together: a publisher must never wait for long.
            async with asyncio.timeout(CONFIRM_SECONDS):
                await pipeline.execute()
        except (RedisError, OSError) as exc:
            raise StreamUnavailable(StreamUnavailable.__doc__) from exc
        telemetry.events_published(Counter(str(event.type) for event in events))
        return len(events)
