"""SQL of deliveries for SQLite: claiming and recording in few steps, each over many rows. `postgresql.py` is its twin.

SQLite runs in the caller's thread, and Python's driver releases the interpreter at each row that it writes or reads. In
a busy process another thread takes over each time, while all writers wait for this transaction. So rows are inserted
many at a time, and read as one text of JSON. There is one writer at a time, so no row needs a lock.
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
"""The largest payload, in characters, that is read within the JSON of its batch; larger ones are read one by one, since
they would be in memory twice."""


def claim_due(
    connection: Connection,
    webhook_id: int,
    *,
    limit: int,
    now: datetime,
    lease_until: datetime,
    token: int,
    max_bytes: int,
) -> list[list[Any]]:
    """Claim due deliveries, longest due first, as `claims.claim` says.

    Returns:
        The members of `ClaimedDelivery` for each, ordered by `seq`.
    """
    given: dict[str, Any] = {
        "webhook_id": webhook_id,
        "now": sqlite_time(now),
        "limit": limit,
        "light": _LIGHT_CHARS,
        "max_bytes": max_bytes,
    }
    rows: list[list[Any]] = orjson.loads(connection.exec_driver_sql(_DUE, given).scalar_one())
    if not rows:
        return []
    rows.sort()
    # This transaction holds the write lock, so nobody claims them in between.
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
            event_id, event_source, event_type, traceparent,
            sum(coalesce(length(payload), 0)) OVER earlier - coalesce(length(payload), 0) AS chars_before
        FROM (
            SELECT seq, attempts, next_attempt_at FROM pending_deliveries
            WHERE webhook_id = :webhook_id AND next_attempt_at <= :now
                AND (SELECT enabled AND NOT paused AND deleted_at IS NULL FROM webhooks WHERE id = :webhook_id)
            ORDER BY next_attempt_at, seq LIMIT :limit
        ) AS pending CROSS JOIN deliveries ON deliveries.seq = pending.seq
        WINDOW earlier AS (ORDER BY next_attempt_at, pending.seq ROWS UNBOUNDED PRECEDING)
    ) WHERE chars_before < :max_bytes
    """
_TAKE = """
    UPDATE pending_deliveries SET next_attempt_at = :lease_until, claim = :token
    WHERE seq IN (SELECT value FROM json_each(:seqs))
    """
_PAYLOADS = "SELECT seq, payload FROM deliveries WHERE seq IN (SELECT value FROM json_each(:seqs))"


def closed_circuits(connection: Connection, webhook_ids: Collection[int]) -> list[int]:
    """Those of these webhooks whose circuit is closed."""
    found: str = connection.exec_driver_sql(_CLOSED, {"ids": to_json(list(webhook_ids))}).scalar_one()
    closed: list[int] = orjson.loads(found)
    return closed


_CLOSED = """
    SELECT json_group_array(id) FROM webhooks
    WHERE id IN (SELECT value FROM json_each(:ids)) AND circuit_opened_at IS NULL
    """


def end_pending(connection: Connection, seqs: Collection[int], *, token: int) -> set[int]:
    """Remove from the queue those of these deliveries that are still claimed with `token`; returns their `seq`."""
    given = {"seqs": to_json(list(seqs)), "token": token}
    claimed: str = connection.exec_driver_sql(_CLAIMED, given).scalar_one()
    connection.exec_driver_sql(_UNQUEUE, {"seqs": claimed})
    return set(orjson.loads(claimed))


_CLAIMED = """
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
    """Store the end of deliveries that all ended in the same way."""
    given = {"status": status, "reason": reason, "attempts": attempts, "now": sqlite_time(now)}
    connection.exec_driver_sql(_FINISH, given | {"seqs": to_json(list(seqs))})


_FINISH = """
    UPDATE deliveries SET status = :status, reason = :reason, attempts = :attempts, finished_at = :now
    WHERE seq IN (SELECT value FROM json_each(:seqs))
    """


def failing_webhooks(connection: Connection, webhook_ids: Collection[int]) -> list[int]:
    """Those of these webhooks that have failures, which a success resets."""
    found: str = connection.exec_driver_sql(_FAILING, {"ids": to_json(list(webhook_ids))}).scalar_one()
    failing: list[int] = orjson.loads(found)
    return failing


_FAILING = f"""
    SELECT json_group_array(id) FROM webhooks
    WHERE id IN (SELECT value FROM json_each(:ids)) AND {HAS_FAILURES_SQL}
    """  # noqa: S608
