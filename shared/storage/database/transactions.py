"""The ways to the database: a transaction or one statement, to read or to write, and one to change the schema."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError, OperationalError

_T = TypeVar("_T")
ASYNC_COMMIT_SQL = "(SELECT set_config('synchronous_commit', 'off', true)) = 'off'"
"""SQL, always true, that makes the commit of this transaction asynchronous on PostgreSQL: it does not wait for fsync.

Only for transactions whose loss in a crash of the server does no harm. Later ones that do wait bring it to the disk
too.
"""


SQLITE_BUSY_SECONDS = 30
"""How long a SQLite transaction waits for another writer, of this process or another, before it fails."""


@contextmanager
def write_transaction(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: committed when the block ends, rolled back when it raises.

    After the commit its edits are announced (`shared.messaging.edits`).
    """
    edits: list[int] = []
    with (
        _sqlite_writer_lock(engine),
        engine.connect().execution_options(
            hookline_write=True, hookline_edits=edits, hookline_recalled=None
        ) as connection,
        connection.begin(),
    ):
        yield connection
    if edits and (announce := engine.get_execution_options().get("hookline_announce_edit")) is not None:
        announce(edits[-1])


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
    """On SQLite, serialize this process's writers with a lock; SQLite's own busy handler polls with growing delays.

    It is taken before a connection, so that threads that wait for it do not use up the pool.
    """
    lock: threading.Lock | None = engine.get_execution_options().get("hookline_writer_lock")
    if lock is None:
        yield
        return
    if not lock.acquire(timeout=SQLITE_BUSY_SECONDS):
        locked = sqlite3.OperationalError("database is locked")
        raise OperationalError("BEGIN IMMEDIATE", None, locked)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def read_transaction(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads, from one snapshot: REPEATABLE READ on PostgreSQL. It takes no row locks.

    With PostgreSQL's default each statement would see what was committed by then: a webhook's row as it was before an
    edit, and no more the secrets that it names. What is found by `recalled` is looked up once.
    """
    known = engine.get_execution_options().get("hookline_recalled")
    with (
        engine.connect().execution_options(hookline_recalled={} if known is None else known) as connection,
        _repeatable_read(connection),
        connection.begin(),
    ):
        yield connection


def reading_once(engine: Engine) -> Engine:
    """The engine for one request that only reads: what `recalled` found counts in all its transactions.

    Such a request sees a definition as it was when it looked first. Transactions that write look for themselves.
    """
    return engine.execution_options(hookline_recalled={})


def recalled(connection: Connection, key: Hashable, find: Callable[[], _T]) -> _T:
    """What `find` gives, which nobody may change. Where only is read it is asked once a key: in a transaction, whose
    snapshot stays as it is, or in all those of `reading_once`.

    A page asks several parts of the control layer, each of which looks up the entity.
    """
    known: dict[Hashable, Any] | None = connection.get_execution_options().get("hookline_recalled")
    if known is None:
        return find()
    if key not in known:
        known[key] = find()
    return cast("_T", known[key])


@contextmanager
def _repeatable_read(connection: Connection) -> Iterator[None]:
    """Run the next transaction as REPEATABLE READ. Set on the driver, which sends it along with BEGIN."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        yield  # SQLite's transactions always read from one snapshot
        return
    driver.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    try:
        yield
    finally:
        if driver.info.transaction_status == TransactionStatus.IDLE:  # otherwise it is broken, and the pool drops it
            driver.isolation_level = None


@contextmanager
def write_statement(engine: Engine) -> Iterator[Connection]:
    """A connection for a single statement that writes.

    On PostgreSQL it commits by itself, which saves the round trips of BEGIN and COMMIT. On SQLite, where the same step
    may take several statements, it is `write_transaction`.
    """
    with (_autocommit if engine.dialect.name == "postgresql" else write_transaction)(engine) as connection:
        yield connection


@contextmanager
def read_statement(engine: Engine) -> Iterator[Connection]:
    """A connection for a single statement that only reads, without BEGIN and COMMIT on PostgreSQL."""
    with (_autocommit if engine.dialect.name == "postgresql" else read_transaction)(engine) as connection:
        yield connection


@contextmanager
def _autocommit(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
        driver.autocommit = True  # on the driver: SQLAlchemy's option costs more than this saves
        try:
            yield connection
        finally:
            if driver.info.transaction_status == TransactionStatus.IDLE:
                driver.autocommit = False
            else:
                connection.invalidate()  # broken, or cut short in the middle of the statement
