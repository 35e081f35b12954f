"""Other drains for webhooks, where something is due and could be sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from sqlalchemy import Engine

from shared.storage.database.clock import DatabaseClock
from shared.storage.database.transactions import read_statement
from shared.storage.delivery.claims import webhooks_with_due
from worker.delivery.in_flight import InFlightLimiter


class Wakeups(Protocol):
    """What requests drains, and raises nothing where that fails."""

    def request_all(self, lanes: Mapping[int, bool]) -> None:
        """Request drains of these webhooks, each given with whether it is slow."""


class DueCheck:
    """Looks for due deliveries of webhooks and requests drains of them. Threads may share it: it keeps nothing."""

    def __init__(self, *, engine: Engine, clock: DatabaseClock, limiter: InFlightLimiter, wakeups: Wakeups) -> None:
        self._engine = engine
        self._clock = clock
        self._limiter = limiter
        self._wakeups = wakeups

    def wake_if_due(self, lanes: Mapping[int, bool]) -> None:
        """Request drains of those of these webhooks, each given with whether it is slow, that have something due.

        A slow webhook without capacity waits for some instead: the limiter has it woken then.

        Raises:
            SQLAlchemyError: when the database is away. The pump's next sweep looks again.
        """
        looked_at = [
            one for one, slow in lanes.items() if not (slow and self._limiter.wait_for_capacity(one, slow=slow))
        ]
        if not looked_at:
            return
        now = self._clock.now()
        with read_statement(self._engine) as connection:
            due = webhooks_with_due(connection, looked_at, now)
        if due:
            self._wakeups.request_all({one: lanes[one] for one in due})
