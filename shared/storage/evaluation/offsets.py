"""Offsets of partitions: reading them, and advancing one by compare-and-set."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    Connection,
    Engine,
    bindparam,
    select,
    update,
)

from shared.domain.events.partitioning import START, Offset
from shared.storage.database.transactions import read_transaction, recalled, write_statement
from shared.storage.database.upserts import insert_ignore
from shared.storage.schema.tables import (
    partitions,
)

# Made once, since every batch needs them, and SQLAlchemy takes longer to make a statement than to send it.
_OFFSET = select(partitions.c.offset, partitions.c.entries_read).where(partitions.c.partition == bindparam("of"))


ADVANCE = (
    update(partitions)
    .where(partitions.c.partition == bindparam("of"), partitions.c.offset == bindparam("since"))
    .values(offset=bindparam("offset"), entries_read=bindparam("entries_read"), updated_at=bindparam("updated_at"))
)


def read_offset(connection: Connection, partition: int) -> Offset:
    """A partition's committed offset; the start of the stream when nothing was committed yet."""
    row = connection.execute(_OFFSET, {"of": partition}).one_or_none()
    return Offset(START, 0) if row is None else Offset(row.offset, row.entries_read)


def read_offsets(connection: Connection) -> dict[int, Offset]:
    """The committed offsets of all partitions that have one."""

    def read() -> dict[int, Offset]:
        rows = connection.execute(select(partitions.c.partition, partitions.c.offset, partitions.c.entries_read))
        return {row.partition: Offset(row.offset, row.entries_read) for row in rows}

    return dict(recalled(connection, "offsets", read))


def read_all_offsets(connection: Connection, partitions: int) -> dict[int, Offset]:
    """The offset of each of the first `partitions` partitions; the start of the stream where none was committed yet."""
    stored = read_offsets(connection)
    return {partition: stored.get(partition, Offset(START, 0)) for partition in range(partitions)}


def read_offsets_on_disk(engine: Engine) -> dict[int, Offset]:
    """The committed offsets of all partitions that have one, none of which a crash of PostgreSQL can take back.

    Commits of offsets are asynchronous, so a crash may undo some that were visible before. Trimming streams by such an
    offset would lose entries.
    """
    with read_transaction(engine) as connection:
        offsets = read_offsets(connection)
    # A commit that waits for the disk has everything on it that was committed before, the offsets read above included.
    with write_statement(engine) as connection:
        connection.execute(
            update(partitions).where(partitions.c.partition == 0).values(updated_at=partitions.c.updated_at)
        )
    return offsets


def advance_offset(
    connection: Connection, partition: int, *, since: Offset, entry_id: str, count: int, now: datetime
) -> bool:
    """Advance a partition's offset over `count` entries up to `entry_id`, unless another worker was faster.

    Of two workers that evaluated the same entries one waits here for the other's commit, and then finds that the offset
    which it started from is gone. So each entry takes effect once.

    Locks (docs/decisions/0012, "evaluate a batch"): partitions (its row), first of all.

    Returns:
        False when another worker advanced the offset: the caller must roll back.
    """
    values = {"offset": entry_id, "entries_read": since.entries_read + count, "updated_at": now}
    if since.entry_id == START:
        inserted = connection.execute(
            insert_ignore(connection, partitions)
            .values(partition=partition, **values)
            .returning(partitions.c.partition)
        ).one_or_none()
        if inserted is not None:
            return True
    return connection.execute(ADVANCE, {"of": partition, "since": since.entry_id, **values}).rowcount == 1


def seed_partitions(connection: Connection, count: int, now: datetime) -> None:
    """Insert the rows of all partitions, so that offsets exist before the first event."""
    connection.execute(
        insert_ignore(connection, partitions),
        [{"partition": p, "offset": START, "entries_read": 0, "updated_at": now} for p in range(count)],
    )
