"""Clients of Redis that tell how long it took for each command."""

from __future__ import annotations

import time
from functools import lru_cache
from types import TracebackType
from typing import Any

import redis.asyncio
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as NotInTime

from shared.observability import saturation_metrics as metrics

_WAITS = frozenset({"BLPOP", "BRPOP", "SUBSCRIBE", "PSUBSCRIBE"})
_READS = frozenset({"XREAD", "XREADGROUP"})
_BLOCK = ("BLOCK", b"BLOCK")
PIPELINE = "PIPELINE"


class timing:  # noqa: N801 - read as a verb: `with timing(args):`
    """Observes how long a command takes, or that it failed. One that waits for news says nothing of the server."""

    __slots__ = ("_args", "_began")

    def __init__(self, args: tuple[Any, ...]) -> None:
        self._args = args

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, _at: TracebackType | None) -> None:
        if exc is None:
            args = self._args
            command = _word(str(args[0]))
            if not (command in _WAITS or (command in _READS and any(one in _BLOCK for one in args[:7]))):
                metrics.observe_command(command, self._began)
        elif isinstance(exc, RedisError) and not isinstance(exc, NoScriptError):  # whose script is sent then
            metrics.count_redis_fault(unavailable=isinstance(exc, NotConnected | NotInTime))


@lru_cache(maxsize=256)
def _word(command: str) -> str:
    return command.partition(" ")[0].upper()


class TimedPipeline(Pipeline):
    """Commands that are sent together."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send them; their answers. Raises RedisError."""
        with timing((PIPELINE,)):
            return super().execute(raise_on_error)


class TimedRedis(Redis):
    """A client for threads."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command; its answer. Raises RedisError."""
        with timing(args):
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Commands to send together."""
        return TimedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class TimedAsyncPipeline(redis.asyncio.client.Pipeline):
    """Commands that an event loop sends together."""

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send them; their answers. Raises RedisError."""
        with timing((PIPELINE,)):
            return await super().execute(raise_on_error)


class TimedAsyncRedis(redis.asyncio.Redis):
    """A client for an event loop."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send a command; its answer. Raises RedisError."""
        with timing(args):
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> redis.asyncio.client.Pipeline:
        """Commands to send together."""
        return TimedAsyncPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
