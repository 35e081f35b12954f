"""What Redis was asked is timed, by command; what waits for news is not, and what failed is counted."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY
from redis import Redis
from redis.exceptions import RedisError

from shared.config.server_urls import parse_redis
from shared.messaging.redis_clients import connect, connect_async, open_redis
from shared.observability.saturation_metrics import write_durations
from shared.settings import Settings
from tests.servers import free_port


def _timed(command: str) -> float:
    write_durations()
    return REGISTRY.get_sample_value("hookline_redis_seconds_count", {"command": command}) or 0


def _faults(kind: str) -> float:
    return REGISTRY.get_sample_value("hookline_redis_faults_total", {"kind": kind}) or 0


def test_commands_and_pipelines_are_timed(settings: Settings, redis: Redis) -> None:
    client = open_redis(settings)
    before = {command: _timed(command) for command in ("SET", "PIPELINE", "XREAD", "EVALSHA", "CONFIG")}
    client.set("timed", 1)
    client.config_get("maxmemory")
    client.xread({"timed-stream": "0"}, block=1)
    client.register_script("return 1")()
    with client.pipeline(transaction=False) as pipeline:
        pipeline.get("timed")
        pipeline.delete("timed")
        assert pipeline.execute() == [b"1", 1]
    after = {command: _timed(command) - number for command, number in before.items()}
    assert after == {"SET": 1, "PIPELINE": 1, "XREAD": 0, "EVALSHA": 1, "CONFIG": 1}
    client.close()


def test_commands_of_an_event_loop_are_timed(settings: Settings, redis: Redis) -> None:
    async def ask() -> None:
        client = connect_async(parse_redis(settings.stream_url))
        await client.set("timed", 1)
        async with client.pipeline(transaction=False) as pipeline:
            pipeline.delete("timed")
            assert await pipeline.execute() == [1]
        await client.aclose()

    before = _timed("SET"), _timed("PIPELINE")
    asyncio.run(ask())
    assert (_timed("SET"), _timed("PIPELINE")) == (before[0] + 1, before[1] + 1)


def test_what_failed_is_counted(settings: Settings, redis: Redis) -> None:
    unavailable, refused = _faults("unavailable"), _faults("refused")
    away = connect(parse_redis(f"redis://127.0.0.1:{free_port()}/0"), socket_connect_timeout=1)
    with pytest.raises(RedisError):
        away.get("timed")
    client = open_redis(settings)
    with pytest.raises(RedisError):
        client.incrby("timed", "no number")  # type: ignore[arg-type]
    assert (_faults("unavailable"), _faults("refused")) == (unavailable + 1, refused + 1)
    client.close()
