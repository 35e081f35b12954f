"""Publishing: check a batch as a whole, then append all of it in one transaction of the server, or nothing.

In a Redis Cluster a transaction is of one partition: of a batch that is refused, other partitions may have their part.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, RedisError

from dispatcher.publishing.backpressure import MemoryGate
from dispatcher.publishing.spans import EventTraces
from shared.domain.errors import HooklineError
from shared.domain.events.decoding import check_published
from shared.domain.events.fast_decoding import AnyEvent
from shared.domain.events.partitioning import partition_of
from shared.domain.json_text import write_json
from shared.messaging.keys import is_cluster
from shared.messaging.streams import APPEND_ALL, FIELD, stream_key
from shared.observability import metrics
from shared.observability.tracing import Tracing

CONFIRM_SECONDS = 5.0
"""How long a publisher waits for the streams, all retries included, before it gets 503."""
OUT_OF_MEMORY = (
    "the server with the event streams is out of memory (its `maxmemory`): nothing was accepted, "
    "publish the same events again later"
)
NODE_OUT_OF_MEMORY = (
    "a node of the Redis Cluster with the event streams is out of memory (its `maxmemory`): not all events were "
    "accepted, publish the same events again later"
)


class StreamUnavailable(HooklineError):
    """Could not write the events to Redis. Publish the same events again: a repeated event fires nothing twice."""


class StreamFull(HooklineError):
    """The event streams are full: nothing was accepted. Publish the same events again later."""


class Publisher:
    """Appends events to their partitions' streams."""

    def __init__(
        self, redis: Redis, partitions: int, *, max_stream_bytes: int | None = None, tracing: Tracing | None = None
    ) -> None:
        self._tracing = tracing
        self._redis = redis
        self._partitions = partitions
        self._keys = [stream_key(partition) for partition in range(partitions)]
        self._clustered = is_cluster(redis)
        self._append_all: Any = redis.register_script(APPEND_ALL)
        self._memory_gate = MemoryGate(redis, max_stream_bytes)

    async def publish(self, candidates: Sequence[object]) -> int:
        """Check and append a batch of decoded JSON objects, whole or not at all.

        Returns:
            The number of events, once the streams have them.

        Raises:
            InvalidDefinition: with the index and field of each fault; nothing was published.
            StreamFull: before anything was appended, because the server's memory is at its bound.
            StreamUnavailable: when the server did not answer. A batch published again fires nothing twice, since an
                event is known by its source and id.
        """
        return await self.append(check_published(candidates), [write_json(candidate) for candidate in candidates])

    async def append(self, events: Sequence[AnyEvent], bodies: Sequence[bytes]) -> int:
        """Append checked events, each as its JSON text. Raises StreamFull, StreamUnavailable."""
        traced = EventTraces(self._tracing) if self._tracing else None
        if traced:
            bodies = [traced.add_context(body) for body in bodies]
        size_bytes = sum(map(len, bodies))
        keys = [self._keys[partition_of(event, self._partitions)] for event in events]
        try:
            # Bounds the client's own time-outs and retries together: a publisher must never wait for long.
            async with asyncio.timeout(CONFIRM_SECONDS):
                if memory := await self._memory_gate.rejects(size_bytes):
                    raise _count_refusal(
                        "full",
                        events,
                        StreamFull(
                            f"the event streams are full ({memory.used_bytes} of {memory.bound_bytes} "
                            "bytes of memory): nothing was accepted, publish the same events again later"
                        ),
                    )
                await self._append(keys, bodies)
        except OutOfMemoryError as exc:
            text = NODE_OUT_OF_MEMORY if self._clustered else OUT_OF_MEMORY
            raise _count_refusal("out_of_memory", events, StreamFull(text)) from exc
        except (RedisError, OSError) as exc:
            raise _count_refusal("unavailable", events, StreamUnavailable(StreamUnavailable.__doc__)) from exc
        self._memory_gate.count_appended(len(events), size_bytes)
        metrics.count_published(Counter([str.__str__(event.type) for event in events]))
        if traced:
            traced.record(events)
        return len(events)

    async def _append(self, keys: Sequence[str], bodies: Sequence[bytes]) -> None:
        """Append bodies to the streams of the same places. Raises RedisError, OSError."""
        if not self._clustered:
            await self._append_all(keys=keys, args=[FIELD, *bodies])
            return
        parts: dict[str, list[bytes]] = {}
        for key, body in zip(keys, bodies, strict=True):
            parts.setdefault(key, []).append(body)
        # All are waited for: what is refused is published again, and must not overtake what is on its way.
        answers = await asyncio.gather(
            *(self._append_all(keys=[key] * len(part), args=[FIELD, *part]) for key, part in parts.items()),
            return_exceptions=True,
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer


def _count_refusal(reason: str, events: Sequence[AnyEvent], error: HooklineError) -> HooklineError:
    metrics.EVENTS_REFUSED.labels(reason=reason).inc(len(events))
    return error
