"""The pump: wakes drains when there is news, and sweeps for what no news announces.

It decides nothing and holds no state that matters: run two for availability, kill either at any time.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from dispatcher.pump.maintenance import Maintenance
from dispatcher.pump.notices import append_notices
from shared.domain.events.partitioning import START, Offset
from shared.messaging.celery_app import celery_app
from shared.messaging.redis_clients import open_redis
from shared.messaging.stream_memory import read_memory
from shared.messaging.streams import Lag, lags, stream_key
from shared.messaging.wakeups import Waker
from shared.observability import exposition, metrics
from shared.observability.heartbeat import beat
from shared.observability.logs import configure_logging, get_logger
from shared.settings import Settings
from shared.storage.database.clock import DatabaseClock
from shared.storage.database.engine import checkpoint, open_engine
from shared.storage.database.transactions import read_transaction
from shared.storage.delivery.backlog import DueWebhook, due_webhooks, queue_state
from shared.storage.evaluation.offsets import read_offsets
from shared.storage.schema.gate import SchemaGate, SchemaTooOld

log = get_logger("hookline.dispatcher")

BLOCK_MILLISECONDS = 1000
# Under load there is news all the time, and a woken drain reads on by itself: a short rest costs no latency then.
REST_SECONDS = 0.003
GAUGE_SECONDS = 5.0
FAILURE_REST_SECONDS = 1.0
PARTS = 10
"""In so many parts a sweep wakes what is due."""
CHECKPOINT_SECONDS = 1.0


class Pump:
    """Watches the streams, sweeps and does the chores, each in a thread of its own until it is stopped."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = open_engine(settings)
        self._clock = DatabaseClock(self._engine)
        self._redis = open_redis(settings)
        self._waker = Waker(celery_app(settings), self._redis)
        self._stop = threading.Event()
        self._gauged = float("-inf")
        self._schema = SchemaGate(self._engine)
        chores = Maintenance(settings, self._engine, self._redis, self._stop)
        self._threads = [
            threading.Thread(target=self._forever, args=(work,), name=name, daemon=True)
            for name, work in (
                ("watch", self._migrated(self._watch())),
                ("sweep", self._sweep),
                ("notices", self._migrated(self._tell)),
                ("chores", self._migrated(chores.round)),
                ("checkpoint", self._migrated(self._checkpoint)),
            )
        ]

    def start(self) -> None:
        """Begin to watch and sweep."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop, and let connections go."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=5)
        self._redis.close()
        self._engine.dispose()

    def _forever(self, work: Callable[[], None]) -> None:
        """Repeat a round of work; a server that can't be reached is waited for, as is a migration."""
        while not self._stop.is_set():
            try:
                work()
            except SchemaTooOld:
                self._stop.wait(FAILURE_REST_SECONDS)
            except (RedisError, SQLAlchemyError, OSError) as exc:
                if isinstance(exc, SQLAlchemyError):
                    self._schema.doubt()
                error = str(exc).partition("\n")[0]
                log.warning("pump.waiting", thread=threading.current_thread().name, error=error)
                self._stop.wait(FAILURE_REST_SECONDS)

    def _migrated(self, work: Callable[[], None]) -> Callable[[], None]:
        """A round that is not begun on a schema older than the code."""

        def round_of_work() -> None:
            self._schema.check()
            work()

        return round_of_work

    def _watch(self) -> Callable[[], None]:
        """A round that blocks until some stream has news, and wakes the drains of those that have."""
        seen: dict[Any, Any] = {stream_key(partition): "$" for partition in range(self._settings.partitions)}
        partition_of = {stream_key(partition): partition for partition in range(self._settings.partitions)}

        def watch() -> None:
            news: Any = self._redis.xread(seen, count=1, block=BLOCK_MILLISECONDS)
            if not news:
                return
            keys = [key.decode() for key, _entries in (news.items() if isinstance(news, dict) else news)]

            def look(pipeline: Any) -> None:
                # Before they are woken: drains read to the end, but what comes after they have is news again.
                for key in keys:
                    pipeline.xrevrange(key, count=1)

            newest = self._waker.wake_partitions((partition_of[key] for key in keys), after=look)
            seen.update((key, last[0][0].decode() if last else "$") for key, last in zip(keys, newest, strict=True))
            self._stop.wait(REST_SECONDS)

        return watch

    def _sweep(self) -> None:
        """Wake what is due or lagging, and show gauges."""
        beat(self._settings)  # whether or not servers can be reached: a new process could not reach them either
        self._schema.check()
        began = time.monotonic()
        now = self._clock.now()
        with read_transaction(self._engine) as connection:
            offsets = read_offsets(connection)
            due = due_webhooks(connection, now)
        found = self._lags(offsets, now)
        self._waker.wake_partitions(partition for partition, lag in found.items() if lag.entries)
        metrics.PUMP_LAST_SWEEP.set(time.time())
        self._wake_in_parts(due, until=began + self._settings.sweep_interval.total_seconds() / 2)
        if began - self._gauged >= GAUGE_SECONDS:
            self._show(found, now)
            self._gauged = began
        self._stop.wait(max(0.0, self._settings.sweep_interval.total_seconds() - (time.monotonic() - began)))

    def _wake_in_parts(self, due: Sequence[DueWebhook], *, until: float) -> None:
        """Wake drains over a while: all retries of a second at once would keep workers from what is sent meanwhile."""
        size = math.ceil(len(due) / PARTS)
        for start in range(0, len(due), size or 1):
            part = due[start : start + size]
            self._waker.wake_webhooks((one.id for one in part), slow={one.id for one in part if one.slow})
            left = (len(due) - start) / size - 1
            if left > 0:
                self._stop.wait(max(0.0, (until - time.monotonic()) / left))

    def _tell(self) -> None:
        """Bring notices to the streams."""
        if append_notices(self._engine, self._redis, self._settings.partitions) == 0:
            self._stop.wait(self._settings.sweep_interval.total_seconds())

    def _checkpoint(self) -> None:
        """On SQLite, bring to the disk what was committed: a power failure costs no more than the last moment."""
        checkpoint(self._engine)
        self._stop.wait(CHECKPOINT_SECONDS)

    def _lags(self, offsets: dict[int, Offset], now: datetime) -> dict[int, Lag]:
        known = {
            partition: (offset.entry_id, offset.entries_read)
            for partition in range(self._settings.partitions)
            for offset in (offsets.get(partition, Offset(START, 0)),)
        }
        return lags(self._redis, known, now.timestamp())

    def _show(self, found: dict[int, Lag], now: datetime) -> None:
        for partition, lag in found.items():
            metrics.EVALUATION_LAG_ENTRIES.labels(partition=str(partition)).set(lag.entries)
            metrics.EVALUATION_LAG_SECONDS.labels(partition=str(partition)).set(lag.seconds)
        memory = read_memory(self._redis, self._settings)
        metrics.STREAM_MEMORY.set(memory.used_bytes)
        metrics.STREAM_MEMORY_BOUND.set(memory.bound_bytes)
        with read_transaction(self._engine) as connection:
            state = queue_state(connection, now)
        metrics.DELIVERIES_PENDING.set(state.pending)
        metrics.DELIVERIES_DUE.set(state.due)
        metrics.DELIVERIES_HELD.set(state.held)
        metrics.DELIVERIES_DEAD.set(state.dead)
        metrics.OLDEST_DUE.set(state.oldest_due_seconds)
        metrics.WEBHOOKS_DISABLED.set(state.webhooks_disabled)
        metrics.WEBHOOK_CIRCUIT_OPEN.set(state.circuits_open)


def run(settings: Settings) -> None:
    """Run the pump until SIGTERM or SIGINT."""
    configure_logging(settings, "dispatcher")
    exposition.serve(settings)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    pump = Pump(settings)
    pump.start()
    log.info("dispatcher.started", partitions=settings.partitions)
    ended.wait()
    pump.stop()
