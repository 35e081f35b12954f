"""Copying evaluated events from the streams to the event log, before they are trimmed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from redis import Redis
from sqlalchemy import Engine

from shared.messaging.streams import entry_order, read_within
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.evaluation.event_log import MAX_BYTES, MAX_ENTRIES, LoggedEntry, insert_row, logged_to

LOG_WAIT = timedelta(minutes=5)
"""How long events wait for others, so that rows are large: many events compress better than few."""
MAX_ROWS = 200
"""Rows written in one round, up to 200,000 events: trimming waits for it."""


def log_events(
    engine: Engine, redis: Redis, offsets: Mapping[int, str], now: datetime, *, at_once: bool
) -> dict[int, str]:
    """Copy what is evaluated and not logged yet, by the offset of each partition; a full row, or what has waited.

    With `at_once` nothing waits. Where another dispatcher logs at the same time, this one leaves it to the other.

    Returns:
        The id of the last entry of each partition that is logged: what is before it may be trimmed.
    """
    with read_transaction(engine) as connection:
        reached = logged_to(connection)
    waiting_since_ms = int((now - LOG_WAIT).timestamp() * 1000)
    rows_left = MAX_ROWS
    logged: dict[int, str] = {}
    for partition, offset in offsets.items():
        after, end = reached.get(partition, (0, 0)), entry_order(offset)
        while rows_left > 0 and after < end:
            found = read_within(redis, partition, f"{after[0]}-{after[1]}", MAX_ENTRIES, MAX_BYTES).entries
            entries = [LoggedEntry(order, entry.body) for entry in found if (order := entry_order(entry.id)) <= end]
            if not entries:
                # What was evaluated is trimmed already.
                after = end
                break
            size_bytes = sum(len(entry.body or b"") for entry in entries)
            is_full = len(entries) >= MAX_ENTRIES or size_bytes >= MAX_BYTES
            if not (is_full or at_once or entries[0].order[0] <= waiting_since_ms):
                break
            with write_transaction(engine) as connection:
                if not insert_row(connection, partition, entries):
                    break
            rows_left -= 1
            after = entries[-1].order
        logged[partition] = f"{after[0]}-{after[1]}"
    return logged
