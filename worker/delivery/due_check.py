"""Another drain for a webhook, where something is due and could be sent."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Engine

from shared.storage.database.clock import DatabaseClock
from shared.storage.database.transactions import read_statement
from shared.storage.delivery.claims import has_due
from worker.delivery.in_flight import InFlightLimiter


class Wakeups(Protocol):
    """What requests drains, and raises nothing where that fails."""

    def request(self, webhook_id: int, *, slow: bool) -> None:
        """Request a drain of a webhook."""


class DueCheck:
    """Looks for due deliveries of a webhook and requests a drain of it. Threads may share it: it keeps nothing."""

    def __init__(self, *, engine: Engine, clock: DatabaseClock, limiter: InFlightLimiter, wakeups: Wakeups) -> None:
        self._engine = engine
        self._clock = clock
        self._limiter = limiter
        self._wakeups = wakeups

    def wake_if_due(self, webhook_id: int, *, slow: bool) -> None:
        """Request a drain of a webhook where something is due.

        A slow webhook without capacity waits for some instead: the limiter has it woken then.

        Raises:
            SQLAlchemyError: when the database is away. The pump's next sweep looks again.
        """
        if slow and self._limiter.wait_for_capacity(webhook_id, slow=slow):
            return
        now = self._clock.now()
        with read_statement(self._engine) as connection:
            due = has_due(connection, webhook_id, now)
        if due:
            self._wakeups.request(webhook_id, slow=slow)
