"""A webhook's circuit as it is answered."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from dispatcher.control.bodies import View
from shared.domain.delivery.circuits import Circuit, CircuitState
from shared.storage.database.clock import database_time


class CircuitView(View):
    """Whether requests are sent: all (closed), none for a while (open), one at a time as a probe (half_open)."""

    state: CircuitState
    opened_at: datetime | None
    """Since when; null while it is closed."""
    next_probe_at: datetime | None
    """When the next request tries whether the endpoint answers again; null while it is closed."""


def circuit_view(connection: Connection, circuit: Circuit) -> CircuitView:
    """The circuit as it is now, by the database's clock, which opened it."""
    state = CircuitState.CLOSED if circuit.opened_at is None else circuit.state(database_time(connection))
    return CircuitView(state=state, opened_at=circuit.opened_at, next_probe_at=circuit.probe_at)
