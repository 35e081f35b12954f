"""Maintenance by the pump: trims streams, ends deliveries of deleted webhooks, and deletes rows past their retention.

Must not hold anybody up: rows are deleted in small batches with rests between them, by one pump at a time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from threading import Event

from redis import Redis
from sqlalchemy import Engine

from dispatcher.pump.event_logging import LOG_WAIT, log_events
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
"""How often streams are trimmed. Meanwhile they grow by what is published; the bound on their memory allows for it."""
TRIM_FULL_SECONDS = 1.0
"""The interval while the streams' memory is nearly full, so that publishers are refused no longer than needed."""
PURGE_SECONDS = 60.0
"""How often rows are deleted. Retentions are hours and days, so a minute more does not matter."""
REST_SECONDS = 0.05
"""The rest after each batch: on SQLite other writers get in, on PostgreSQL replication and vacuum keep up."""
LOCK = "hookline:forgetting"
LOCK_SECONDS = 60
"""How long a dead pump keeps others from deleting; a live pump renews the lock after each batch."""


class Maintenance:
    """Rounds of maintenance, all in one thread, until `stop` is set."""

    def __init__(self, settings: Settings, engine: Engine, redis: Redis, stop: Event) -> None:
        self._settings = settings
        self._engine = engine
        self._clock = DatabaseClock(engine)
        self._redis = redis
        self._stop = stop
        self._purged_at = float("-inf")
        """When rows were deleted last, by the monotonic clock."""

    def run_round(self) -> None:
        """Do what is due, and rest until the next round."""
        began = time.monotonic()
        nearly_full = self.trim(self._clock.now())
        self.dead_letter_orphans(self._clock.now())
        if began - self._purged_at >= PURGE_SECONDS:
            self.purge(self._clock.now())
            self._purged_at = began
        pace_seconds = TRIM_FULL_SECONDS if nearly_full else TRIM_SECONDS
        self._stop.wait(max(0.0, pace_seconds - (time.monotonic() - began)))

    def trim(self, now: datetime) -> bool:
        """Drop evaluated entries that are past their retention, or all evaluated ones while memory is nearly full.

        The offsets are read so that a crash of PostgreSQL can't take them back: an entry that is dropped by an offset
        which is lost afterwards would never be evaluated.

        Returns:
            Whether memory is nearly full.
        """
        nearly_full = read_memory(self._redis, self._settings).fill >= EARLY_TRIM_FILL
        kept = timedelta() if nearly_full else self._settings.event_retention
        offsets = read_offsets_on_disk(self._engine)
        keep_since_ms = int((now - kept).timestamp() * 1000)
        ends = {partition: offset.entry_id for partition, offset in offsets.items()}
        if self._settings.event_log:
            at_once = nearly_full or kept < LOG_WAIT
            logged = log_events(self._engine, self._redis, ends, now, at_once=at_once)
            ends = ends if nearly_full else logged
        for partition, end in ends.items():
            dropped = trim(self._redis, partition, end, keep_since_ms)
            if dropped:
                log.info("stream.trimmed", partition=partition, entries=dropped, early=nearly_full)
        return nearly_full

    def dead_letter_orphans(self, now: datetime) -> None:
        """Make dead letters of deliveries that were fired just as their webhook was deleted."""
        with write_transaction(self._engine) as connection:
            buried = dead_letter_orphans(connection, reason=DELETED_REASON, now=now)
        if buried:
            metrics.count_finished("dead", buried)
            log.warning("deliveries.orphaned", deliveries=buried, reason=DELETED_REASON)

    def purge(self, now: datetime) -> Counter[str]:
        """Delete rows past their retention, unless another pump is deleting; the number of rows by table."""
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
            # A repeated event is recognized by its deliveries, so they outlive the entries that the streams may hold.
            kept = max(settings.delivery_retention, settings.event_retention, settings.event_log)
            yield from retention.purge_deliveries(self._engine, retention.FULFILLED, before=now - kept)
        if settings.dead_letter_retention:
            kept = max(settings.dead_letter_retention, settings.event_retention, settings.event_log)
            yield from retention.purge_deliveries(self._engine, DEAD, before=now - kept)
            yield from retention.purge_poison(self._engine, before=now - settings.dead_letter_retention)
        if settings.window_retention:
            yield from retention.purge_windows(self._engine, before=now - settings.window_retention, now=now)
            yield from retention.purge_run_watches(self._engine, before=now - settings.window_retention)
            yield from retention.purge_wandb_runs(self._engine, before=now - settings.window_retention)
        if settings.audit_retention:
            yield from retention.purge_changes(self._engine, before=now - settings.audit_retention)
        if settings.revision_retention:
            yield from retention.purge_revisions(self._engine, before=now - settings.revision_retention)
        # Without a log what is left of one is dropped as the streams drop theirs.
        log_kept = max(settings.event_log, settings.event_retention)
        yield from retention.purge_events(self._engine, before=now - log_kept)
