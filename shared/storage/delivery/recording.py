"""Recording attempts in bulk: the attempts themselves, retries, and the ends of deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, update

from shared.storage.database.bulk import as_recordset, insert_rows, is_postgresql
from shared.storage.database.sqlite_rows import insert_values
from shared.storage.delivery.postgresql import END_SQL, record_successes_statement
from shared.storage.delivery.sqlite import end_pending, finish, has_failures
from shared.storage.schema.tables import attempts, pending_deliveries


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One attempt and what follows from it: a retry with its time, or a final status."""

    seq: int
    number: int
    started_at: datetime
    duration_ms: int
    outcome: str
    status_code: int | None
    error: str | None
    response_body: str
    response_truncated: bool
    next_attempt_at: datetime | None
    """When the retry is due; None when there is none."""
    final_status: str | None
    """The delivery's status now; None when it is retried."""
    reason: str | None


def record(connection: Connection, results: Sequence[AttemptRecord], *, token: int, now: datetime) -> set[int]:
    """Record attempts, and what follows for the deliveries that are still claimed with `token`.

    A worker that outlived its lease may find a delivery claimed by another. Its request is kept as an attempt, but does
    not change the delivery.

    Locks (docs/decisions/0012, "record outcomes"): pending_deliveries with the own claim → deliveries.

    Returns:
        The `seq` of the deliveries that ended.
    """
    insert_rows(connection, attempts, [attempt_row(result, token) for result in results])
    _retry([result for result in results if result.final_status is None], connection, token)
    ended = [result for result in results if result.final_status is not None]
    if not ended:
        return set()
    if is_postgresql(connection):
        return _end_in_one_statement(connection, ended, token, now)
    return _end(connection, ended, token, now)


def record_successes(
    connection: Connection, webhook_id: int, results: Sequence[AttemptRecord], *, token: int, now: datetime
) -> set[int] | None:
    """Record attempts as `record` does, where all of them delivered and the webhook has no failures to reset.

    On PostgreSQL it is one statement.

    Returns:
        The `seq` of the deliveries that ended. None when nothing was recorded, because the webhook has failures to
        reset: then take `record` and `reset_health`.
    """
    rows = [attempt_row(result, token) for result in results]
    if not is_postgresql(connection):
        if has_failures(connection, webhook_id):
            return None
        insert_values(connection, attempts, rows)
        return _end(connection, results, token, now)
    given = {"rows": as_recordset(rows), "token": token, "now": now, "webhook_id": webhook_id}
    healthy, ended = connection.execute(record_successes_statement(tuple(rows[0])), given).one()
    return set(ended) if healthy else None


def release_claims(connection: Connection, due: Sequence[tuple[int, datetime]], *, token: int) -> None:
    """Release deliveries that were claimed with `token` and not sent, each as its `seq` and when it is due again."""
    connection.execute(_RELEASE, [{"of": seq, "at": due_at, "token": token} for seq, due_at in due])


_RELEASE = (
    update(pending_deliveries)
    .where(pending_deliveries.c.seq == bindparam("of"), pending_deliveries.c.claim == bindparam("token"))
    .values(next_attempt_at=bindparam("at"), claim=None)
)


def attempt_row(result: AttemptRecord, token: int) -> dict[str, Any]:
    """An attempt as a row of its table."""
    return {
        "delivery_seq": result.seq,
        "number": result.number,
        "claim": token,
        "started_at": result.started_at,
        "duration_ms": result.duration_ms,
        "outcome": result.outcome,
        "status_code": result.status_code,
        "error": result.error,
        "response_body": result.response_body,
        "response_truncated": result.response_truncated,
    }


def _retry(results: Sequence[AttemptRecord], connection: Connection, token: int) -> None:
    if results:
        connection.execute(
            update(pending_deliveries)
            .where(pending_deliveries.c.seq == bindparam("of"), pending_deliveries.c.claim == token)
            .values(attempts=bindparam("made"), next_attempt_at=bindparam("at"), claim=None),
            [{"of": result.seq, "made": result.number, "at": result.next_attempt_at} for result in results],
        )


def _end_in_one_statement(
    connection: Connection, results: Sequence[AttemptRecord], token: int, now: datetime
) -> set[int]:
    rows = [
        {"seq": one.seq, "status": one.final_status, "reason": one.reason, "attempts": one.number} for one in results
    ]
    return set(connection.scalars(END_SQL, {"rows": as_recordset(rows), "token": token, "now": now}))


def _end(connection: Connection, results: Sequence[AttemptRecord], token: int, now: datetime) -> set[int]:
    mine = end_pending(connection, [result.seq for result in results], token=token)
    alike: dict[tuple[str | None, str | None, int], list[int]] = {}
    for result in results:
        if result.seq in mine:
            alike.setdefault((result.final_status, result.reason, result.number), []).append(result.seq)
    for (status, reason, number), seqs in alike.items():
        finish(connection, seqs, status=status, reason=reason, attempts=number, now=now)
    return mine
