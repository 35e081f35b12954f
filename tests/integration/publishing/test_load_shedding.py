"""Publishers are turned away before the memory of a real Valkey is at risk, and taken in again when there is room."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from structlog.testing import capture_logs

from dispatcher.publishing.publisher import Publisher, StreamFull
from dispatcher.pump.maintenance import Maintenance
from dispatcher.pump.pump import Pump
from shared.messaging.stream_memory import StreamMemory, memory_of, read_memory
from shared.messaging.streams import stream_key
from shared.observability import metrics
from shared.settings import Settings, load_settings
from shared.storage.maintenance import first_start
from tests.brokers import configure
from tests.integration.api.conftest import problem_of, running
from tests.integration.conftest import ADMIN_KEY
from tests.integration.processes import wait_until
from tests.integration.scene import Scene, alias_event
from tests.servers import valkey_server

MIB = 1 << 20


@pytest.fixture
def server() -> Iterator[Redis]:
    """A Valkey of a test's own, whose limits it may set."""
    with valkey_server() as url, Redis.from_url(url) as redis:
        yield redis


def _url(server: Redis) -> str:
    kwargs = server.connection_pool.connection_kwargs
    return f"redis://127.0.0.1:{kwargs['port']}/0"


def _padded(number: int) -> dict[str, Any]:
    return {**alias_event(event_id=f"e{number}"), "padding": "x" * 10_000}


def _used(server: Redis) -> int:
    return read_memory(server, load_settings()).used_bytes


def _refused(reason: str) -> float:
    return float(metrics.EVENTS_REFUSED.labels(reason=reason)._value.get())


@pytest.mark.parametrize(
    ("info", "max_bytes", "bound_bytes"),
    [
        ({"used_memory": 9, "maxmemory": 1000, "total_system_memory": 9000}, 700, 700),
        ({"used_memory": 9, "maxmemory": 1000, "total_system_memory": 9000}, 0, 0),
        ({"used_memory": 9, "maxmemory": 1000, "total_system_memory": 9000}, None, 750),
        ({"used_memory": 9, "maxmemory": 0, "total_system_memory": 9000}, None, 4500),
        ({"used_memory": 12, "mem_not_counted_for_evict": 3}, None, 0),
    ],
)
def test_the_bound_is_the_operators_or_a_share(info: dict[str, int], max_bytes: int | None, bound_bytes: int) -> None:
    assert memory_of(info, max_bytes) == StreamMemory(9, bound_bytes)
    assert memory_of(info, max_bytes).fill == (9 / bound_bytes if bound_bytes else 0)


def test_publishing_stops_at_the_bound_and_goes_on_when_there_is_room(server: Redis) -> None:
    bound = _used(server) + 8 * MIB

    async def publish_all() -> int:
        async with AsyncRedis.from_url(_url(server)) as redis:
            publisher, published = Publisher(redis, 4, max_stream_bytes=bound), 0
            with pytest.raises(StreamFull, match=f"of {bound} bytes"):
                for number in range(2000):
                    published += await publisher.publish([_padded(number)])
            assert await _entries(redis) == published
            before = _refused("full")
            with pytest.raises(StreamFull):
                await publisher.publish([_padded(-1), _padded(-2)])
            assert _refused("full") - before == 2
            assert await _entries(redis) == published
            for partition in range(4):
                await redis.xtrim(stream_key(partition), maxlen=0)
            assert await publisher.publish([_padded(-1)]) == 1
            return published

    published = asyncio.run(publish_all())
    assert 400 < published <= 8 * MIB // 10_000  # the padding alone fills the room then
    assert _used(server) < bound


async def _entries(redis: AsyncRedis) -> int:
    return sum([int(await redis.xlen(stream_key(partition))) for partition in range(4)])


def test_a_server_out_of_memory_takes_nothing_and_says_so(server: Redis) -> None:
    async def publish() -> None:
        async with AsyncRedis.from_url(_url(server)) as redis:
            publisher = Publisher(redis, 4, max_stream_bytes=0)
            assert await publisher.publish([alias_event()]) == 1
            server.config_set("maxmemory", _used(server) - 1000)
            with pytest.raises(StreamFull, match="out of memory"):
                await publisher.publish([alias_event(event_id="a"), alias_event(event_id="b")])
            assert await _entries(redis) == 1
            server.config_set("maxmemory", 0)
            assert await publisher.publish([alias_event(event_id="a")]) == 1

    asyncio.run(publish())


def test_a_sample_serves_many_batches(server: Redis) -> None:
    async def publish() -> None:
        async with AsyncRedis.from_url(_url(server)) as redis:
            publisher = Publisher(redis, 4)
            for number in range(100):
                await publisher.publish([alias_event(event_id=f"e{number}")])

    before = _asked(server)
    asyncio.run(publish())
    assert 1 <= _asked(server) - before < 30


def _asked(server: Redis) -> int:
    stats: Any = server.info("commandstats")
    return int(stats.get("cmdstat_info", {"calls": 0})["calls"])


def test_a_full_stream_is_answered_with_when_to_come_back(settings: Settings, redis: Redis) -> None:
    first_start.prepare(settings)
    key = {"Authorization": f"Bearer {ADMIN_KEY}"}
    with running(_with(settings, max_stream_bytes=1)) as client:
        assert client.request("PUT", "/v1/entities/acme", json={}, headers=key).is_success
        refused = client.request("POST", "/v1/events", json=alias_event(), headers=key)
    problem = problem_of(refused, 503)
    assert refused.json()["type"] == "urn:hookline:problem:streams-full"
    assert problem.headers["retry-after"] == "5"
    assert "nothing was accepted" in problem.detail
    assert redis.keys("hookline:events:*") == []


def test_the_log_says_what_the_streams_answered(settings: Settings, redis: Redis) -> None:
    first_start.prepare(settings)
    key = {"Authorization": f"Bearer {ADMIN_KEY}"}
    with running(settings) as client:
        assert client.request("PUT", "/v1/entities/acme", json={}, headers=key).is_success
        configure(redis, "min-replicas-to-write", 3)
        try:
            with capture_logs() as logs:
                refused = client.request("POST", "/v1/events", json=alias_event(), headers=key)
        finally:
            configure(redis, "min-replicas-to-write", 0)
    problem_of(refused, 503)
    (line,) = [line for line in logs if line["event"] == "api.streams_unavailable"]
    assert "NOREPLICAS" in line["error"]
    assert "NOREPLICAS" not in refused.text


def test_evaluated_entries_go_early_where_memory_is_nearly_full_and_others_never(scene: Scene) -> None:
    nodes: Any = scene.redis.config_get("stream-node-max-entries")
    configure(scene.redis, "stream-node-max-entries", 1)
    try:
        scene.publish(*(alias_event(event_id=f"e{number}") for number in range(20)))
        scene.evaluate()
        scene.publish(*(alias_event(event_id=f"later{number}") for number in range(5)))
        key = next(iter(scene.redis.scan_iter("hookline:events:*")))
        roomy, tight = (_chores(scene, bound) for bound in (1 << 40, _used(scene.redis)))
        assert not roomy.trim(datetime.now(UTC))
        assert scene.redis.xlen(key) == 25
        assert tight.trim(datetime.now(UTC))
        assert 5 <= int(scene.redis.xlen(key)) <= 6  # the newest evaluated one is the bound, and stays
    finally:
        configure(scene.redis, "stream-node-max-entries", nodes["stream-node-max-entries"])


def test_the_pump_shows_how_full_it_is(scene: Scene) -> None:
    pump = Pump(_with(scene.settings, max_stream_bytes=12345))
    pump.start()
    wait_until(lambda: metrics.STREAM_MEMORY_BOUND._value.get() == 12345, "gauge")
    pump.stop()
    assert metrics.STREAM_MEMORY._value.get() > 100_000


def _chores(scene: Scene, bound: int) -> Maintenance:
    settings = _with(scene.settings, max_stream_bytes=bound)
    return Maintenance(settings, scene.process.engine, scene.redis, threading.Event())


def _with(settings: Settings, **changes: Any) -> Settings:
    return Settings(**{**settings.model_dump(), **changes})
