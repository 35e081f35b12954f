"""What `celery -A worker streams lag` reads: the committed offsets, and the streams after them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError
from sqlalchemy import Engine

from shared.messaging.redis_clients import open_redis
from shared.messaging.streams import read_lags, stream_key
from shared.settings import Settings
from shared.storage.database.transactions import read_transaction
from shared.storage.evaluation.offsets import read_all_offsets
from worker.operations.audit import Row


def list_stream_lags(settings: Settings, engine: Engine) -> Row:
    """Read the lag of each partition, and of all. Raises `redis.exceptions.RedisError`."""
    with read_transaction(engine) as connection:
        offsets = read_all_offsets(connection, settings.partitions)
    with open_redis(settings) as redis:
        lags = read_lags(redis, offsets, datetime.now(UTC).timestamp())
        rows = [
            {
                "partition": partition,
                "entries": lags[partition].entries,
                "seconds": round(lags[partition].seconds, 3),
                "offset": offset.entry_id,
                "evaluated": offset.entries_read,
                **_stream(redis, partition),
            }
            for partition, offset in offsets.items()
        ]
    total = {"entries": sum(row["entries"] for row in rows), "seconds": max(row["seconds"] for row in rows)}
    return {"partitions": rows, "total": total}


def _stream(redis: Redis, partition: int) -> Row:
    try:
        info: Any = redis.xinfo_stream(stream_key(partition))
    except ResponseError:  # nothing was ever published to it
        return {"length": 0, "last_entry": None}
    return {"length": int(info["length"]), "last_entry": info["last-generated-id"].decode()}
