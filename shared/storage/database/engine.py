"""Engines: one per process, tuned the same way wherever it is opened."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from typing import Any

import psycopg
from psycopg.errors import IdleInTransactionSessionTimeout
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import QueuePool

from shared.settings import Settings
from shared.storage.database.transactions import SQLITE_BUSY_SECONDS

_KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
_UNANSWERED = {"tcp_user_timeout": 20_000}
"""After how long a host that is cut off, and answers nothing at all, is given up by the other side: 25 seconds.

Without them it is waited for two hours. libpq (34.1.2) and the server call them the same, but for a `tcp_`.
"""
POSTGRES_OPTIONS: dict[str, str | int] = {
    "application_name": "hookline",
    "connect_timeout": 10,
    **_KEEPALIVES,
    **_UNANSWERED,
}
"""Times in seconds, `tcp_user_timeout` in milliseconds."""
SESSION: dict[str, str | int] = {
    # What a host that is cut off holds in a transaction must not stay locked.
    **{f"tcp_{name}": value for name, value in _KEEPALIVES.items()},
    **_UNANSWERED,
    # Nor what a process holds that is stopped, or whose host sleeps: others wait for the locks of a transaction.
    "idle_in_transaction_session_timeout": 10_000,
}
"""What PostgreSQL is told of each connection, in the units of `POSTGRES_OPTIONS`; idle transactions in milliseconds."""

_SQLITE_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=NORMAL",
    "foreign_keys=ON",
    "temp_store=MEMORY",
    # In pages, 32 MB: whose commit comes to that waits for the disk, unless `checkpoint` was earlier.
    "wal_autocheckpoint=8000",
)

KEPT_CONNECTIONS = 10
"""So many stay open when nothing is done; those beyond are closed when they come back."""
POOL_WAIT_SECONDS = 30


def open_engine(settings: Settings, *, ping: bool = True) -> Engine:
    """An engine on the configured database. With `ping` each connection is tried before it is used.

    Without it, work on a connection that a restarted server has dropped fails once: for those who try again anyway.

    At most `database_connections` are open: threads beyond wait for their turn, for `POOL_WAIT_SECONDS` at most. So no
    thread may want a second one while it holds one, or all could wait for one another.

    On SQLite: write-ahead log, foreign keys on, and every transaction that `writing` opens takes the write lock at
    once, since a lock taken later can't wait for its turn; writers of one engine wait without a connection, and the
    connection used last is used next, whose statements are prepared. On PostgreSQL: `POSTGRES_OPTIONS` and `SESSION`,
    less what the URL sets, the latter by its `options`.

    Errors tell statements without their parameters, since they end up in logs: payloads and names have no place there.
    """
    url, most = settings.sqlalchemy_url, settings.database_connections
    kept = min(most, KEPT_CONNECTIONS)
    common: dict[str, Any] = {
        "poolclass": QueuePool,
        "pool_size": kept,
        "max_overflow": most - kept,
        "pool_timeout": POOL_WAIT_SECONDS,
        "hide_parameters": True,
    }
    if url.startswith("sqlite"):
        turn = {"hookline_turn": threading.Lock()}
        engine = create_engine(
            url,
            connect_args={"timeout": SQLITE_BUSY_SECONDS, "check_same_thread": False},
            execution_options=turn,
            pool_use_lifo=True,
            **common,
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    given = make_url(url).query
    options = {name: value for name, value in POSTGRES_OPTIONS.items() if name not in given}
    engine = create_engine(url, pool_pre_ping=ping, connect_args=options, **common)
    session = {name: value for name, value in SESSION.items() if name not in str(given.get("options", ""))}
    if session:
        event.listen(engine, "connect", partial(_prepare_postgresql, session))
    event.listen(engine, "handle_error", _as_lost_connection, retval=True)
    return engine


def _prepare_postgresql(session: Mapping[str, str | int], connection: psycopg.Connection, _record: Any) -> None:
    """By SELECT and not by libpq's `options`, which PgBouncer refuses."""
    settings = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in session.items())
    connection.execute(f"SELECT {settings}".encode())
    connection.commit()


def _as_lost_connection(context: ExceptionContext) -> OperationalError | None:
    """A session that the server gave up is a lost connection to who finds out, and no fault of the statement."""
    lost = context.original_exception
    if not isinstance(lost, IdleInTransactionSessionTimeout):
        return None
    return OperationalError(context.statement, None, lost, connection_invalidated=True)


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None
    for pragma in _SQLITE_PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("hookline_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def checkpoint(engine: Engine) -> None:
    """On SQLite, bring what was committed to the disk and into the database, in nobody's way.

    PostgreSQL does so by itself.
    """
    if engine.dialect.name == "postgresql":
        return
    with closing(engine.raw_connection()) as connection:  # SQLAlchemy would begin a transaction
        connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")
