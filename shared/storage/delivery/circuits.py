"""A webhook's circuit as it is stored, and the changes that answers make to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, text, update

from shared.domain.delivery.circuits import Circuit, CircuitSignal, CircuitState, apply_signals, transition
from shared.domain.delivery.retries import DeliveryPolicy
from shared.storage.schema.tables import webhooks

CIRCUIT_COLUMNS = (
    webhooks.c.failures,
    webhooks.c.circuit_openings,
    webhooks.c.circuit_opened_at,
    webhooks.c.circuit_probe_at,
)


HAS_FAILURES_SQL = "(failures > 0 OR circuit_opened_at IS NOT NULL OR failing_since IS NOT NULL)"
"""SQL on a webhook's row: whether it holds failures that a success resets."""


@dataclass(frozen=True, slots=True)
class CircuitTransition:
    """A circuit after answers were taken into account."""

    circuit: Circuit
    transition: CircuitState | None
    """OPEN or CLOSED if these answers opened or closed it; None if they did neither."""


def circuit_of(row: Any) -> Circuit:
    """The circuit in a webhook's row."""
    return Circuit(
        failures=row.failures,
        openings=row.circuit_openings,
        opened_at=row.circuit_opened_at,
        probe_at=row.circuit_probe_at,
    )


def reset_health(connection: Connection, webhook_id: int, now: datetime) -> CircuitTransition:
    """Reset a webhook's failures after a success. Nearly always that is one query that finds none.

    Locks (docs/decisions/0012, "record outcomes"): webhooks (its row), last.
    """
    mine = webhooks.c.id == webhook_id
    row = connection.execute(
        select(*CIRCUIT_COLUMNS).where(mine, text(HAS_FAILURES_SQL)).with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        return CircuitTransition(Circuit(), None)
    changed = CircuitTransition(Circuit(), transition(circuit_of(row), Circuit()))
    healthy = {"failing_since": None, **circuit_columns(Circuit()), **_resumed_columns(changed, now)}
    connection.execute(update(webhooks).where(mine).values(healthy))
    return changed


def _resumed_columns(changed: CircuitTransition, now: datetime) -> dict[str, Any]:
    return {"resumed_at": now} if changed.transition is CircuitState.CLOSED else {}


def update_circuit(
    connection: Connection, webhook_id: int, policy: DeliveryPolicy, answers: Sequence[CircuitSignal], now: datetime
) -> CircuitTransition:
    """Apply answers to a webhook's circuit and store it.

    Locks (docs/decisions/0012, "record outcomes"): webhooks (its row), last.
    """
    mine = webhooks.c.id == webhook_id
    row = connection.execute(select(*CIRCUIT_COLUMNS).where(mine).with_for_update(key_share=True)).one_or_none()
    if row is None:
        return CircuitTransition(Circuit(), None)
    before = circuit_of(row)
    after = apply_signals(before, policy, answers, now)
    changed = CircuitTransition(after, transition(before, after))
    if after != before:
        columns = circuit_columns(after) | _resumed_columns(changed, now)
        connection.execute(update(webhooks).where(mine).values(columns))
    return changed


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
