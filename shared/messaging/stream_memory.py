"""The memory of the server with the streams, and its bound, above which publishing is refused.

A Redis without free memory refuses every write, Celery's messages and drains' leases among them, or is killed by its
machine. So intake stops earlier, while there is still room for the work that empties the backlog.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from shared.messaging.cluster_clients import infos_of
from shared.settings import Settings

SHARE_OF_LIMIT = 0.75
"""The bound as a share of the server's `maxmemory`. The rest is for the broker's queues, leases and tokens, and for the
buffers while the append-only file is rewritten."""
SHARE_OF_MACHINE = 0.5
"""The bound as a share of the machine's memory, where the server has no limit. A fork that writes a file copies each
page that changes meanwhile, at worst all of them: with more than half the kernel may kill the server."""
EARLY_TRIM_FILL = 0.8
"""The fill from which on evaluated entries are dropped without waiting for their retention: room for new events is
worth more than history for dry runs."""


@dataclass(frozen=True, slots=True)
class StreamMemory:
    """How much memory a server uses, and the most it may use while events are taken in; a bound of 0 is none."""

    used_bytes: int
    bound_bytes: int

    @property
    def fill(self) -> float:
        """The used share of the bound; 0 where there is none."""
        return self.used_bytes / self.bound_bytes if self.bound_bytes else 0.0


def memory_of(info: Mapping[str, Any], max_bytes: int | None) -> StreamMemory:
    """The memory by an answer to `INFO memory`.

    Args:
        info: the answer; managed servers leave parts of it out.
        max_bytes: the operator's bound; 0: none; None: a share of the server's limit or, without one, of its machine.
    """
    # Buffers toward clients and files come and go, and don't count toward `maxmemory`.
    used_bytes = int(info.get("used_memory", 0)) - int(info.get("mem_not_counted_for_evict", 0))
    if max_bytes is not None:
        return StreamMemory(used_bytes, max_bytes)
    limit_bytes, machine_bytes = int(info.get("maxmemory", 0)), int(info.get("total_system_memory", 0))
    bound = limit_bytes * SHARE_OF_LIMIT if limit_bytes else machine_bytes * SHARE_OF_MACHINE
    return StreamMemory(used_bytes, int(bound))


def fullest(infos: Iterable[Mapping[str, Any]], max_bytes: int | None) -> StreamMemory:
    """The memory of the fullest of some servers: in a cluster one that is full refuses its part of the events."""
    return max((memory_of(info, max_bytes) for info in infos), key=lambda memory: (memory.fill, memory.used_bytes))


def read_memory(redis: Redis, settings: Settings) -> StreamMemory:
    """Ask the server for its memory, in a cluster each node that takes writes, of which the fullest counts.

    One that refuses to tell, as some managed ones do, has no bound. Raises RedisError.
    """
    try:
        return fullest(infos_of(redis, "memory"), settings.max_stream_bytes)
    except ResponseError:
        return StreamMemory(0, 0)
