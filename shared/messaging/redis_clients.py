"""Clients of the Redis or Valkey server that an address names; behind Sentinels, of the one that is the master.

A client holds a pool of connections and may be used from any thread, an asynchronous one on its own event loop. It
connects when it is used.
"""

from __future__ import annotations

from typing import Any

import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis import Redis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from shared.config.server_urls import RedisAddress, parse_redis
from shared.settings import Settings

# As Any: without types in redis-py.
_Sentinel: Any = redis.sentinel.Sentinel
_AsyncSentinel: Any = redis.asyncio.sentinel.Sentinel


SOCKET_TIMEOUT_SECONDS = 10.0
"""How long a server may take to answer or to accept a connection.

No command takes long, and the longest that blocks, the dispatcher's XREAD, waits for a second. Half as long would fail
while a busy server rewrites its append-only file; twice as long would delay what waits for Redis after a host is lost.
"""
_RETRIES = 3
"""How often a command is tried again on a new connection, within about a second in all."""
_OPTIONS: dict[str, Any] = {
    "socket_timeout": SOCKET_TIMEOUT_SECONDS,
    "socket_connect_timeout": SOCKET_TIMEOUT_SECONDS,
    # A connection that was idle for longer is tried by a PING first: a firewall may have forgotten it.
    "health_check_interval": 30,
}


def connect(address: RedisAddress, **options: Any) -> Redis:
    """A client for threads; `options` are redis-py's."""
    if address.master is None:
        return Redis(**_place(address), **address.session, **options)
    sentinels = _Sentinel(
        address.hosts, sentinel_kwargs=_sentinel_options(address, options), **address.session, **options
    )
    client: Redis = sentinels.master_for(address.master)
    return client


def connect_async(address: RedisAddress, **options: Any) -> redis.asyncio.Redis:
    """A client for an event loop; `options` are redis-py's."""
    if address.master is None:
        return redis.asyncio.Redis(**_place(address), **address.session, **options)
    sentinels = _AsyncSentinel(
        address.hosts, sentinel_kwargs=_sentinel_options(address, options), **address.session, **options
    )
    client: redis.asyncio.Redis = sentinels.master_for(address.master)
    return client


def _place(address: RedisAddress) -> dict[str, Any]:
    if address.path is not None:
        return {"unix_socket_path": address.path}
    ((host, port),) = address.hosts
    return {"host": host, "port": port}


def _sentinel_options(address: RedisAddress, options: dict[str, Any]) -> dict[str, Any]:
    """The options of connections to Sentinels, with the time-outs of those to the server."""
    timeouts = {name: value for name, value in options.items() if name.startswith("socket_")}
    return {**address.sentinel_session, **timeouts}


def open_redis(settings: Settings) -> Redis:
    """A client for threads of the server with the streams; it retries a lost connection before it raises."""
    return connect(parse_redis(settings.stream_url), retry=Retry(_backoff(), _RETRIES), **_OPTIONS)


def open_async_redis(settings: Settings) -> redis.asyncio.Redis:
    """The same client for an event loop."""
    return connect_async(parse_redis(settings.stream_url), retry=AsyncRetry(_backoff(), _RETRIES), **_OPTIONS)


def _backoff() -> ExponentialWithJitterBackoff:
    return ExponentialWithJitterBackoff(base=0.05, cap=1)
