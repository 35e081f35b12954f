"""What every batch reads and writes, as SQLite takes it: in few steps, each over many rows.

SQLite works in the caller's thread, and Python's driver lets others run at each row that it writes or reads. A thread
of a busy process gets its turn back only a moment later, and all wait meanwhile for the one writer that it is. So rows
are inserted many at a time, and read as one text of JSON.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from shared.storage.database.columns import from_sqlite_time, sqlite_time
from shared.storage.database.sqlite_rows import to_json
from shared.storage.delivery.circuits import HAS_FAILURES_SQL

_LIGHT_CHARS = 16_000
"""Payloads up to this are read together; JSON of many large ones would be held twice."""


def claim_due(
    connection: Connection, webhook_id: int, *, limit: int, now: datetime, lease_until: datetime, token: int
) -> list[list[Any]]:
    """Claim what is due, longest due first.

    Returns:
        What `queue.Claimed` has of each delivery, ordered by `seq`.
    """
    given: dict[str, Any] = {"webhook_id": webhook_id, "now": sqlite_time(now), "limit": limit, "light": _LIGHT_CHARS}
    rows: list[list[Any]] = orjson.loads(connection.exec_driver_sql(_DUE, given).scalar_one())
    if not rows:
        return []
    rows.sort()
    # There is one writer, so nobody claims them in between.
    taken = {"seqs": to_json([row[0] for row in rows]), "lease_until": sqlite_time(lease_until), "token": token}
    connection.exec_driver_sql(_TAKE, taken)
    if heavy := [row[0] for row in rows if row[2] is None]:
        payloads = {one.seq: one.payload for one in connection.exec_driver_sql(_PAYLOADS, {"seqs": to_json(heavy)})}
    for row in rows:
        if row[2] is None:
            row[2] = payloads[row[0]]
        row[4], row[5] = from_sqlite_time(row[4]), from_sqlite_time(row[5])
    return rows


_DUE = """
    SELECT json_group_array(json_array(seq, id, payload, attempts, event_received_at, next_attempt_at, automation_id,
        entity, event_id, event_source, event_type, traceparent))
    FROM (
        SELECT pending.seq, id,
            CASE WHEN payload IS NULL THEN '{}' WHEN length(payload) <= :light THEN payload END AS payload,
            pending.attempts, event_received_at, next_attempt_at, automation_id,
            (SELECT name FROM entities WHERE entities.id = entity_id) AS entity,
            event_id, event_source, event_type, traceparent
        FROM pending_deliveries AS pending CROSS JOIN deliveries ON deliveries.seq = pending.seq
        WHERE pending.webhook_id = :webhook_id AND next_attempt_at <= :now
            AND (SELECT enabled AND NOT paused AND deleted_at IS NULL FROM webhooks WHERE id = :webhook_id)
        ORDER BY next_attempt_at, pending.seq LIMIT :limit
    )
    """
_TAKE = """
    UPDATE pending_deliveries SET next_attempt_at = :lease_until, claim = :token
    WHERE seq IN (SELECT value FROM json_each(:seqs))
    """
_PAYLOADS = "SELECT seq, payload FROM deliveries WHERE seq IN (SELECT value FROM json_each(:seqs))"


def end_pending(connection: Connection, seqs: Collection[int], *, token: int) -> set[int]:
    """Take deliveries out of the queue that are still claimed with `token`, and tell which they were."""
    given = {"seqs": to_json(list(seqs)), "token": token}
    mine: str = connection.exec_driver_sql(_MINE, given).scalar_one()
    connection.exec_driver_sql(_UNQUEUE, {"seqs": mine})
    return set(orjson.loads(mine))


_MINE = """
    SELECT json_group_array(seq) FROM pending_deliveries
    WHERE seq IN (SELECT value FROM json_each(:seqs)) AND claim = :token
    """
_UNQUEUE = "DELETE FROM pending_deliveries WHERE seq IN (SELECT value FROM json_each(:seqs))"


def finish(
    connection: Connection,
    seqs: Collection[int],
    *,
    status: str | None,
    reason: str | None,
    attempts: int,
    now: datetime,
) -> None:
    """Write down how deliveries ended that all ended alike."""
    given = {"status": status, "reason": reason, "attempts": attempts, "now": sqlite_time(now)}
    connection.exec_driver_sql(_FINISH, given | {"seqs": to_json(list(seqs))})


_FINISH = """
    UPDATE deliveries SET status = :status, reason = :reason, attempts = :attempts, finished_at = :now
    WHERE seq IN (SELECT value FROM json_each(:seqs))
    """


def has_failures(connection: Connection, webhook_id: int) -> bool:
    """Whether a webhook has failures that a success makes forget."""
    return connection.exec_driver_sql(_TROUBLED, (webhook_id,)).first() is not None


_TROUBLED = f"SELECT 1 FROM webhooks WHERE id = ? AND {HAS_FAILURES_SQL}"  # noqa: S608
