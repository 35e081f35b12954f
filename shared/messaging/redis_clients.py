"""Clients of the server that an address names; behind Sentinels, of whichever is the master at the time."""

from __future__ import annotations

from typing import Any

import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis import Redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from shared.config.server_urls import RedisAddress, parse_redis
from shared.settings import Settings

# As Any: without types in redis-py.
_Sentinel: Any = redis.sentinel.Sentinel
_AsyncSentinel: Any = redis.asyncio.sentinel.Sentinel


def connect(address: RedisAddress, **options: Any) -> Redis:
    """A client; `options` are redis-py's. It connects when it is used."""
    if address.master is None:
        return Redis(**_place(address), **address.session, **options)
    sentinels = _Sentinel(address.hosts, sentinel_kwargs=_asking(address, options), **address.session, **options)
    client: Redis = sentinels.master_for(address.master)
    return client


def connect_async(address: RedisAddress, **options: Any) -> redis.asyncio.Redis:
    """A client for an event loop, as `connect` makes one for threads."""
    if address.master is None:
        return redis.asyncio.Redis(**_place(address), **address.session, **options)
    sentinels = _AsyncSentinel(address.hosts, sentinel_kwargs=_asking(address, options), **address.session, **options)
    client: redis.asyncio.Redis = sentinels.master_for(address.master)
    return client


def _place(address: RedisAddress) -> dict[str, Any]:
    if address.path is not None:
        return {"unix_socket_path": address.path}
    ((host, port),) = address.hosts
    return {"host": host, "port": port}


def _asking(address: RedisAddress, options: dict[str, Any]) -> dict[str, Any]:
    """A Sentinel that is away must not be waited for longer than a server."""
    timeouts = {name: value for name, value in options.items() if name.startswith("socket_")}
    return {**address.sentinel_session, **timeouts}


SOCKET_TIMEOUT_SECONDS = 10.0


def open_redis(settings: Settings) -> Redis:
    """A client for the server with the streams; it retries a lost connection a few times before it raises."""
    return connect(
        parse_redis(settings.stream_url),
        socket_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=1), 3),
        health_check_interval=30,
    )
