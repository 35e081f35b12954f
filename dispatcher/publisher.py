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
from shared.domain.errors import FieldError, HooklineError, InvalidDefinition
from shared.domain.events import MAX_BATCH_EVENTS, MAX_EVENT_BYTES, Event, check_event, partition_of
from shared.streams import FIELD, stream_key

MAX_NAMED_FAULTS = 100
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
        return await self.append(check_batch(candidates), candidates)

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


def check_batch(candidates: Sequence[object]) -> list[Event]:
    """The events of a batch. Raises InvalidDefinition with the index and field of each fault."""
    if not 1 <= len(candidates) <= MAX_BATCH_EVENTS:
        raise InvalidDefinition.at((), f"must hold between 1 and {MAX_BATCH_EVENTS} events")
    events: list[Event] = []
    faults: list[FieldError] = []
    for index, candidate in enumerate(candidates):
        try:
            events.append(_check(candidate))
        except InvalidDefinition as exc:
            faults += exc.under(index).errors
    if faults:
        raise InvalidDefinition(*faults[:MAX_NAMED_FAULTS])
    return events


def _check(candidate: object) -> Event:
    event = check_event(candidate)
    if len(orjson.dumps(candidate)) > MAX_EVENT_BYTES:
        raise InvalidDefinition.at((), f"must be at most {MAX_EVENT_BYTES} bytes")
    return event
