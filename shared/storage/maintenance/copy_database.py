"""Copying everything from one database to another, as from SQLite to PostgreSQL when an installation grows.

Rows keep their numbers and times, so pending deliveries go on as before. Must not translate anything: both databases
have this version's schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from sqlalchemy import Connection, Engine, Table, delete, func, insert, select

from shared.domain.errors import HooklineError
from shared.storage.database.bulk import is_postgresql
from shared.storage.database.transactions import write_transaction
from shared.storage.schema.migrate import current_revision, migrate, newest_revision
from shared.storage.schema.tables import metadata, partitions, revisions

BATCH = 1000
"""Rows that are read and written in one statement, and held in memory."""
SEEDED = {partitions.name, revisions.name}
"""Tables that a new database has rows in."""


class CannotCopy(HooklineError):
    """A database can't be copied from, or can't be copied to; nothing was copied."""


def copy_database(source: Engine, target: Engine) -> Iterator[tuple[str, int]]:
    """Copy all rows into an empty database, in one transaction.

    Nothing may write to the source meanwhile: stop Hookline first.

    Yields:
        The name of each table and the number of its rows, once they are copied.

    Raises:
        CannotCopy: when the source has another version's schema, or the target has rows.
    """
    with write_transaction(source) as old:
        found = current_revision(old)
        if found != newest_revision():
            raise CannotCopy(
                f"the source has schema {found}, not {newest_revision()}: run `hookline init` on it with this version"
            )
        migrate(target)
        with write_transaction(target) as new:
            full = [one.name for one in metadata.sorted_tables if one.name not in SEEDED and _has_rows(new, one)]
            if full:
                raise CannotCopy(f"the target has rows already, in {', '.join(full)}: give an empty database")
            for table in metadata.sorted_tables:
                new.execute(delete(table))
                yield table.name, _copy(table, old, new)


def _has_rows(connection: Connection, table: Table) -> bool:
    return connection.execute(select(1).select_from(table).limit(1)).first() is not None


def _copy(table: Table, old: Connection, new: Connection) -> int:
    """Copy a table's rows, those first that refer to no other row of the table; returns how many."""
    count = 0
    for rows in chain.from_iterable(_batches(old, table, own) for own in (False, True)):
        new.execute(insert(table), rows)
        count += len(rows)
    if count and is_postgresql(new):
        for column in table.columns:
            if column.identity is not None:
                _advance_sequence(new, table, column.name)
    return count


def _batches(connection: Connection, table: Table, refers_to_own: bool) -> Iterator[list[dict[str, object]]]:
    own = [column for column in table.columns if any(key.column.table is table for key in column.foreign_keys)]
    query = select(*(column for column in table.columns if column.computed is None)).order_by(*table.primary_key)
    if refers_to_own and not own:
        return
    for column in own:
        query = query.where(column.is_not(None) if refers_to_own else column.is_(None))
    result = connection.execution_options(yield_per=BATCH).execute(query)
    for rows in result.mappings().partitions(BATCH):
        yield [dict(row) for row in rows]


def _advance_sequence(connection: Connection, table: Table, column: str) -> None:
    highest = connection.execute(select(func.max(table.c[column]))).scalar_one()
    connection.execute(select(func.setval(func.pg_get_serial_sequence(table.name, column), highest)))
