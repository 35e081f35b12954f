"""How full the server with the streams is, and how full it may become before publishers are turned away.

Redis that has no memory left refuses every write, Celery's messages and the drains' locks among them, or is killed by
its machine. So intake stops earlier, while there is still room for what works the backlog off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from shared.settings import Settings

SHARE_OF_LIMIT = 0.75
"""Of the server's own limit. The rest is for its other data, and for writing its append-only file anew."""
SHARE_OF_MACHINE = 0.5
"""Of the machine's memory where the server has no limit: a forked child that writes a file may need the other half."""
EARLY_TRIM_FILL = 0.8
"""From here on evaluated entries go at once: keeping them for a while is worth less than taking new ones in."""


@dataclass(frozen=True, slots=True)
class StreamMemory:
    """What the server holds in memory, and the most it may hold while events are taken in; 0: no bound."""

    used_bytes: int
    bound_bytes: int

    @property
    def fill(self) -> float:
        """The used share of the bound; 0 where there is none."""
        return self.used_bytes / self.bound_bytes if self.bound_bytes else 0.0


def memory_of(info: Mapping[str, Any], max_bytes: int | None) -> StreamMemory:
    """The memory that an answer to `INFO memory` tells of.

    Args:
        info: the answer; managed servers leave parts of it out.
        max_bytes: the operator's bound; 0: none; None: a share of the server's limit or, without one, of its machine.
    """
    # Buffers toward clients and files don't count toward `maxmemory`, and come and go.
    used_bytes = int(info.get("used_memory", 0)) - int(info.get("mem_not_counted_for_evict", 0))
    if max_bytes is not None:
        return StreamMemory(used_bytes, max_bytes)
    limit_bytes, machine_bytes = int(info.get("maxmemory", 0)), int(info.get("total_system_memory", 0))
    bound = limit_bytes * SHARE_OF_LIMIT if limit_bytes else machine_bytes * SHARE_OF_MACHINE
    return StreamMemory(used_bytes, int(bound))


def read_memory(redis: Redis, settings: Settings) -> StreamMemory:
    """Ask the server for its memory; a managed one that keeps it to itself has no bound here. Raises RedisError."""
    try:
        info: Any = redis.info("memory")
    except ResponseError:
        return StreamMemory(0, 0)
    return memory_of(info, settings.max_stream_bytes)
