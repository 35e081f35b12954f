"""Announces edits to workers: the newest edit's revision stands beside the streams and is read together with entries.
In a Redis Cluster, where nothing is beside all streams, it stands beside each of them.

A worker looks for edits every `HOOKLINE_RELOAD_INTERVAL`. By the number it sees that there is one that it
has not taken in yet, so entries that were added after an edit was answered are evaluated with it. The number says only
that there is something to read: the database has the truth, and a lost number costs no more than the interval.
"""

from __future__ import annotations

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from sqlalchemy import Engine

from shared.config.server_urls import parse_redis
from shared.messaging.keys import is_cluster, key_tag
from shared.messaging.redis_clients import connect
from shared.observability.logs import get_logger
from shared.settings import Settings

log = get_logger("hookline.edits")

REVISION_KEY = "hookline:revision"
"""Written by each process that commits an edit, read by drains together with entries. Of two edits at the same moment
the older may be written last. That does no harm: drains read the database at any number other than their last one."""
_ANNOUNCE_SECONDS = 1.0
"""How long an edit waits for a server that does not answer, and as long again on a new connection."""


def announce_edits(engine: Engine, settings: Settings) -> Redis:
    """From now on, announce each edit that this engine commits, right after its commit and in the same call.

    Returns:
        The client that announces, which connects at the first edit; the caller closes it.
    """
    redis = connect(
        parse_redis(settings.stream_url),
        socket_timeout=_ANNOUNCE_SECONDS,
        socket_connect_timeout=_ANNOUNCE_SECONDS,
        retry=Retry(NoBackoff(), 1),
    )

    def announce(revision: int) -> None:
        try:
            _tell(redis, settings.partitions, revision)
        except (RedisError, OSError) as exc:  # the edit is made; workers find it within their interval
            log.warning("edit.untold", revision=revision, error=type(exc).__name__)

    engine.update_execution_options(hookline_announce_edit=announce)
    return redis


def revision_key(redis: Redis, partition: int) -> str:
    """The key with the newest edit's revision that is read together with a partition's entries."""
    return f"{REVISION_KEY}:{key_tag(redis, partition)}" if is_cluster(redis) else REVISION_KEY


def _tell(redis: Redis, partitions: int, revision: int) -> None:
    if not is_cluster(redis):
        redis.set(REVISION_KEY, revision)
        return
    pipeline = redis.pipeline(transaction=False)
    for partition in range(partitions):
        pipeline.set(revision_key(redis, partition), revision)
    pipeline.execute()
