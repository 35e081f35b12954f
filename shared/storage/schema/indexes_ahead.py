"""Indexes of large tables that are made before the migration that needs them, while others go on writing to the table.

PostgreSQL makes an index in a transaction only while nobody writes to its table: workers could record nothing for
minutes, and would send again what they could not record. `CREATE INDEX CONCURRENTLY` reads the table twice instead, and
runs in no transaction.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum, auto

import psycopg.errors
from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import OperationalError

_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class IndexAhead:
    """An index on one column of some rows."""

    name: str
    table: str
    column: str
    where: str
    """SQL of the rows that are in it."""


ATTEMPTS_INTERNAL = IndexAhead("ix_attempts_internal", "attempts", "started_at", "outcome = 'internal'")
ALL = (ATTEMPTS_INTERNAL,)


class _State(Enum):
    """How far an index of PostgreSQL's is."""

    #: There is none, and there is its table.
    MISSING = auto()
    #: Nothing is to be done: it can be used, or there is no table yet.
    DONE = auto()
    #: Another process makes it.
    UNDER_WAY = auto()
    #: A process that made it was ended.
    LEFT_BEHIND = auto()


def is_there(connection: Connection, index: IndexAhead) -> bool:
    """Whether the table has an index of this name."""
    return any(one["name"] == index.name for one in inspect(connection).get_indexes(index.table))


def make_indexes_ahead(engine: Engine) -> None:
    """Make those that are missing on PostgreSQL; on SQLite, and in an empty database, the migration does it.

    It waits for the transactions that run when it begins. Several processes may do this at the same time: one makes an
    index, the others wait for it. What a process that was ended left of one is dropped first.
    """
    if engine.dialect.name != "postgresql":
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for index in ALL:
            while (state := _state(connection, index)) is not _State.DONE:
                if state is _State.UNDER_WAY:
                    time.sleep(_LOOK_SECONDS)
                    continue
                try:
                    if state is _State.LEFT_BEHIND:
                        connection.execute(text(f"DROP INDEX CONCURRENTLY IF EXISTS {index.name}"))
                    connection.execute(
                        text(
                            f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {index.name}"
                            f" ON {index.table} ({index.column}) WHERE {index.where}"
                        )
                    )
                except OperationalError as exc:
                    # Two that began at the same moment wait for each other, and the server ends one of them.
                    if not isinstance(exc.orig, psycopg.errors.DeadlockDetected):
                        raise


def _state(connection: Connection, index: IndexAhead) -> _State:
    if connection.scalar(text("SELECT to_regclass(:name)"), {"name": index.table}) is None:
        return _State.DONE
    valid = _is_valid(connection, index)
    if valid is None:
        return _State.MISSING
    if valid:
        return _State.DONE
    making = connection.scalar(
        text(
            "SELECT count(*) FROM pg_stat_progress_create_index"
            " WHERE datname = current_database() AND relid = to_regclass(:name)"
        ),
        {"name": index.table},
    )
    # Whoever made it may have finished between the two questions.
    return _State.UNDER_WAY if making or _is_valid(connection, index) else _State.LEFT_BEHIND


def _is_valid(connection: Connection, index: IndexAhead) -> bool | None:
    """Whether the index can be used; None where there is none."""
    valid: bool | None = connection.scalar(
        text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"), {"name": index.name}
    )
    return valid
