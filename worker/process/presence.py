"""A worker's signs of life: which queues it consumes now, by Celery's own books, and whether its loop still turns."""

from __future__ import annotations

import time
from typing import Any

from shared.config.descriptors import descriptor_limit
from shared.health.environment import EnvironmentFault, clock_faults, descriptor_faults, descriptors_needed
from shared.health.presence import Doing, Presence
from shared.messaging.celery_app import DELIVER_QUEUE, SLOW_QUEUE
from shared.observability import metrics
from shared.observability.saturation_metrics import set_requests_in_flight
from shared.settings import Settings
from shared.storage.database.engine import open_engine
from worker.process.scoreboard import Scoreboard

HANGS_SECONDS = 30.0
"""After so long without a turn of its loop, in which Celery sends a heartbeat every two seconds, a worker consumes
nothing: it hangs, or has lost the broker."""


class WorkerPresence:
    """Begins when the worker is ready, in its main process beside the pool.

    `loop_turned` is called in Celery's loop; the thread that shows signs of life reads when that was.
    """

    def __init__(self, settings: Settings, scoreboard: Scoreboard) -> None:
        self._settings, self._scoreboard = settings, scoreboard
        self._presence: Presence | None = None
        self._consumer: Any = None
        self._beats = False
        """Whether Celery's loop sends heartbeats; with `--without-heartbeat` nothing tells if it hangs."""
        self._turned = 0.0
        """By the monotonic clock."""

    def begin(self, consumer: Any) -> None:
        """Show signs of life of the worker with this Celery consumer. It may begin anew, after a lost broker."""
        self._consumer, self._turned = consumer, time.monotonic()
        self._beats = getattr(consumer, "heart", None) is not None
        if self._presence is None:
            self._presence = Presence(
                self._settings, "worker", self._faults, name=str(consumer.hostname), doing=self._doing
            )
            self._presence.start()
        metrics.mark_consuming(self._consumed())

    def loop_turned(self) -> None:
        """Celery's loop has sent a heartbeat."""
        self._turned = time.monotonic()

    def end(self, *, wait: bool = True) -> None:
        """Say that the worker ends: it takes no more messages, and finishes what it has.

        Without `wait` the thread says it soon: for signal handlers.
        """
        if self._presence is not None:
            self._presence.stop(wait=wait)

    def _consumed(self) -> tuple[str, ...]:
        return tuple(sorted(self._consumer.app.amqp.queues.consume_from))

    def _doing(self) -> Doing:
        hangs = self._beats and time.monotonic() - self._turned > HANGS_SECONDS
        queues = () if hangs else self._consumed()
        metrics.mark_consuming(queues)
        in_flight = sum(one.in_flight for one in self._scoreboard.shown())
        senders = max(1, self._scoreboard.processes()) if {DELIVER_QUEUE, SLOW_QUEUE} & set(queues) else 0
        set_requests_in_flight(in_flight, senders * self._settings.max_connections)
        return Doing(queues=queues)

    def _faults(self) -> list[EnvironmentFault]:
        settings = self._settings
        needed = descriptors_needed(settings.max_connections, settings.database_connections)
        engine = open_engine(settings)
        try:
            return [*descriptor_faults(descriptor_limit(), needed), *clock_faults(engine)]
        finally:
            engine.dispose()
