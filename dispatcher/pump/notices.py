"""Moving notices from the database to the streams, where they are events like any other."""

from __future__ import annotations

from collections import Counter

from redis import Redis
from sqlalchemy import Engine

from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import decode_event
from shared.domain.events.partitioning import partition_of
from shared.messaging.streams import FIELD, stream_key
from shared.observability import metrics
from shared.observability.logs import get_logger
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.delivery.notices import WaitingNotice, delete_notices, waiting_notices

log = get_logger("hookline.dispatcher")

BATCH = 500
"""Notices moved by one round; the rest follows in the next, without a pause."""


def append_notices(engine: Engine, redis: Redis, partitions: int) -> int:
    """Append up to `BATCH` waiting notices to their streams, and only then delete them.

    Two pumps, or one that dies in between, may append a notice twice. Its source and id are the same, so it fires once.

    Returns:
        The number of notices that were moved.

    Raises:
        redis.exceptions.RedisError: when the streams did not take them; they stay in the database.
    """
    with read_transaction(engine) as connection:
        waiting = waiting_notices(connection, BATCH)
    if not waiting:
        return 0
    pipeline = redis.pipeline(transaction=False)
    told: Counter[str] = Counter()
    for notice in waiting:
        pipeline.xadd(stream_key(_partition(notice, partitions, told)), {FIELD: notice.event})
    pipeline.execute()
    with write_transaction(engine) as connection:
        delete_notices(connection, [notice.id for notice in waiting])
    metrics.count_published(told)
    return len(waiting)


def _partition(notice: WaitingNotice, partitions: int, told: Counter[str]) -> int:
    try:
        event = decode_event(notice.event)
    except InvalidDefinition as exc:
        # Another version wrote it. As a poison entry it is stored with its reason; here it would hold up the others.
        log.error("notice.unreadable", error=str(exc))
        return 0
    told[str(event.type)] += 1
    return partition_of(event, partitions)
