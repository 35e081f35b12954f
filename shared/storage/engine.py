"""Engines: one per process, tuned the same way wherever it is opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event

from shared.settings import Settings

SQLITE_BUSY_SECONDS = 30


def open_engine(settings: Settings, *, ping: bool = True) -> Engine:
    """An engine on the configured database. With `ping` each connection is tried before it is used.

    Without it, work on a connection that a restarted server has dropped fails once: for those who try again anyway.

    On SQLite: write-ahead log, foreign keys on, and every transaction that `writing` opens takes the write lock at
    once, since a lock taken later can't wait for its turn.
    """
    url = settings.sqlalchemy_url
    if url.startswith("sqlite"):
        engine = create_engine(url, connect_args={"timeout": SQLITE_BUSY_SECONDS, "check_same_thread": False})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return create_engine(
        url, pool_size=10, max_overflow=20, pool_pre_ping=ping, connect_args={"application_name": "hookline"}
    )


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("hookline_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: committed when the block ends, rolled back when it raises."""
    with engine.connect().execution_options(hookline_write=True) as connection, connection.begin():
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads: one consistent picture, never in a writer's way."""
    with engine.connect() as connection, connection.begin():
        yield connection
