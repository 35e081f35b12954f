"""A webhook's circuit as stored: what an attempt's answers change in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, text, update

from shared.domain.delivery.circuits import Circuit, CircuitSignal, CircuitState, after_answers, transition
from shared.domain.delivery.retries import DeliveryPolicy
from shared.storage.schema.tables import webhooks

CIRCUIT_COLUMNS = (
    webhooks.c.failures,
    webhooks.c.circuit_openings,
    webhooks.c.circuit_opened_at,
    webhooks.c.circuit_probe_at,
)


HAS_FAILURES_SQL = "(failures > 0 OR circuit_opened_at IS NOT NULL OR failing_since IS NOT NULL)"
"""SQL on a webhook's row: whether there is anything that a success makes forget."""


@dataclass(frozen=True, slots=True)
class CircuitTransition:
    """A circuit, and whether it was opened or closed just now."""

    circuit: Circuit
    transition: CircuitState | None


def circuit_of(row: Any) -> Circuit:
    """The circuit in a webhook's row."""
    return Circuit(
        failures=row.failures,
        openings=row.circuit_openings,
        opened_at=row.circuit_opened_at,
        probe_at=row.circuit_probe_at,
    )


def reset_health(connection: Connection, webhook_id: int, now: datetime) -> CircuitTransition:
    """Everything was delivered: forget failures. Nearly always this is one query that finds nothing to forget."""
    mine = webhooks.c.id == webhook_id
    row = connection.execute(
        select(*CIRCUIT_COLUMNS).where(mine, text(HAS_FAILURES_SQL)).with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        return CircuitTransition(Circuit(), None)
    turn = CircuitTransition(Circuit(), transition(circuit_of(row), Circuit()))
    well = {"failing_since": None, **circuit_columns(Circuit()), **_resumed(turn, now)}
    connection.execute(update(webhooks).where(mine).values(well))
    return turn


def _resumed(turn: CircuitTransition, now: datetime) -> dict[str, Any]:
    return {"resumed_at": now} if turn.transition is CircuitState.CLOSED else {}


def update_circuit(
    connection: Connection, webhook_id: int, policy: DeliveryPolicy, answers: Sequence[CircuitSignal], now: datetime
) -> CircuitTransition:
    """The circuit after these answers, stored."""
    mine = webhooks.c.id == webhook_id
    row = connection.execute(select(*CIRCUIT_COLUMNS).where(mine).with_for_update(key_share=True)).one_or_none()
    if row is None:
        return CircuitTransition(Circuit(), None)
    before = circuit_of(row)
    after = after_answers(before, policy, answers, now)
    turn = CircuitTransition(after, transition(before, after))
    if after != before:
        connection.execute(update(webhooks).where(mine).values(circuit_columns(after) | _resumed(turn, now)))
    return turn


def set_lane(connection: Connection, webhook_id: int, *, slow: bool) -> None:
    """Move a webhook to the slow lane, or back."""
    connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(slow=slow))


def circuit_columns(circuit: Circuit) -> dict[str, Any]:
    """The columns of a webhook's row that hold its circuit."""
    return {
        "failures": circuit.failures,
        "circuit_openings": circuit.openings,
        "circuit_opened_at": circuit.opened_at,
        "circuit_probe_at": circuit.probe_at,
    }
