"""SQL of an evaluation's commit for SQLite. `postgresql.py` is its twin.

Everything runs in a transaction that holds the only write lock, so nothing changes between the statements.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from shared.storage.database.columns import sqlite_time
from shared.storage.database.sqlite_rows import insert_values, to_json
from shared.storage.schema.tables import deliveries


def preconditions_hold(connection: Connection, ids: Collection[str], *, health: str, revision: int | None) -> bool:
    """Whether no definition was edited since `revision`, webhooks are as given, and none of the deliveries exists.

    Args:
        connection: of a transaction that writes.
        ids: the ids of the deliveries.
        health: `id`, `paused`, `slow` and `circuit_opened_at` of each webhook, as JSON.
        revision: the newest revision when the webhooks were read; None when no delivery goes to a webhook.
    """
    given = {"ids": to_json(list(ids)), "health": health, "revision": revision}
    return bool(connection.exec_driver_sql(_PRECONDITIONS, given).scalar_one())


_PRECONDITIONS = """
    SELECT NOT EXISTS (
        SELECT 1 FROM revisions WHERE id = 1 AND value <> :revision
    ) AND NOT EXISTS (
        SELECT 1 FROM json_each(:ids) AS given CROSS JOIN deliveries ON deliveries.id = given.value
    ) AND NOT EXISTS (
        SELECT 1 FROM json_each(:health) AS given LEFT JOIN webhooks ON webhooks.id = json_extract(given.value, '$.id')
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
    """Store new deliveries, and queue the pending ones: claimed if they go to one of these webhooks, else due now.

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


# Numbers beyond the newest of before belong to this transaction, since it holds the write lock.
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
