"""What every batch reads and writes, as SQLite takes it: in few steps, each over many rows.

SQLite works in the caller's thread, and Python's driver lets others run at each row that it writes or reads. A thread
of a busy process gets its turn back only a moment later, and all wait meanwhile for the one writer that it is. So rows
are inserted many at a time, and read as one text of JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import Connection, Table

from shared.storage.database.columns import UtcDateTime, from_sqlite_time, sqlite_time
from shared.storage.delivery.admission import TROUBLED
from shared.storage.schema.tables import deliveries

_AT_ONCE = (128, 64, 32, 16, 8, 4, 2, 1)
"""So many rows are inserted by one statement: few texts, which are prepared once for each connection."""
_LIGHT_CHARS = 16_000
"""Payloads up to this are read together; JSON of many large ones would be held twice."""


def insert_values(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows that all have the same columns, of which none is JSON; a row whose key exists is left as it is."""
    names = tuple(rows[0])
    values_of, times = _shape(table, names)
    begin = 0
    for count in _AT_ONCE:
        while len(rows) - begin >= count:
            values = list(chain.from_iterable(map(values_of, rows[begin : begin + count])))
            for place in times:
                values[place :: len(names)] = _stored(values[place :: len(names)])
            connection.exec_driver_sql(_insert(table.name, names, count), tuple(values))
            begin += count


@lru_cache(maxsize=64)
def _shape(table: Table, names: tuple[str, ...]) -> tuple[Callable[[dict[str, Any]], tuple[Any, ...]], list[int]]:
    """What takes the values out of a row, and which of them are times."""
    return itemgetter(*names), [
        place for place, name in enumerate(names) if isinstance(table.c[name].type, UtcDateTime)
    ]


def _stored(times: list[datetime | None]) -> list[str | None]:
    first = times[0]
    if times.count(first) == len(times):  # mostly one object
        return [None if first is None else sqlite_time(first)] * len(times)
    return [None if one is None else sqlite_time(one) for one in times]


@lru_cache(maxsize=64)
def _insert(table: str, names: tuple[str, ...], count: int) -> str:
    row = f"({', '.join('?' * len(names))})"
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES {', '.join([row] * count)} ON CONFLICT DO NOTHING"  # noqa: S608


def is_as_expected(connection: Connection, ids: Collection[str], *, faring: str, revision: int | None) -> bool:
    """Whether nobody edited anything since `revision`, webhooks fare as given, and no such delivery exists.

    Args:
        connection: of a transaction that writes.
        ids: of deliveries.
        faring: of each webhook `id`, `paused`, `slow` and `circuit_opened_at`, as JSON.
        revision: None where no webhook matters.
    """
    given = {"ids": _json(list(ids)), "faring": faring, "revision": revision}
    return bool(connection.exec_driver_sql(_AS_EXPECTED, given).scalar_one())


_AS_EXPECTED = """
    SELECT NOT EXISTS (
        SELECT 1 FROM revisions WHERE id = 1 AND value <> :revision
    ) AND NOT EXISTS (
        SELECT 1 FROM json_each(:ids) AS given CROSS JOIN deliveries ON deliveries.id = given.value
    ) AND NOT EXISTS (
        SELECT 1 FROM json_each(:faring) AS given LEFT JOIN webhooks ON webhooks.id = json_extract(given.value, '$.id')
        WHERE (enabled AND deleted_at IS NULL) IS NOT TRUE
            OR paused <> json_extract(given.value, '$.paused') OR slow <> json_extract(given.value, '$.slow')
            OR (circuit_opened_at IS NULL) <> (json_extract(given.value, '$.circuit_opened_at') IS NULL)
    )
    """


def insert_pending(
    connection: Connection,
    rows: Sequence[dict[str, Any]],
    *,
    webhook_ids: Collection[int],
    token: int | None,
    lease_until: datetime | None,
) -> dict[str, int]:
    """Store new deliveries, and queue the pending ones: claimed where they go to one of these webhooks, due elsewhere.

    Returns:
        The `seq` of those that were stored and are claimed, by their ids.
    """
    newest: int = connection.exec_driver_sql("SELECT coalesce(max(seq), 0) FROM deliveries").scalar_one()
    insert_values(connection, deliveries, rows)
    given = {
        "newest": newest,
        "webhook_ids": _json(list(webhook_ids)),
        "token": token,
        "lease_until": None if lease_until is None else sqlite_time(lease_until),
    }
    connection.exec_driver_sql(_QUEUE, given)
    return dict(orjson.loads(connection.exec_driver_sql(_CLAIMED, given).scalar_one())) if webhook_ids else {}


# There is one writer: what is beyond the newest of before is this transaction's.
_QUEUE = """
    INSERT INTO pending_deliveries (seq, webhook_id, attempts, next_attempt_at, claim)
    SELECT seq, webhook_id, attempts,
        CASE WHEN webhook_id IN (SELECT value FROM json_each(:webhook_ids)) THEN :lease_until ELSE created_at END,
        CASE WHEN webhook_id IN (SELECT value FROM json_each(:webhook_ids)) THEN :token END
    FROM deliveries WHERE seq > :newest AND status = 'pending'
    ON CONFLICT DO NOTHING
    """
_CLAIMED = """
    SELECT json_group_array(json_array(id, seq)) FROM deliveries
    WHERE seq > :newest AND status = 'pending' AND webhook_id IN (SELECT value FROM json_each(:webhook_ids))
    """


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
    taken = {"seqs": _json([row[0] for row in rows]), "lease_until": sqlite_time(lease_until), "token": token}
    connection.exec_driver_sql(_TAKE, taken)
    if heavy := [row[0] for row in rows if row[2] is None]:
        payloads = {one.seq: one.payload for one in connection.exec_driver_sql(_PAYLOADS, {"seqs": _json(heavy)})}
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
    given = {"seqs": _json(list(seqs)), "token": token}
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
    connection.exec_driver_sql(_FINISH, given | {"seqs": _json(list(seqs))})


_FINISH = """
    UPDATE deliveries SET status = :status, reason = :reason, attempts = :attempts, finished_at = :now
    WHERE seq IN (SELECT value FROM json_each(:seqs))
    """


def is_troubled(connection: Connection, webhook_id: int) -> bool:
    """Whether a webhook has failures that a success makes forget."""
    return connection.exec_driver_sql(_TROUBLED, (webhook_id,)).first() is not None


_TROUBLED = f"SELECT 1 FROM webhooks WHERE id = ? AND {TROUBLED}"  # noqa: S608


def _json(values: Sequence[Any]) -> str:
    return orjson.dumps(values).decode()
