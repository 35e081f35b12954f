"""Retention: deletes old deliveries with their attempts, metric windows, poison entries, audit records, revisions.

It deletes in small batches, each a short transaction of its own, so that no worker waits long. Each batch continues
where the one before ended, so rows that were kept are not read again in the same round.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, func, or_, select, tuple_

from shared.domain.durations import parse_duration
from shared.storage.database.bulk import among, is_postgresql
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.wandb_runs import delete_unseen
from shared.storage.evaluation.event_log import delete_rows
from shared.storage.evaluation.run_watches import delete_old
from shared.storage.schema.tables import (
    attempts,
    audit_log,
    automations,
    deliveries,
    event_log,
    kept_revisions,
    metric_windows,
    poison_entries,
    run_watches,
    wandb_runs,
)

BATCH = 500
"""Rows deleted in one transaction, which takes some milliseconds; on SQLite all writers wait for it."""
LARGE_BATCH = 4_000
"""Deliveries deleted in one transaction on PostgreSQL at most, as long as that is quick: nobody waits for rows that
have ended, and a transaction of 500 spends more time on its commit and the rest after it than on deleting."""
QUICK_SECONDS = 0.05
"""A batch that took less is followed by one of twice its size, and one that took four times as long by half of it."""
LOG_BATCH = 50
"""Rows of the event log deleted in one transaction; they are large."""
FULFILLED = ("delivered", "skipped")


@dataclass(frozen=True, slots=True)
class PurgedBatch:
    """A batch that was deleted: how many rows of which table."""

    table: str
    rows: int


def purge_deliveries(engine: Engine, statuses: tuple[str, ...], *, before: datetime) -> Iterator[PurgedBatch]:
    """Delete deliveries in one of these statuses that were made before a time, one batch for each item of the iterator.

    Pending ones are never deleted. Deliveries are numbered in the order in which they are made, so it walks over the
    numbers up to the last one that was made before `before`. On PostgreSQL batches grow while they are quick.

    Locks (docs/decisions/0012, "delete deliveries"): deliveries, SKIP LOCKED → attempts.
    """
    with read_transaction(engine) as connection:
        last = _made_before(connection, before)
        position = connection.scalar(select(func.min(deliveries.c.seq))) or 0
    position -= 1
    size = BATCH
    while position < last:
        began = time.monotonic()
        with write_transaction(engine) as connection:
            seqs = _next(connection, statuses, position, last, size)
            if seqs:
                connection.execute(delete(attempts).where(among(connection, attempts.c.delivery_seq, seqs)))
                connection.execute(delete(deliveries).where(among(connection, deliveries.c.seq, seqs)))
        if not seqs:
            return
        position = seqs[-1]
        if engine.dialect.name == "postgresql":
            size = next_size(size, time.monotonic() - began)
        yield PurgedBatch(deliveries.name, len(seqs))


def next_size(size: int, took_seconds: float) -> int:
    """The size of the batch after one of this size that took so long."""
    if took_seconds < QUICK_SECONDS:
        return min(2 * size, LARGE_BATCH)
    return max(size // 2, BATCH) if took_seconds > 4 * QUICK_SECONDS else size


def _next(connection: Connection, statuses: tuple[str, ...], position: int, last: int, size: int) -> list[int]:
    query = (
        select(deliveries.c.seq)
        .where(deliveries.c.seq > position, deliveries.c.seq <= last, deliveries.c.status.in_(statuses))
        .order_by(deliveries.c.seq)
        .limit(size)
        .with_for_update(skip_locked=True)
    )
    return list(connection.scalars(query))


def _made_before(connection: Connection, before: datetime) -> int:
    """The last number whose delivery was made before a time, found by bisection, since times have no index."""
    low, high = connection.execute(select(func.min(deliveries.c.seq), func.max(deliveries.c.seq))).one()
    if low is None:
        return 0
    low -= 1
    while low < high:
        middle = (low + high + 1) // 2
        nearest = select(deliveries.c.seq, deliveries.c.created_at).where(deliveries.c.seq <= middle)
        found = connection.execute(nearest.order_by(deliveries.c.seq.desc()).limit(1)).one_or_none()
        if found is None or found.created_at < before:
            low = middle
        else:
            high = found.seq - 1
    return int(low)


def purge_windows(engine: Engine, *, before: datetime, now: datetime) -> Iterator[PurgedBatch]:
    """Delete metric windows and firing times that were not written since `before`, one batch for each item.

    A row is kept as long as a cooldown or rate limit of its automation needs it. The row that all partitions share is
    kept as long as its automation: an evaluation inserts it and then expects to find it.

    Locks (docs/decisions/0012, "delete windows"): metric_windows, SKIP LOCKED. A row that an evaluation has locked is
    about to be written, and is skipped.
    """
    position: tuple[Any, ...] | None = None
    columns = (metric_windows.c.updated_at, metric_windows.c.automation_id, metric_windows.c.key)
    while True:
        query = (
            select(*columns, automations.c.definition, automations.c.deleted_at)
            .outerjoin(automations, automations.c.id == metric_windows.c.automation_id)
            .where(metric_windows.c.updated_at < before)
            .where(or_(metric_windows.c.key != "", automations.c.id.is_(None), automations.c.deleted_at.is_not(None)))
            .order_by(*columns)
            .limit(BATCH)
        )
        with write_transaction(engine) as connection:
            after = query if position is None else query.where(tuple_(*columns) > position)
            rows = connection.execute(after).all()
            idle = [tuple(row[:3]) for row in rows if now - row.updated_at >= _lookback(row)]
            # Only rows that will be deleted are locked: a lock writes to the row, in each round again.
            gone = 0
            for one in _lock_free(connection, columns, idle):
                same = (column == value for column, value in zip(columns, one, strict=True))
                gone += connection.execute(delete(metric_windows).where(*same)).rowcount
        if not rows:
            return
        position = tuple(rows[-1][:3])
        yield PurgedBatch(metric_windows.name, gone)


def _lock_free(connection: Connection, key: tuple[Any, ...], wanted: Sequence[Any]) -> Sequence[Any]:
    """Lock and return those of these rows that no other transaction has locked: on SQLite, all of them."""
    if not wanted or not is_postgresql(connection):
        return wanted
    free = select(*key).where(tuple_(*key).in_(wanted)).with_for_update(skip_locked=True)
    return [tuple(row) for row in connection.execute(free)]


def _lookback(row: Any) -> timedelta:
    """How long an automation looks back at its firings."""
    if row.definition is None or row.deleted_at is not None:
        return timedelta()
    cooldown, rate = row.definition.get("cooldown"), row.definition.get("rate_limit")
    # The longest period of a rate is a day.
    return max(parse_duration(cooldown["period"]) if cooldown else timedelta(), timedelta(days=1 if rate else 0))


def purge_poison(engine: Engine, *, before: datetime) -> Iterator[PurgedBatch]:
    """Delete poison entries that were stored before a time, one batch for each item."""
    return _purge_oldest(engine, poison_entries, (poison_entries.c.partition, poison_entries.c.entry_id), before)


def purge_changes(engine: Engine, *, before: datetime) -> Iterator[PurgedBatch]:
    """Delete records of the audit log that were made before a time, one batch for each item."""
    return _purge_oldest(engine, audit_log, (audit_log.c.id,), before)


def purge_run_watches(engine: Engine, *, before: datetime) -> Iterator[PurgedBatch]:
    """Delete what is written down of runs that ended before a time, one batch for each item.

    Locks (docs/decisions/0012, "judge silent runs"): run_watches.
    """
    while True:
        with write_transaction(engine) as connection:
            gone = delete_old(connection, before=before, limit=BATCH)
        if not gone:
            return
        yield PurgedBatch(run_watches.name, gone)


def purge_wandb_runs(engine: Engine, *, before: datetime) -> Iterator[PurgedBatch]:
    """Forget runs of the `wandb` client of which nothing came since a time, one batch for each item.

    Locks (docs/decisions/0012, "forget runs of wandb"): wandb_runs.
    """
    while True:
        with write_transaction(engine) as connection:
            gone = delete_unseen(connection, before=before, limit=BATCH)
        if not gone:
            return
        yield PurgedBatch(wandb_runs.name, gone)


def purge_revisions(engine: Engine, *, before: datetime) -> Iterator[PurgedBatch]:
    """Delete kept revisions that were out of force before a time, one batch for each item.

    The newest of each target before that time stays, since it was in force then, unless the target was deleted by it.

    Locks (docs/decisions/0012, "delete revisions"): kept_revisions.
    """
    newer = kept_revisions.alias()
    superseded = select(1).where(
        newer.c.kind == kept_revisions.c.kind,
        newer.c.target_id == kept_revisions.c.target_id,
        newer.c.id > kept_revisions.c.id,
        newer.c.created_at < before,
    )
    old = (
        select(kept_revisions.c.id)
        .where(kept_revisions.c.created_at < before)
        .where(or_(kept_revisions.c.change == "delete", superseded.exists()))
        .limit(BATCH)
    )
    while True:
        with write_transaction(engine) as connection:
            gone = connection.execute(delete(kept_revisions).where(kept_revisions.c.id.in_(old))).rowcount
        if not gone:
            return
        yield PurgedBatch(kept_revisions.name, gone)


def purge_events(engine: Engine, *, before: datetime) -> Iterator[PurgedBatch]:
    """Delete rows of the event log whose events all came before a time, one batch for each item.

    Locks (docs/decisions/0012, "delete logged events"): event_log.
    """
    while True:
        with write_transaction(engine) as connection:
            gone = delete_rows(connection, before_ms=int(before.timestamp() * 1000), most=LOG_BATCH)
        if not gone:
            return
        yield PurgedBatch(event_log.name, gone)


def _purge_oldest(engine: Engine, table: Table, key: tuple[Any, ...], before: datetime) -> Iterator[PurgedBatch]:
    old = select(*key).where(table.c.created_at < before).order_by(table.c.created_at).limit(BATCH)
    while True:
        with write_transaction(engine) as connection:
            gone = connection.execute(delete(table).where(tuple_(*key).in_(old))).rowcount
        if not gone:
            return
        yield PurgedBatch(table.name, gone)
