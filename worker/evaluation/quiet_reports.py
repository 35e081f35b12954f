"""What owners of automations are told at most once in a while, though it may be about every event."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from shared.observability.logs import get_logger
from shared.storage.database.clock import DatabaseClock
from shared.storage.database.transactions import write_transaction

SILENCE = timedelta(hours=1)
"""An automation's owners are told at most once in this time."""
MAX_KNOWN = 10_000

log = get_logger("hookline.evaluate")

T = TypeVar("T")


class QuietReports(Generic[T]):
    """Reports by automation, of which the first in a while is written. Threads of evaluations share it."""

    def __init__(
        self,
        *,
        engine: Engine,
        clock: DatabaseClock,
        write: Callable[[Connection, int, T, datetime], bool],
    ) -> None:
        """`write` stores a report, and says whether it did: another process may have been first."""
        self._engine = engine
        self._clock = clock
        self._write = write
        self._lock = threading.Lock()
        """Guards the two below it."""
        self._told: dict[int, float] = {}
        """When this process tried to tell of an automation last, by the monotonic clock."""
        self._waiting: dict[int, T] = {}

    def add(self, automation_id: int, report: T) -> None:
        """Keep a report until the next `tell`, unless there was one lately. Writes nothing yet."""
        now = time.monotonic()
        with self._lock:
            if now - self._told.get(automation_id, float("-inf")) < SILENCE.total_seconds():
                return
            if len(self._told) >= MAX_KNOWN:
                self._told.clear()
            self._told[automation_id] = now
            self._waiting[automation_id] = report

    def tell(self, told: Callable[[int, T], None]) -> None:
        """Write what waits, and call `told` for what was written; if the database is away, some other time."""
        if not self._waiting:
            return
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        now = self._clock.now()
        for automation_id, report in waiting.items():
            try:
                with write_transaction(self._engine) as connection:
                    written = self._write(connection, automation_id, report, now)
            except SQLAlchemyError as exc:
                log.warning("automation.unmatched_not_noted", automation_id=automation_id, error=type(exc).__name__)
                return
            if written:
                told(automation_id, report)
