"""Attempts and what they tell of their webhook, recorded by one statement where its circuit stays closed.

Only PostgreSQL takes such a statement. What a webhook's owners have to be told of takes the longer way, which `flow`,
`health` and `notices` make up: a circuit that turns, a webhook that is disabled, a delivery that is given up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from shared.domain.delivery.circuits import FailureStreak
from shared.storage.database.bulk import as_recordset, is_postgresql
from shared.storage.delivery.postgresql import failures_statement
from shared.storage.delivery.recording import Attempted, attempt_row


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthUpdate:
    """What attempts tell of their webhook."""

    run: FailureStreak
    circuit_failures: int
    """The policy's limit; 0 for none."""
    slow: bool
    succeeded: bool
    failed: bool
    disable_before: datetime
    """One that has done nothing but fail since then is disabled, which is not done here."""


def records_in_one_statement(engine: Engine) -> bool:
    """Whether `record_with_health` can record here; on SQLite a call would take the writer's lock in vain."""
    return engine.dialect.name == "postgresql"


def record_with_health(
    connection: Connection,
    webhook_id: int,
    results: Sequence[Attempted],
    standing: HealthUpdate,
    *,
    token: int,
    now: datetime,
) -> tuple[set[int], int] | None:
    """Record attempts that delivered or will be made again, and how the webhook fares, in one statement.

    Returns:
        The `seq` of the deliveries that came to an end, and the circuit's failures in a row. None where nothing was
        recorded: the circuit is open or opens now, or the webhook is to be disabled, or it is not PostgreSQL.
    """
    if not is_postgresql(connection):
        return None
    rows = [attempt_row(result, token) | {"next_attempt_at": result.next_attempt_at} for result in results]
    given = {
        "rows": as_recordset(rows),
        "token": token,
        "now": now,
        "webhook_id": webhook_id,
        "added": standing.run.added,
        "since": standing.run.since,
        "circuit_failures": standing.circuit_failures,
        "slow": standing.slow,
        "succeeded": standing.succeeded,
        "failing": standing.failed and not standing.succeeded,
        "disable_before": standing.disable_before,
    }
    row = connection.execute(failures_statement(tuple(attempt_row(results[0], token))), given).one_or_none()
    return None if row is None else (set(row[1]), row[0])
