"""Which processes are alive: each writes every few seconds to Redis what it is and does, and when it last did so.

By Redis' clock, so that no machine's matters. What a process writes is for people and alerts; no work depends on it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from sqlalchemy.exc import SQLAlchemyError

from shared.config.server_urls import parse_redis
from shared.domain.json_text import read_json, write_json
from shared.health.environment import EnvironmentFault
from shared.messaging.redis_clients import connect
from shared.observability.logs import get_logger
from shared.settings import Settings
from shared.version import __version__

log = get_logger("hookline.health")

PROCESSES_KEY = "hookline:processes"
"""A hash: for each process the second of its last sign of life, a blank, and what it said."""
BEAT_SECONDS = 5.0
ALIVE_SECONDS = 20
"""Without a sign of life for longer, a process is taken for gone. One that ends says so itself."""
_MEASURE_SECONDS = 60.0
_TIMEOUT_SECONDS = 2.0
_JOIN_SECONDS = 5.0

_BEAT = """
local now = redis.call('TIME')[1]
redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
"""
# What was killed leaves its field; whoever reads removes it.
_READ = """
local now, alive = tonumber(redis.call('TIME')[1]), {}
local all = redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
  local second, said = string.match(all[at + 1], '^(%d+) (.*)$')
  if second and now - tonumber(second) <= tonumber(ARGV[1]) then
    alive[#alive + 1] = tostring(now - tonumber(second))
    alive[#alive + 1] = said
  else
    redis.call('HDEL', KEYS[1], all[at])
  end
end
return alive
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process that is alive."""

    role: str
    """`api`, `worker` or `dispatcher`."""
    name: str
    """The host, or a worker's Celery name."""
    pid: int
    version: str
    queues: tuple[str, ...] = ()
    """What a worker consumes now, without queues that were cancelled; none while its loop hangs."""
    swept_seconds_ago: float | None = None
    """Of a dispatcher; None before its first sweep."""
    seen_seconds_ago: float = 0.0
    faults: tuple[EnvironmentFault, ...] = ()
    """What is wrong with what it runs on."""


@dataclass(slots=True)
class Doing:
    """What a process does at a moment."""

    queues: Sequence[str] = ()
    swept_seconds_ago: float | None = None


def _nothing() -> Doing:
    return Doing()


@dataclass(slots=True)
class Presence:
    """Signs of life of this process, from a thread of its own until `stop`.

    `measure` is asked for faults at the start and once a minute, `doing` at every sign of life, both in that thread. A
    server that is away is tried again at the next; a fault is logged when it appears.
    """

    settings: Settings
    role: str
    measure: Callable[[], Sequence[EnvironmentFault]]
    name: str = field(default_factory=socket.gethostname)
    doing: Callable[[], Doing] = _nothing
    faults: tuple[EnvironmentFault, ...] = ()
    """Those found last; replaced as a whole."""
    _ending: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)
        self._thread.start()

    def stop(self, *, wait: bool = True) -> None:
        """End, and tell that this process has ended."""
        self._ending.set()
        if wait and self._thread is not None:
            self._thread.join(timeout=_JOIN_SECONDS)

    def _run(self) -> None:
        field_of_process = f"{self.role}:{self.name}:{os.getpid()}"
        redis = open_presence_redis(self.settings)
        measured = float("-inf")
        try:
            while not self._ending.is_set():
                if time.monotonic() - measured >= _MEASURE_SECONDS:
                    self._measure()
                    measured = time.monotonic()
                try:
                    beat(redis, field_of_process, self._said())
                except (RedisError, OSError) as exc:
                    log.debug("presence.untold", error=type(exc).__name__)
                self._ending.wait(BEAT_SECONDS)
            try:
                redis.hdel(PROCESSES_KEY, field_of_process)
            except (RedisError, OSError) as exc:
                log.debug("presence.untold", error=type(exc).__name__)
        finally:
            redis.close()

    def _measure(self) -> None:
        try:
            found = tuple(self.measure())
        except (RedisError, SQLAlchemyError, OSError) as exc:  # whoever needs the server reports it
            log.debug("environment.unmeasured", error=type(exc).__name__)
            return
        known = {one.fault for one in self.faults}
        for one in found:
            if one.fault not in known:
                log.warning("environment.fault", fault=one.fault, detail=one.text)
        self.faults = found

    def _said(self) -> Mapping[str, Any]:
        doing = self.doing()
        return {
            "role": self.role,
            "name": self.name,
            "pid": os.getpid(),
            "version": __version__,
            "queues": list(doing.queues),
            "swept_seconds_ago": doing.swept_seconds_ago,
            "faults": [{"fault": one.fault, "text": one.text} for one in self.faults],
        }


def open_presence_redis(settings: Settings) -> Redis:
    """A client that waits two seconds for a server, for what is better late than in the way."""
    return connect(
        parse_redis(settings.stream_url),
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def beat(redis: Redis, process: str, said: Mapping[str, Any]) -> None:
    """Write a sign of life. Raises RedisError."""
    script: Any = redis.register_script(_BEAT)
    script(keys=[PROCESSES_KEY], args=[process, write_json(said), ALIVE_SECONDS * 10])


def read_processes(redis: Redis) -> list[Process]:
    """The processes that are alive, by role and name. Raises RedisError."""
    script: Any = redis.register_script(_READ)
    found: Any = script(keys=[PROCESSES_KEY], args=[ALIVE_SECONDS])
    processes = [_process(float(seconds), said) for seconds, said in zip(found[::2], found[1::2], strict=True)]
    return sorted(filter(None, processes), key=lambda one: (one.role, one.name, one.pid))


def _process(seen_seconds_ago: float, said: bytes) -> Process | None:
    """What a process said; None where another version says it in a way that this one can't read."""
    try:
        told: Any = read_json(said)
        swept = told["swept_seconds_ago"]
        return Process(
            role=str(told["role"]),
            name=str(told["name"]),
            pid=int(told["pid"]),
            version=str(told["version"]),
            queues=tuple(map(str, told["queues"])),
            swept_seconds_ago=None if swept is None else float(swept) + seen_seconds_ago,
            seen_seconds_ago=seen_seconds_ago,
            faults=tuple(EnvironmentFault(str(one["fault"]), str(one["text"])) for one in told["faults"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
