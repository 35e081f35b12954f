"""Recording failed attempts and the health of their webhook, by one statement, where its circuit stays closed.

Only PostgreSQL takes such a statement. Events that a webhook's owners are notified of take several statements in a
transaction (`recording`, `circuits`, `webhook_health`, `notices`): a circuit that opens or closes, a webhook that is
disabled, a delivery that becomes a dead letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from shared.domain.delivery.circuits import FailureStreak
from shared.storage.database.bulk import as_recordset, is_postgresql
from shared.storage.delivery.postgresql import record_with_health_statement
from shared.storage.delivery.recording import AttemptRecord, attempt_row


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthUpdate:
    """The health of a webhook by its latest attempts."""

    streak: FailureStreak
    circuit_failures: int
    """The number of failures in a row that opens the circuit, by the policy; 0 for none."""
    slow: bool
    succeeded: bool
    failed: bool
    disable_before: datetime
    """A webhook that has only failed since then or longer is to be disabled, which is not done here."""


def records_in_one_statement(engine: Engine) -> bool:
    """Whether `record_with_health` can record here; on SQLite a call would take the writer's lock in vain."""
    return engine.dialect.name == "postgresql"


def record_with_health(
    connection: Connection,
    webhook_id: int,
    results: Sequence[AttemptRecord],
    health: HealthUpdate,
    *,
    token: int,
    now: datetime,
) -> tuple[set[int], int] | None:
    """Record attempts that delivered or will be retried, and the health of their webhook, in one statement.

    Returns:
        The `seq` of the deliveries that were delivered, and the circuit's failures in a row. None when nothing was
        recorded and the caller has to take the several statements: the circuit is open or opens now, the webhook is to
        be disabled, or the database is not PostgreSQL.
    """
    if not is_postgresql(connection):
        return None
    rows = [attempt_row(result, token) | {"next_attempt_at": result.next_attempt_at} for result in results]
    given = {
        "rows": as_recordset(rows),
        "token": token,
        "now": now,
        "webhook_id": webhook_id,
        "added": health.streak.added,
        "since": health.streak.since,
        "circuit_failures": health.circuit_failures,
        "slow": health.slow,
        "succeeded": health.succeeded,
        "failing": health.failed and not health.succeeded,
        "disable_before": health.disable_before,
    }
    row = connection.execute(record_with_health_statement(tuple(attempt_row(results[0], token))), given).one_or_none()
    return None if row is None else (set(row[1]), row[0])
