"""The pump: wakes drains when their streams have news, and sweeps for work that no news announces.

It decides nothing and holds no state that matters: run two for availability, kill either at any time. Must not read
entries, claim deliveries or send anything: the workers do.
"""

from __future__ import annotations

import faulthandler
import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from dispatcher.pump import silent_runs
from dispatcher.pump.maintenance import Maintenance
from dispatcher.pump.notices import append_notices
from dispatcher.pump.server_watch import ServerWatch
from dispatcher.pump.silent_runs import SilentRuns
from dispatcher.pump.stream_watch import StreamWatch, watched_together
from shared.config.descriptors import descriptor_limit, raise_descriptor_limit
from shared.domain.health_checks import (
    DISABLED_RECENT_SECONDS,
    KEY_ENDS_SECONDS,
    MANY_FAULTS_SECONDS,
    RECENT_SECONDS,
)
from shared.health.environment import (
    EnvironmentFault,
    FaultKind,
    clock_faults,
    descriptor_faults,
    descriptors_needed,
    redis_faults,
)
from shared.health.presence import Doing, Presence, read_processes
from shared.messaging.celery_app import celery_app
from shared.messaging.queue_lengths import queue_lengths
from shared.messaging.redis_clients import open_redis
from shared.messaging.stream_memory import read_memory
from shared.messaging.streams import Lag, read_lags
from shared.messaging.wakeups import Waker
from shared.observability import exposition, metrics
from shared.observability.heartbeat import beat
from shared.observability.logs import configure_logging, get_logger
from shared.observability.metrics_variable import is_multiprocess
from shared.observability.saturation_metrics import set_load, set_queue_messages
from shared.settings import Settings
from shared.storage.accounts.api_keys import count_ending
from shared.storage.database.clock import DatabaseClock
from shared.storage.database.engine import checkpoint, open_engine, try_connection
from shared.storage.database.pooler import TransactionPooler
from shared.storage.database.transactions import read_transaction
from shared.storage.delivery import load
from shared.storage.delivery.backlog import (
    DueWebhook,
    count_internal,
    count_recent_dead,
    count_recently_disabled,
    due_webhooks,
    oldest_prompt_seconds,
    queue_state,
)
from shared.storage.evaluation.offsets import read_all_offsets
from shared.storage.evaluation.poison import count_poison
from shared.storage.schema.errors import SchemaTooOld
from shared.storage.schema.gate import SchemaGate

log = get_logger("hookline.dispatcher")

REST_SECONDS = 0.003
"""How long the watch rests after news. Under load there is news all the time, and a woken drain reads on by itself, so
the rest costs no latency there; without it one pump would send Redis thousands of commands a second."""
_FAULTS_SECONDS = (MANY_FAULTS_SECONDS, RECENT_SECONDS)
GAUGE_SECONDS = 5.0
"""How often the gauges are counted. Counting takes time in proportion to the backlog; Prometheus usually scrapes every
15 s."""
FAILURE_REST_SECONDS = 1.0
"""How long a round rests after a server could not be reached, and while the database waits for its migration."""
WAKE_PARTS = 10
"""The number of parts in which a sweep wakes the webhooks with due deliveries, spread over half of its interval. All
retries of a second woken together keep workers from what is sent meanwhile; in 20 parts each wakes half as many, for
twice the round trips."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
STOP_SECONDS = 30.0
"""How long the pump may take to stop: its eight threads get five seconds each at most, and all but one
end at once."""
CHECKPOINT_SECONDS = 1.0
"""How often SQLite's log is brought to the disk: a power failure loses about so much."""


class Pump:
    """Watches the streams, sweeps, and does the maintenance, each in a thread of its own until it is stopped.

    The threads share the engine, the Redis client and the waker, which are thread-safe, and the event `_stop`. Every
    other attribute is used by one of them only.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = open_engine(settings)
        self._clock = DatabaseClock(self._engine)
        self._redis = open_redis(settings)
        self._celery = celery_app(settings)
        self._waker = Waker(self._celery, self._redis)
        self._stop = threading.Event()
        watches = [
            StreamWatch(self._redis, self._waker, partitions)
            for partitions in watched_together(self._redis, settings.partitions)
        ]
        self._gauged = float("-inf")
        """When the gauges were counted last, by the monotonic clock; the sweep's thread reads and writes it."""
        self._load_read = float("-inf")
        """The same of the load by name."""
        self._swept: float | None = None
        """When the last sweep was, by the monotonic clock; the sweep's thread writes it, that of `_presence` reads."""
        self._presence = Presence(settings, "dispatcher", self._environment_faults, doing=self._doing)
        self._schema = SchemaGate(self._engine)
        maintenance = Maintenance(settings, self._engine, self._redis, self._stop)
        self._servers = ServerWatch(settings, self._engine, self._stop)
        self._silent_runs = SilentRuns(self._engine, self._redis, settings.partitions)
        self._threads = [
            threading.Thread(target=self._repeat, args=(work,), name=name, daemon=True)
            for name, work in (
                *(("watch", self._once_migrated(partial(self._watch, watch))) for watch in watches),
                ("sweep", self._sweep),
                ("notices", self._once_migrated(self._append_notices)),
                ("chores", self._once_migrated(maintenance.run_round)),
                ("silence", self._once_migrated(self._look_for_silence)),
                ("checkpoint", self._once_migrated(self._checkpoint)),
                ("database", self._servers.ask_database),
                ("redis", self._servers.ask_redis),
            )
        ]

    def start(self) -> None:
        """Start the threads. Raises TransactionPooler where the settings don't fit what is before the database."""
        try_connection(self._engine)
        self._presence.start()
        self._servers.begin()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the threads, each within five seconds, and close the connections."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=5)
        self._presence.stop()
        self._servers.close()
        self._redis.close()
        self._engine.dispose()

    def _repeat(self, work: Callable[[], None]) -> None:
        """Repeat a round of work until the pump stops; rest and try again while a server is away or not migrated."""
        while not self._stop.is_set():
            try:
                work()
            except SchemaTooOld:
                self._stop.wait(FAILURE_REST_SECONDS)
            except (RedisError, SQLAlchemyError, TransactionPooler, OSError) as exc:
                if isinstance(exc, SQLAlchemyError):
                    self._schema.doubt()
                error = str(exc).partition("\n")[0]
                log.warning("pump.waiting", thread=threading.current_thread().name, error=error)
                self._stop.wait(FAILURE_REST_SECONDS)

    def _once_migrated(self, work: Callable[[], None]) -> Callable[[], None]:
        """Wrap a round so that it does not begin while the database's schema is older than this code."""

        def round_of_work() -> None:
            self._schema.check()
            work()

        return round_of_work

    def _watch(self, streams: StreamWatch) -> None:
        """Wake drains as soon as their streams have news."""
        if streams.wake_on_news():
            self._stop.wait(REST_SECONDS)

    def _sweep(self) -> None:
        """Wake the drains of lagging partitions and of webhooks with due deliveries, and set the gauges.

        It makes up for every wake-up that was lost, and finds the retries that are due and the leases that ran out.
        """
        beat(self._settings)  # whether or not servers can be reached: a new process could not reach them either
        self._schema.check()
        began = time.monotonic()
        now = self._clock.now()
        with read_transaction(self._engine) as connection:
            offsets = read_all_offsets(connection, self._settings.partitions)
            due = due_webhooks(connection, now)
        lags = read_lags(self._redis, offsets, now.timestamp())
        self._waker.wake_partitions(partition for partition, lag in lags.items() if lag.entries)
        metrics.PUMP_LAST_SWEEP.set(time.time())
        self._swept = time.monotonic()
        self._wake_in_parts(due, until=began + self._settings.sweep_interval.total_seconds() / 2)
        if began - self._gauged >= GAUGE_SECONDS:
            self._set_gauges(lags, now)
            self._gauged = began
        self._stop.wait(max(0.0, self._settings.sweep_interval.total_seconds() - (time.monotonic() - began)))

    def _wake_in_parts(self, due: Sequence[DueWebhook], *, until: float) -> None:
        """Wake the webhooks' drains in `WAKE_PARTS` parts, evenly spread until `until` on the monotonic clock."""
        size = math.ceil(len(due) / WAKE_PARTS)
        for start in range(0, len(due), size or 1):
            part = due[start : start + size]
            self._waker.wake_webhooks((one.id for one in part), slow={one.id for one in part if one.slow})
            left = (len(due) - start) / size - 1
            if left > 0:
                self._stop.wait(max(0.0, (until - time.monotonic()) / left))

    def _append_notices(self) -> None:
        """Append waiting notices to the streams."""
        if append_notices(self._engine, self._redis, self._settings.partitions) == 0:
            self._stop.wait(self._settings.sweep_interval.total_seconds())

    def _look_for_silence(self) -> None:
        """Have it published of runs that they crashed whose heartbeat stays out."""
        if self._silent_runs.run_round() < silent_runs.BATCH:
            self._stop.wait(self._settings.sweep_interval.total_seconds())

    def _checkpoint(self) -> None:
        """On SQLite, bring commits to the disk, so that a power failure loses no more than the last second."""
        checkpoint(self._engine)
        self._stop.wait(CHECKPOINT_SECONDS)

    def _doing(self) -> Doing:
        swept = self._swept
        return Doing(swept_seconds_ago=None if swept is None else time.monotonic() - swept)

    def _environment_faults(self) -> list[EnvironmentFault]:
        needed = descriptors_needed(0, self._settings.database_connections)
        return [
            *descriptor_faults(descriptor_limit(), needed),
            *redis_faults(self._redis),
            *clock_faults(self._engine),
        ]

    def _set_environment_gauges(self) -> None:
        """The faults of all processes. Those of Redis are every dispatcher's, and counted once."""
        found: Counter[str] = Counter()
        for process in read_processes(self._redis):
            if process.role == "dispatcher":
                found |= Counter(one.fault for one in process.faults)
            else:
                found += Counter(one.fault for one in process.faults)
        metrics.set_environment_faults(map(str, FaultKind), found)

    def _set_gauges(self, lags: dict[int, Lag], now: datetime) -> None:
        for partition, lag in lags.items():
            metrics.EVALUATION_LAG_ENTRIES.labels(partition=str(partition)).set(lag.entries)
            metrics.EVALUATION_LAG_SECONDS.labels(partition=str(partition)).set(lag.seconds)
        memory = read_memory(self._redis, self._settings)
        metrics.STREAM_MEMORY.set(memory.used_bytes)
        metrics.STREAM_MEMORY_BOUND.set(memory.bound_bytes)
        self._set_environment_gauges()
        set_queue_messages(queue_lengths(self._celery))
        with read_transaction(self._engine) as connection:
            state = queue_state(connection, now)
            recent, disabled = (now - timedelta(seconds=s) for s in (RECENT_SECONDS, DISABLED_RECENT_SECONDS))
            metrics.DELIVERIES_DEAD_RECENT.set(count_recent_dead(connection, recent))
            metrics.POISON_RECENT.set(count_poison(connection, recent))
            metrics.OLDEST_PROMPT.set(oldest_prompt_seconds(connection, now))
            faults = count_internal(connection, now, within_seconds=_FAULTS_SECONDS)
            metrics.KEYS_ENDING.set(count_ending(connection, now, within=timedelta(seconds=KEY_ENDS_SECONDS)))
            metrics.WEBHOOKS_DISABLED_RECENT.set(count_recently_disabled(connection, disabled))
            if time.monotonic() - self._load_read >= load.SECONDS and not is_multiprocess():
                set_load(load.read_load(connection, now))
                self._load_read = time.monotonic()
        self._silent_runs.count()
        for seconds, count in zip(_FAULTS_SECONDS, faults, strict=True):
            metrics.ATTEMPTS_INTERNAL_RECENT.labels(minutes=str(seconds // 60)).set(count)
        metrics.DELIVERIES_PENDING.set(state.pending)
        metrics.DELIVERIES_DUE.set(state.due)
        metrics.DELIVERIES_HELD.set(state.held)
        metrics.DELIVERIES_DEAD.set(state.dead)
        metrics.OLDEST_DUE.set(state.oldest_due_seconds)
        metrics.WEBHOOKS_DISABLED.set(state.webhooks_disabled)
        metrics.WEBHOOK_CIRCUIT_OPEN.set(state.circuits_open)


def run(settings: Settings) -> None:
    """Run the pump until SIGTERM or SIGINT; a second one, while it stops, ends the process at once.

    The signals stay blocked in every thread and are taken by `sigwait`. A handler that set an event would not do: it
    is lost if it comes just before the main thread begins to wait, and stands still if it comes while that thread
    holds the event's lock.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # before any thread starts: threads inherit the mask
    configure_logging(settings, "dispatcher")
    raise_descriptor_limit()
    exposition.serve(settings)
    pump = Pump(settings)
    pump.start()
    log.info("dispatcher.started", partitions=settings.partitions)
    signal.sigwait(STOP_SIGNALS)
    # A stop that hangs leaves a process that holds connections and that nobody looks for: say where, and end.
    faulthandler.dump_traceback_later(STOP_SECONDS, exit=True)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    pump.stop()
