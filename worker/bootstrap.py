"""What one worker process holds open: database, Redis, vault, compiled automations, and one event loop for sending.

It is made at the first drain of a process, so that a prefork child never shares its parent's connections.
"""

from __future__ import annotations

import os
import threading

from celery import Celery

from shared.messaging.redis_clients import open_redis
from shared.messaging.wakeups import Waker
from shared.observability.tracing import open_tracing
from shared.settings import Settings, load_settings
from shared.storage.database.clock import DatabaseClock
from shared.storage.database.engine import open_engine
from shared.storage.schema.gate import SchemaGate
from shared.vault import Vault
from worker.delivery.background_recorder import BackgroundRecorder
from worker.delivery.endpoint_cache import EndpointCache
from worker.delivery.fast_path import FastPath
from worker.delivery.in_flight import InFlightLimiter
from worker.delivery.request_scheduler import RequestScheduler
from worker.evaluation.automation_cache import AutomationCache
from worker.evaluation.catalog_discovery import CatalogDiscovery
from worker.evaluation.webhook_cache import WebhookCache
from worker.process.event_loop import EventLoopThread
from worker.process.scoreboard import Scoreboard


class WorkerProcess:
    """Everything a drain needs besides its key."""

    def __init__(self, settings: Settings, app: Celery, board: Scoreboard | None = None) -> None:
        board = board or Scoreboard()
        row = board.open_row()
        self.settings = settings
        self.engine = open_engine(settings, ping=False)  # a drain that fails is woken again
        self.clock = DatabaseClock(self.engine)
        self.schema = SchemaGate(self.engine)
        self.redis = open_redis(settings)
        self.vault = Vault.open_at_first_use(settings)
        self.waker = Waker(app, self.redis)
        self.automations = AutomationCache(self.engine, settings.reload_interval.total_seconds(), reloads=board.reloads)
        self.catalog = CatalogDiscovery()
        self.webhooks = WebhookCache()
        self.sending = EventLoopThread(settings)
        self.endpoints = EndpointCache(self.vault, self.sending.sender.contexts)
        self.flights = InFlightLimiter(
            total=settings.max_connections, per_webhook=settings.max_in_flight, show=row.show
        )
        self.wire = RequestScheduler(total=settings.max_connections, per_webhook=settings.max_in_flight)
        self.stragglers = BackgroundRecorder()
        self.tracing = open_tracing(settings, "worker")
        self.firsthand = FastPath(self, lambda queue: queue in app.amqp.queues.consume_from)

    def close(self) -> None:
        """Wait for what is in flight, and let everything go."""
        self.stragglers.close(self.settings.shutdown_grace.total_seconds())
        self.sending.close()
        if self.tracing is not None:
            self.tracing.close()
        self.redis.close()
        self.engine.dispose()


class LazyProcess:
    """The runtime of the current process, made when first asked for."""

    def __init__(self, app: Celery, board: Scoreboard | None = None) -> None:
        self._app = app
        self._board = board
        self._lock = threading.Lock()
        self._runtime: WorkerProcess | None = None
        self._pid = 0

    def get(self) -> WorkerProcess:
        """This process's runtime; after a fork the child gets one of its own."""
        with self._lock:
            if self._runtime is None or self._pid != os.getpid():
                self._runtime = WorkerProcess(load_settings(), self._app, self._board)
                self._pid = os.getpid()
            return self._runtime

    def close(self) -> None:
        """Close this process's runtime, if it has one."""
        with self._lock:
            if self._runtime is not None and self._pid == os.getpid():
                self._runtime.close()
            self._runtime = None
