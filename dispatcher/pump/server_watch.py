"""When the database and the Redis server with the streams last answered: it tells for want of whom nothing is done.

Each is asked in a thread of its own, which a server that hangs may hold up: the time of its last answer then stands
still, and the alerts go by its age.
"""

from __future__ import annotations

import threading
import time

from sqlalchemy import Engine, select

from shared.health.presence import open_presence_redis
from shared.observability import metrics
from shared.settings import Settings
from shared.storage.database.transactions import read_transaction

ASK_SECONDS = 5.0
DATABASE, REDIS = "database", "redis"


class ServerWatch:
    """Asks both servers. Each method is called again and again by one thread until `stopping` is set."""

    def __init__(self, settings: Settings, engine: Engine, stopping: threading.Event) -> None:
        self._engine = engine
        self._redis = open_presence_redis(settings)
        self._stopping = stopping

    def begin(self) -> None:
        """Count from now."""
        for server in (DATABASE, REDIS):
            _answered(server)

    def ask_database(self) -> None:
        """One round. Raises SQLAlchemyError."""
        with read_transaction(self._engine) as connection:
            connection.execute(select(1))
        _answered(DATABASE)
        self._stopping.wait(ASK_SECONDS)

    def ask_redis(self) -> None:
        """One round. Raises RedisError or OSError."""
        self._redis.ping()
        _answered(REDIS)
        self._stopping.wait(ASK_SECONDS)

    def close(self) -> None:
        """Close the connection to Redis; the engine is the caller's."""
        self._redis.close()


def _answered(server: str) -> None:
    metrics.SERVER_ANSWERED.labels(server=server).set(time.time())
