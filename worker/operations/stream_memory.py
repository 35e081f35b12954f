"""What `celery -A worker streams memory` reads: the server's memory and its bound, and what each stream holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from shared.messaging.redis_clients import open_redis
from shared.messaging.stream_memory import read_memory
from shared.messaging.streams import stream_key
from shared.settings import Settings
from worker.operations.audit import Row


def read_stream_memory(settings: Settings) -> Row:
    """Read the memory of the server, and length, size and first and last entry of each stream.

    Sizes are the server's estimates; None where it does not tell, as some managed ones. Raises
    `redis.exceptions.RedisError`.
    """
    with open_redis(settings) as redis:
        memory = read_memory(redis, settings)
        rows = [_stream(redis, partition) for partition in range(settings.partitions)]
    sizes = [row["bytes"] for row in rows]
    streams_bytes = None if None in sizes else sum(sizes)
    total = {
        "length": sum(row["length"] for row in rows),
        "streams_bytes": streams_bytes,
        "other_bytes": None if streams_bytes is None else max(0, memory.used_bytes - streams_bytes),
        "used_bytes": memory.used_bytes,
        "bound_bytes": memory.bound_bytes,
        "fill": round(memory.fill, 4),
    }
    return {"partitions": rows, "total": total}


def _stream(redis: Redis, partition: int) -> Row:
    key = stream_key(partition)
    first, last = redis.xrange(key, count=1), redis.xrevrange(key, count=1)
    return {
        "partition": partition,
        "length": int(redis.xlen(key)),
        "bytes": _size(redis, key),
        "oldest": _time(first),
        "newest": _time(last),
    }


def _size(redis: Redis, key: str) -> int | None:
    try:
        size: Any = redis.memory_usage(key)
    except ResponseError:
        return None
    return int(size or 0)


def _time(entries: Any) -> datetime | None:
    """When the server received an entry: its id begins with the milliseconds of Unix time."""
    return datetime.fromtimestamp(int(entries[0][0].partition(b"-")[0]) / 1000, UTC) if entries else None
