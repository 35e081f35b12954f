"""Clients of a Redis Cluster that behave as those of a server alone: they connect when they are used, and raise
RedisError.

redis-py's own client of a cluster connects when it is made, so that no process could start while the cluster is away.
It says that no node can be reached by an exception that is no RedisError, and that a part of the slots has no node by
one that is taken for a fault of the command. Its scripts are loaded into all nodes, so that one node that is away would
stop the work on all others; here a script goes to the node that is to run it.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from hashlib import sha1
from typing import Any

from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.cluster import RedisCluster
from redis.exceptions import ClusterDownError, NoScriptError, RedisClusterException, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.messaging.timed_redis import PIPELINE, timing

# As Any: the stubs of both say too little, and too much, of what is inside.
_Cluster: Any = RedisCluster
_AsyncCluster: Any = AsyncRedisCluster


class ClusterUnavailable(RedisConnectionError):
    """No node of the Redis Cluster can be reached, or none has the slots that are needed: it may be failing over."""


@contextmanager
def _as_redis_errors() -> Iterator[None]:
    try:
        yield
    except (RedisClusterException, ClusterDownError) as exc:
        raise ClusterUnavailable(str(exc)) from exc


class ClusterClient(_Cluster):  # type: ignore[misc]
    """A client for threads."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._made = False
        self._begun = False
        self._making = threading.RLock()
        """Held by the thread that connects first, which sends commands of its own meanwhile; the others wait for it.
        It guards `_made` and `_begun`; the former is also read without it."""

    def _connect(self) -> None:
        if self._made:
            return
        with self._making:
            if self._begun:
                return
            self._begun = True
            try:
                super().__init__(**self._options)
                self._made = True
            finally:
                self._begun = self._made

    def __getattr__(self, name: str) -> Any:
        """What redis-py makes when it connects, such as its table of nodes. Raises RedisError."""
        if name.startswith("__") or self.__dict__.get("_made", True):
            raise AttributeError(name)
        with _as_redis_errors():
            self._connect()  # or wait until another thread has
        return object.__getattribute__(self, name)

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Execute a command on the node that has its keys. Raises RedisError."""
        with timing(args), _as_redis_errors():
            self._connect()
            return super().execute_command(*args, **kwargs)

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> Any:
        """Commands that are sent together, to each node its own. Raises RedisError, as its `execute` does."""
        with _as_redis_errors():
            self._connect()
            made = super().pipeline(transaction, shard_hint)
        made.execute = _translated(made.execute)
        return made

    def register_script(self, script: str | bytes) -> Any:
        """A script that can be called with `keys` and `args`. Raises RedisError."""
        return _Script(self, script)

    def close(self) -> None:
        """Close the connections, if there are any."""
        if self._made:
            super().close()

    def __del__(self) -> None:
        with suppress(Exception):  # as redis-py: at the end of the interpreter anything may be gone
            self.close()


class AsyncClusterClient(_AsyncCluster):  # type: ignore[misc]
    """A client for an event loop, which connects by itself when it is used."""

    async def initialize(self, *args: Any, **kwargs: Any) -> Any:
        """Learn which node has which slots. Raises RedisError."""
        with _as_redis_errors():
            return await super().initialize(*args, **kwargs)

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Execute a command on the node that has its keys. Raises RedisError."""
        with timing(args), _as_redis_errors():
            return await super().execute_command(*args, **kwargs)

    def register_script(self, script: str | bytes) -> Any:
        """A script that can be called with `keys` and `args`. Raises RedisError."""
        return _AsyncScript(self, script)


class _Script:
    """A Lua script, which a node that does not know it is sent as a whole."""

    def __init__(self, redis: Any, script: str | bytes) -> None:
        self._redis = redis
        self._script = script.encode() if isinstance(script, str) else script
        self._digest = sha1(self._script, usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[Any] = (), args: Sequence[Any] = (), client: Any = None) -> Any:
        redis = client or self._redis
        try:
            return redis.evalsha(self._digest, len(keys), *keys, *args)
        except NoScriptError:
            return redis.eval(self._script, len(keys), *keys, *args)


class _AsyncScript(_Script):
    """The same for an event loop."""

    async def __call__(self, keys: Sequence[Any] = (), args: Sequence[Any] = (), client: Any = None) -> Any:
        redis = client or self._redis
        try:
            return await redis.evalsha(self._digest, len(keys), *keys, *args)
        except NoScriptError:
            return await redis.eval(self._script, len(keys), *keys, *args)


def _translated(execute: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(execute)
    def translated(*args: Any, **kwargs: Any) -> Any:
        with timing((PIPELINE,)), _as_redis_errors():
            return execute(*args, **kwargs)

    return translated


def infos_of(redis: Any, section: str) -> list[dict[str, Any]]:
    """The answers to `INFO` of the server or, in a cluster, of the primaries that can be reached.

    Raises:
        RedisError: where none answers.
    """
    if not isinstance(redis, ClusterClient):
        return [redis.info(section)]
    found: list[dict[str, Any]] = []
    failure: RedisError | None = None
    for node in redis.get_primaries():
        try:
            found.append(_one(redis.info(section, target_nodes=[node])))
        except RedisError as exc:
            failure = exc
    return _found_or(found, failure)


async def async_infos_of(redis: Any, section: str) -> list[dict[str, Any]]:
    """The same by a client for an event loop."""
    if not isinstance(redis, AsyncClusterClient):
        return [await redis.info(section)]
    await redis.initialize()
    found: list[dict[str, Any]] = []
    failure: RedisError | None = None
    for node in redis.get_primaries():
        try:
            answer: Awaitable[Any] = redis.info(section, target_nodes=[node])
            found.append(_one(await answer))
        except RedisError as exc:
            failure = exc
    return _found_or(found, failure)


def _one(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer of one node, which some releases of redis-py wrap into a dictionary by nodes."""
    values = list(answer.values())
    return dict(values[0]) if len(values) == 1 and isinstance(values[0], dict) else answer


def _found_or(found: list[dict[str, Any]], failure: RedisError | None) -> list[dict[str, Any]]:
    if not found:
        raise failure or ClusterUnavailable(ClusterUnavailable.__doc__)
    return found


async def check_answer(redis: Any) -> None:
    """Ask the server whether it is there or, of a cluster, whether all slots have a node. Raises RedisError."""
    if not isinstance(redis, AsyncRedisCluster):
        await redis.ping()
        return
    state: Any = await redis.cluster_info(target_nodes=AsyncRedisCluster.RANDOM)
    if state["cluster_state"] != "ok":
        raise ClusterUnavailable(ClusterUnavailable.__doc__)
