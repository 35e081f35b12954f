"""Publishing against a real Valkey, and against one that hangs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from dispatcher.publishing import publisher
from dispatcher.publishing.publisher import Publisher, StreamUnavailable
from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import check_event, decode_event
from shared.domain.events.partitioning import partition_of
from shared.messaging.streams import FIELD, stream_key
from tests.integration.scene import alias_event, metric_event

PARTITIONS = 4


def _publish(url: str, *events: Any) -> int:
    async def publish() -> int:
        async with AsyncRedis.from_url(url) as redis:
            return await Publisher(redis, PARTITIONS).publish(events)

    return asyncio.run(publish())


def test_events_of_one_subject_are_in_one_stream_in_order(valkey_url: str) -> None:
    events = [metric_event(step, run=f"r{step % 5}", event_id=f"e{step}", loss=1.0) for step in range(50)]
    with Redis.from_url(valkey_url) as redis:
        redis.flushall()
        assert _publish(valkey_url, *events) == 50
        for partition in range(PARTITIONS):
            entries: Any = redis.xrange(stream_key(partition))
            ids = [decode_event(fields[FIELD]).id for _entry, fields in entries]
            assert ids == [e["id"] for e in events if partition_of(check_event(e), PARTITIONS) == partition]


def test_a_batch_with_one_fault_publishes_nothing(valkey_url: str) -> None:
    broken = alias_event()
    del broken["data"]["alias"]
    with Redis.from_url(valkey_url) as redis:
        redis.flushall()
        with pytest.raises(InvalidDefinition) as refused:
            _publish(valkey_url, alias_event(), broken, alias_event())
        assert [error.loc for error in refused.value.errors] == [(1, "data", "alias")]
        assert redis.keys("*") == []


def test_a_server_that_hangs_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "CONFIRM_SECONDS", 0.2)

    async def publish() -> None:
        async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await ended.wait()
            writer.close()

        ended = asyncio.Event()
        server = await asyncio.start_server(hang, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with AsyncRedis.from_url(f"redis://127.0.0.1:{port}/0") as redis:
            with pytest.raises(StreamUnavailable, match="Could not write"):
                await Publisher(redis, PARTITIONS).publish([alias_event()])
        ended.set()
        server.close()
        await server.wait_closed()

    asyncio.run(asyncio.wait_for(publish(), 30))
