"""Notices on their last steps: from the database to the streams, where they are events like any other."""

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

AT_ONCE = 500


def append_notices(engine: Engine, redis: Redis, partitions: int) -> int:
    """Append up to `AT_ONCE` waiting notices to their streams, and only then delete them.

    Two pumps, or one that dies in between, append a notice twice: it is known by its source and id, and fires once.

    Returns:
        How many there were.

    Raises:
        redis.exceptions.RedisError: when the streams did not take them; they wait.
    """
    with read_transaction(engine) as connection:
        waiting = waiting_notices(connection, AT_ONCE)
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
        # Written by another version. Evaluation sets it aside and keeps it, where one that stayed would block the rest.
        log.error("notice.unreadable", error=str(exc))
        return 0
    told[str(event.type)] += 1
    return partition_of(event, partitions)
