"""The ways to the database: a transaction or one statement, to read or to write, and one to change the schema."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError, OperationalError

ASYNC_COMMIT_SQL = "(SELECT set_config('synchronous_commit', 'off', true)) = 'off'"
"""SQL, always true, by which nobody waits for PostgreSQL's disk at the end of this transaction."""


SQLITE_BUSY_SECONDS = 30


@contextmanager
def write_transaction(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: committed when the block ends, rolled back when it raises."""
    with (
        _sqlite_writer_lock(engine),
        engine.connect().execution_options(hookline_write=True) as connection,
        connection.begin(),
    ):
        yield connection


@contextmanager
def schema_transaction(engine: Engine) -> Iterator[Connection]:
    """A transaction that changes the schema: committed when the block ends, rolled back when it raises.

    SQLite changes most things of a table only by a copy, after which the original is dropped. While foreign keys are
    enforced, that fails or deletes the rows that refer to the table. So they are not enforced until the end, as
    https://sqlite.org/lang_altertable.html#otheralter says; `check_references` is the check before the commit.
    """
    if engine.dialect.name == "postgresql":
        with write_transaction(engine) as connection:
            yield connection
        return
    with _sqlite_writer_lock(engine), engine.connect().execution_options(hookline_write=True) as connection:
        driver = cast("sqlite3.Connection", connection.connection.driver_connection)
        driver.execute("PRAGMA foreign_keys=OFF")  # has no effect within a transaction, hence on the driver
        try:
            with connection.begin():
                yield connection
        finally:
            driver.execute("PRAGMA foreign_keys=ON")


def check_references(connection: Connection) -> None:
    """Check on SQLite that every row refers to rows that exist. It reads all tables; PostgreSQL always enforces it.

    Raises:
        IntegrityError: with the tables whose rows refer to nothing.
    """
    if connection.dialect.name != "sqlite":
        return
    statement = "PRAGMA foreign_key_check"
    broken = sorted({row[0] for row in connection.exec_driver_sql(statement)})
    if broken:
        failed = sqlite3.IntegrityError(f"FOREIGN KEY constraint failed: {', '.join(broken)}")
        raise IntegrityError(statement, None, failed)


@contextmanager
def _sqlite_writer_lock(engine: Engine) -> Iterator[None]:
    """On SQLite, wait for this process's other writers as threads do; SQLite would look again and again, ever later."""
    turn: threading.Lock | None = engine.get_execution_options().get("hookline_turn")
    if turn is None:
        yield
        return
    if not turn.acquire(timeout=SQLITE_BUSY_SECONDS):
        locked = sqlite3.OperationalError("database is locked")
        raise OperationalError("BEGIN IMMEDIATE", None, locked)
    try:
        yield
    finally:
        turn.release()


@contextmanager
def read_transaction(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads: one consistent picture, never in a writer's way.

    PostgreSQL would show each statement what was committed by then: a webhook's row of before an edit, and not the
    secrets that it names.
    """
    with engine.connect() as connection, _repeatable_read(connection), connection.begin():
        yield connection


@contextmanager
def _repeatable_read(connection: Connection) -> Iterator[None]:
    """Let the next transaction see what was committed when it began; set on the driver, which costs no round trip."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        yield  # SQLite knows no other
        return
    driver.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    try:
        yield
    finally:
        if driver.info.transaction_status == TransactionStatus.IDLE:  # else it is broken, and goes
            driver.isolation_level = None


@contextmanager
def write_statement(engine: Engine) -> Iterator[Connection]:
    """For one statement that writes and is whole by itself: on PostgreSQL it needs no round trips to begin and commit.

    On SQLite, whose statements may be several, it is the same as `write_transaction`.
    """
    with (_autocommit if engine.dialect.name == "postgresql" else write_transaction)(engine) as connection:
        yield connection


@contextmanager
def read_statement(engine: Engine) -> Iterator[Connection]:
    """For one statement that only reads: the same for reading."""
    with (_autocommit if engine.dialect.name == "postgresql" else read_transaction)(engine) as connection:
        yield connection


@contextmanager
def _autocommit(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
        driver.autocommit = True  # on the driver, as above: SQLAlchemy's option costs more than is won
        try:
            yield connection
        finally:
            if driver.info.transaction_status == TransactionStatus.IDLE:
                driver.autocommit = False
            else:
                connection.invalidate()  # broken, or cut short in the middle of the statement
