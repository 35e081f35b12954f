"""What the pump does now and then: trim streams, bury deliveries of deleted webhooks, forget what is old.

Must not hold anybody up: deleting goes in small batches with rests between them, and only one pump does it at a time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from threading import Event

from redis import Redis
from sqlalchemy import Engine

from shared.messaging.stream_memory import EARLY_TRIM_FILL, read_memory
from shared.messaging.streams import trim
from shared.observability import metrics
from shared.observability.logs import get_logger
from shared.settings import Settings
from shared.storage.database.clock import DatabaseClock
from shared.storage.database.transactions import write_transaction
from shared.storage.delivery.history import DELETED_REASON
from shared.storage.evaluation.offsets import read_offsets_on_disk
from shared.storage.maintenance import retention
from shared.storage.maintenance.orphaned_deliveries import dead_letter_orphans
from shared.storage.maintenance.retention import PurgedBatch
from shared.storage.schema.tables import DEAD

log = get_logger("hookline.dispatcher")

TRIM_SECONDS = 10.0
TRIM_FULL_SECONDS = 1.0
FORGET_SECONDS = 60.0
REST_SECONDS = 0.05
LOCK = "hookline:forgetting"
LOCK_SECONDS = 60


class Maintenance:
    """One round after the other, until `stop` is set."""

    def __init__(self, settings: Settings, engine: Engine, redis: Redis, stop: Event) -> None:
        self._settings = settings
        self._engine = engine
        self._clock = DatabaseClock(engine)
        self._redis = redis
        self._stop = stop
        self._forgot = float("-inf")

    def round(self) -> None:
        """Do what is due, and rest."""
        began = time.monotonic()
        nearly_full = self.trim(self._clock.now())
        self.bury_orphans(self._clock.now())
        if began - self._forgot >= FORGET_SECONDS:
            self.forget(self._clock.now())
            self._forgot = began
        pace_seconds = TRIM_FULL_SECONDS if nearly_full else TRIM_SECONDS
        self._stop.wait(max(0.0, pace_seconds - (time.monotonic() - began)))

    def trim(self, now: datetime) -> bool:
        """Drop evaluated entries that are past their retention, or all of them where memory is nearly full.

        Returns:
            Whether it is nearly full.
        """
        nearly_full = read_memory(self._redis, self._settings).fill >= EARLY_TRIM_FILL
        kept = timedelta() if nearly_full else self._settings.event_retention
        offsets = read_offsets_on_disk(self._engine)
        keep_since_ms = int((now - kept).timestamp() * 1000)
        for partition, offset in offsets.items():
            dropped = trim(self._redis, partition, offset.entry_id, keep_since_ms)
            if dropped:
                log.info("stream.trimmed", partition=partition, entries=dropped, early=nearly_full)
        return nearly_full

    def bury_orphans(self, now: datetime) -> None:
        """Make dead letters of what was fired for a webhook just deleted."""
        with write_transaction(self._engine) as connection:
            buried = dead_letter_orphans(connection, reason=DELETED_REASON, now=now)
        if buried:
            metrics.deliveries_finished("dead", buried)
            log.warning("deliveries.orphaned", deliveries=buried, reason=DELETED_REASON)

    def forget(self, now: datetime) -> Counter[str]:
        """Delete what is older than its retention, unless another pump is at it; how many rows of each table."""
        gone: Counter[str] = Counter()
        lock = self._redis.lock(LOCK, timeout=LOCK_SECONDS, blocking=False, thread_local=False)
        if not lock.acquire():
            return gone
        for batch in self._batches(now):
            gone[batch.table] += batch.rows
            metrics.FORGOTTEN.labels(table=batch.table).inc(batch.rows)
            lock.reacquire()
            if self._stop.wait(REST_SECONDS):
                break
        lock.release()
        if gone.total():
            log.info("retention.forgot", **gone)
        return gone

    def _batches(self, now: datetime) -> Iterator[PurgedBatch]:
        settings = self._settings
        if settings.delivery_retention:
            # A repeated event is known by its deliveries: they outlive what the streams may hold.
            kept = max(settings.delivery_retention, settings.event_retention)
            yield from retention.purge_deliveries(self._engine, retention.FULFILLED, before=now - kept)
        if settings.dead_letter_retention:
            kept = max(settings.dead_letter_retention, settings.event_retention)
            yield from retention.purge_deliveries(self._engine, DEAD, before=now - kept)
            yield from retention.purge_poison(self._engine, before=now - settings.dead_letter_retention)
        if settings.window_retention:
            yield from retention.purge_windows(self._engine, before=now - settings.window_retention, now=now)
        if settings.audit_retention:
            yield from retention.purge_changes(self._engine, before=now - settings.audit_retention)
