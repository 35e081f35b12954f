"""Clients of the Redis or Valkey server that an address names; behind Sentinels, of the one that is the master; of a
Redis Cluster, of all its nodes.

A client holds a pool of connections and may be used from any thread, an asynchronous one on its own event loop. It
connects when it is used.
"""

from __future__ import annotations

from typing import Any, cast

import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.cluster
import redis.sentinel
from redis import Redis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from shared.config.server_urls import RedisAddress, parse_redis
from shared.messaging.cluster_clients import AsyncClusterClient, ClusterClient
from shared.messaging.timed_redis import TimedAsyncRedis, TimedRedis
from shared.settings import Settings

# As Any: without types in redis-py.
_Sentinel: Any = redis.sentinel.Sentinel
_AsyncSentinel: Any = redis.asyncio.sentinel.Sentinel
_Node: Any = redis.cluster.ClusterNode
_AsyncNode: Any = redis.asyncio.cluster.ClusterNode


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
_OF_A_CLUSTER: dict[str, Any] = {"require_full_coverage": False, "max_connections": 10_000}
"""A cluster of which a part is away is used as far as its servers let it. The other is no bound, as for one server;
redis-py would refuse the 101st command at a time."""


def connect(address: RedisAddress, **options: Any) -> Redis:
    """A client for threads; `options` are redis-py's.

    That of a cluster has the commands of a server's. What needs several keys is for callers to keep on one node
    (`shared.messaging.keys`).
    """
    if address.cluster:
        nodes = [_Node(host, port) for host, port in address.hosts]
        return cast(Redis, ClusterClient(startup_nodes=nodes, **_OF_A_CLUSTER, **address.session, **options))
    if address.master is None:
        return TimedRedis(**_place(address), **address.session, **options)
    sentinels = _Sentinel(
        address.hosts, sentinel_kwargs=_sentinel_options(address, options), **address.session, **options
    )
    client: Redis = sentinels.master_for(address.master, redis_class=TimedRedis)
    return client


def connect_async(address: RedisAddress, **options: Any) -> redis.asyncio.Redis:
    """A client for an event loop; `options` are redis-py's."""
    if address.cluster:
        nodes = [_AsyncNode(host, port) for host, port in address.hosts]
        client_of_all = AsyncClusterClient(startup_nodes=nodes, **_OF_A_CLUSTER, **address.session, **options)
        return cast(redis.asyncio.Redis, client_of_all)
    if address.master is None:
        return TimedAsyncRedis(**_place(address), **address.session, **options)
    sentinels = _AsyncSentinel(
        address.hosts, sentinel_kwargs=_sentinel_options(address, options), **address.session, **options
    )
    client: redis.asyncio.Redis = sentinels.master_for(address.master, redis_class=TimedAsyncRedis)
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
