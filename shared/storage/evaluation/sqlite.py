"""SQL of an evaluation's commit for SQLite. `postgresql.py` is its twin."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from shared.storage.database.columns import sqlite_time
from shared.storage.database.sqlite_rows import insert_values, to_json
from shared.storage.schema.tables import deliveries


def preconditions_hold(connection: Connection, ids: Collection[str], *, faring: str, revision: int | None) -> bool:
    """Whether nobody edited anything since `revision`, webhooks fare as given, and no such delivery exists.

    Args:
        connection: of a transaction that writes.
        ids: of deliveries.
        faring: of each webhook `id`, `paused`, `slow` and `circuit_opened_at`, as JSON.
        revision: None where no webhook matters.
    """
    given = {"ids": to_json(list(ids)), "faring": faring, "revision": revision}
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
    rows: Sequence[Mapping[str, Any]],
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
        "webhook_ids": to_json(list(webhook_ids)),
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
