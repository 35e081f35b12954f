"""Tells the owners of automations that could not be matched. Must not decide which those are."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from shared.domain.errors import InvalidDefinition
from shared.domain.filters.budget import EVENT_UNITS
from shared.domain.matching.compiled import Indexed
from shared.observability import metrics
from shared.observability.logs import get_logger
from shared.storage.database.clock import DatabaseClock
from shared.storage.database.transactions import write_transaction
from shared.storage.evaluation.unmatched import note_unmatched

SILENCE = timedelta(hours=1)
"""An automation's owners are told at most once in this time: it may be about every event."""
MAX_KNOWN = 10_000
MAX_REASON_CHARS = 1_000

TOO_COSTLY = (
    f"its filter, or the windows of its conditions, would take more than is left of an event's {EVENT_UNITS:,} units of"
    " work, or of the workers' time for its entity: use fewer or smaller patterns, shorter texts, smaller windows"
)

log = get_logger("hookline.evaluate")


class UnmatchedReporter:
    """Threads of evaluations share it."""

    def __init__(self, *, engine: Engine, clock: DatabaseClock) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = threading.Lock()
        """Guards the two below it."""
        self._told: dict[int, float] = {}
        """When this process tried to tell of an automation last, by the monotonic clock."""
        self._waiting: dict[int, str] = {}

    def unreadable(self, one: Indexed, refusal: InvalidDefinition) -> None:
        """An automation's stored definition cannot be read: an older or newer version wrote it. Writes nothing yet."""
        metrics.AUTOMATIONS_UNMATCHED.labels(reason="unreadable").inc()
        log.error("automation.unreadable", automation_id=one.id, entity=one.scope_key[1], errors=str(refusal))
        self._add(one.id, f"its definition is not accepted any more: {refusal}"[:MAX_REASON_CHARS])

    def too_costly(self, automations: Iterable[Indexed]) -> None:
        """Filters that asked for more work on an event than there was. Writes nothing yet."""
        for one in automations:
            metrics.AUTOMATIONS_UNMATCHED.labels(reason="too_costly").inc()
            self._add(one.id, TOO_COSTLY)

    def tell(self) -> None:
        """Tell what has not been told lately; if the database is away, some other time."""
        if not self._waiting:
            return
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        now = self._clock.now()
        for automation_id, reason in waiting.items():
            try:
                with write_transaction(self._engine) as connection:
                    told = note_unmatched(connection, automation_id, reason=reason, now=now, silence=SILENCE)
            except SQLAlchemyError as exc:
                log.warning("automation.unmatched_not_noted", automation_id=automation_id, error=type(exc).__name__)
                return
            if told:
                log.warning("automation.unmatched", automation_id=automation_id, reason=reason)

    def _add(self, automation_id: int, reason: str) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._told.get(automation_id, float("-inf")) < SILENCE.total_seconds():
                return
            if len(self._told) >= MAX_KNOWN:
                self._told.clear()
            self._told[automation_id] = now
            self._waiting[automation_id] = reason
