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
from shared.storage.delivery.sqlite import end_pending, failing_webhooks, finish
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
    request_url: str | None = None
    """Without secrets; None where no request could be made."""
    exchange: str | None = None
    """What `domain.delivery.exchange` keeps of it; None where no request could be made."""
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


@dataclass(frozen=True, slots=True)
class Successes:
    """Attempts to one webhook under one claim token, all of which delivered."""

    webhook_id: int
    token: int
    results: Sequence[AttemptRecord]


@dataclass(frozen=True, slots=True)
class RecordedSuccesses:
    """What came of recording the successes of several webhooks."""

    finished: frozenset[int]
    """The `seq` of the deliveries that ended."""
    failing: frozenset[int]
    """The webhooks of which nothing was recorded, because they have failures to reset: take `record` and
    `reset_health` for each."""


def record_successes(connection: Connection, several: Sequence[Successes], *, now: datetime) -> RecordedSuccesses:
    """Record attempts as `record` does, of all those webhooks together that have no failures to reset.

    On PostgreSQL it is one statement.
    """
    webhook_ids = list({one.webhook_id for one in several})
    if not is_postgresql(connection):
        failing = frozenset(failing_webhooks(connection, webhook_ids))
        return RecordedSuccesses(_record_healthy(connection, several, failing, now), failing)
    rows = [
        attempt_row(result, one.token) | {"webhook_id": one.webhook_id} for one in several for result in one.results
    ]
    given = {"rows": as_recordset(rows), "now": now, "webhook_ids": webhook_ids}
    failed, ended = connection.execute(record_successes_statement(ATTEMPT_COLUMNS), given).one()
    return RecordedSuccesses(frozenset(ended), frozenset(failed))


def _record_healthy(
    connection: Connection, several: Sequence[Successes], failing: frozenset[int], now: datetime
) -> frozenset[int]:
    by_token: dict[int, list[AttemptRecord]] = {}
    for one in several:
        if one.webhook_id not in failing:
            by_token.setdefault(one.token, []).extend(one.results)
    ended: set[int] = set()
    for token, results in by_token.items():
        insert_values(connection, attempts, [attempt_row(result, token) for result in results])
        ended |= _end(connection, results, token, now)
    return frozenset(ended)


def release_claims(connection: Connection, due: Sequence[tuple[int, datetime]], *, token: int) -> None:
    """Release deliveries that were claimed with `token` and not sent, each as its `seq` and when it is due again."""
    connection.execute(_RELEASE, [{"of": seq, "at": due_at, "token": token} for seq, due_at in due])


_RELEASE = (
    update(pending_deliveries)
    .where(pending_deliveries.c.seq == bindparam("of"), pending_deliveries.c.claim == bindparam("token"))
    .values(next_attempt_at=bindparam("at"), claim=None)
)


ATTEMPT_COLUMNS = (
    "delivery_seq",
    "number",
    "claim",
    "started_at",
    "duration_ms",
    "outcome",
    "status_code",
    "error",
    "response_body",
    "response_truncated",
    "request_url",
    "exchange",
)
"""The columns of `attempt_row`."""


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
        "request_url": result.request_url,
        "exchange": result.exchange,
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
