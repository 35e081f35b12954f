"""Metric windows and firing times: read and written by evaluation, many at a time, within its transaction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, select, text, tuple_

from shared.storage.database.bulk import as_recordset, chunks, is_postgresql
from shared.storage.database.upserts import insert_ignore, insert_replace
from shared.storage.schema.tables import metric_windows

OF_RUNS = 0
"""In the place of an automation's id: what is kept of the run itself, its starts (`RunStarts`)."""


def load_windows(
    connection: Connection, keys: Sequence[tuple[int, str]], now: datetime
) -> dict[tuple[int, str], Row[Any]]:
    """The stored windows and firing times of these (automation, key) pairs.

    Rows with a blank key are shared by all partitions, so they are inserted if need be and locked. Those of one run or
    collection belong to one partition, whose offset's row is locked already.

    Locks (docs/decisions/0012, "evaluate a batch"): metric_windows with a blank key, in the order of their automations.
    """
    shared = sorted(pair for pair in keys if pair[1] == "")
    if shared:
        connection.execute(
            insert_ignore(connection, metric_windows),
            [{"automation_id": a, "key": k, "epoch": 0, "updated_at": now} for a, k in shared],
        )
    own = [pair for pair in keys if pair[1] != ""]
    found = {(row.automation_id, row.key): row for row in _stored_windows(connection, own)}
    for chunk in chunks(shared):
        query = _windows_of(connection, chunk).order_by(metric_windows.c.automation_id).with_for_update()
        found.update({(row.automation_id, row.key): row for row in connection.execute(query)})
    return found


def _stored_windows(connection: Connection, pairs: Sequence[tuple[int, str]]) -> Iterator[Row[Any]]:
    if is_postgresql(connection) and pairs:
        rows = [{"automation_id": automation_id, "key": key} for automation_id, key in pairs]
        yield from connection.execute(_LOAD_WINDOWS, {"rows": as_recordset(rows)})
        return
    for chunk in chunks(pairs):
        yield from connection.execute(_windows_of(connection, chunk))


def _windows_of(connection: Connection, pairs: Sequence[tuple[int, str]]) -> Select[Any]:
    """The rows of these (automation, key) pairs. For a list of pairs SQLite scans the table; for a join it does not."""
    automation_id, key = metric_windows.c.automation_id, metric_windows.c.key
    if is_postgresql(connection):
        return select(metric_windows).where(tuple_(automation_id, key).in_(list(pairs)))
    wanted = func.json_each(json.dumps(pairs)).table_valued("value")
    return select(metric_windows).join(
        wanted,
        and_(
            automation_id == func.json_extract(wanted.c.value, "$[0]"),
            key == func.json_extract(wanted.c.value, "$[1]"),
        ),
    )


# The lateral look-up makes PostgreSQL find each row by the primary key, however many rows it expects.
_LOAD_WINDOWS = text(
    """
    SELECT found.* FROM json_to_recordset(CAST(:rows AS json)) AS given (automation_id bigint, key text)
    CROSS JOIN LATERAL (
        SELECT * FROM metric_windows AS stored
        WHERE stored.automation_id = given.automation_id AND stored.key = given.key OFFSET 0
    ) AS found
    """
)


def save_windows(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Insert or replace windows and firing times, one row for each (automation, key).

    Locks (docs/decisions/0012, "evaluate a batch"): metric_windows, after the shared ones that `load_windows` locked.
    """
    if not rows:
        return
    if not is_postgresql(connection):
        connection.execute(insert_replace(connection, metric_windows, ("automation_id", "key")), list(rows))
        return
    written = [{**row, "windows": _hex(row["windows"]), "recent_firings": _hex(row["recent_firings"])} for row in rows]
    connection.execute(_SAVE_WINDOWS, {"rows": as_recordset(written)})


def _hex(packed: bytes | None) -> str | None:
    return None if packed is None else packed.hex()


_SAVE_WINDOWS = text(
    """
    INSERT INTO metric_windows (automation_id, key, epoch, windows, last_fired_ms, recent_firings, updated_at)
    SELECT automation_id, key, epoch, decode(windows, 'hex'), last_fired_ms, decode(recent_firings, 'hex'), updated_at
    FROM json_to_recordset(CAST(:rows AS json)) AS given (
        automation_id bigint, key text, epoch bigint, windows text, last_fired_ms bigint, recent_firings text,
        updated_at timestamptz
    )
    ON CONFLICT (automation_id, key) DO UPDATE SET epoch = excluded.epoch, windows = excluded.windows,
        last_fired_ms = excluded.last_fired_ms, recent_firings = excluded.recent_firings,
        updated_at = excluded.updated_at
    """
)
