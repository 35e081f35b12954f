"""Opening a database: one engine for each process, with the same pool, time-outs and pragmas everywhere."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from contextlib import closing, suppress
from functools import partial
from typing import Any

import psycopg
from psycopg.errors import IdleInTransactionSessionTimeout
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from shared.settings import Settings
from shared.storage.database.pooler import is_pooled, refuse_transaction_mode
from shared.storage.database.timing import TimedPool, time_calls
from shared.storage.database.transactions import SQLITE_BUSY_SECONDS

_KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
_UNANSWERED = {"tcp_user_timeout": 20_000}
"""TCP options by which either side closes a connection to a host that answers nothing at all, after 25 seconds.

Without them it would wait for two hours. libpq (section 34.1.2 of PostgreSQL's manual) and the server have the same
names for them, the server with `tcp_` in front.
"""
POSTGRES_OPTIONS: dict[str, str | int | None] = {
    "application_name": "hookline",
    "connect_timeout": 10,
    **_KEEPALIVES,
    **_UNANSWERED,
}
"""libpq's options of each connection. Times are in seconds, `tcp_user_timeout` in milliseconds."""
SESSION: dict[str, str | int] = {
    # The server closes the connection of a lost host, whose transaction may hold locks.
    **{f"tcp_{name}": value for name, value in _KEEPALIVES.items()},
    **_UNANSWERED,
    # It also ends a transaction in which nothing happens for this long: its process is stopped, or its host sleeps.
    "idle_in_transaction_session_timeout": 10_000,
}
"""PostgreSQL's settings of each session, in the units of `POSTGRES_OPTIONS`; idle transactions in milliseconds."""

_SQLITE_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=NORMAL",
    "foreign_keys=ON",
    "temp_store=MEMORY",
    # In pages: 32 MB. The commit that reaches it copies the log into the database and waits for the disk, unless
    # `checkpoint` does so first.
    "wal_autocheckpoint=8000",
)

KEPT_CONNECTIONS = 10
"""How many connections stay open while nothing is done; those beyond are closed when they are returned."""
POOL_WAIT_SECONDS = 30
"""How long a thread waits for a connection before it fails; each is used for milliseconds at a time."""


def open_engine(settings: Settings, *, ping: bool = True) -> Engine:
    """An engine on the configured database. Any thread may use it.

    With `ping` each connection is tried before it is used. Without it, the first use of a connection that a restarted
    server has dropped fails: for callers that retry anyway.

    At most `database_connections` are open; a thread beyond waits for one, for `POOL_WAIT_SECONDS` at most. So no
    thread may ask for a second one while it holds one, or all could wait for each other.

    On SQLite: write-ahead log and foreign keys are on. Every `write_transaction` takes the write lock when it begins,
    since SQLite refuses a lock that is taken later without waiting. The connection that was used last is used next,
    since its statements are prepared. On PostgreSQL: `POSTGRES_OPTIONS` and `SESSION` hold, except what the URL sets,
    for the latter by `options`. With `database_pooling` as `transaction`, `SESSION` does not, and no statement is kept.

    Errors show statements without their parameters, since they end up in logs: payloads and names have no place there.
    """
    url, most = settings.sqlalchemy_url, settings.database_connections
    kept = min(most, KEPT_CONNECTIONS)
    common: dict[str, Any] = {
        "poolclass": TimedPool,
        "pool_size": kept,
        "max_overflow": most - kept,
        "pool_timeout": POOL_WAIT_SECONDS,
        "hide_parameters": True,
    }
    if url.startswith("sqlite"):
        # `write_transaction` takes it; it lives with the engine, so that all threads of the process share it.
        writer_lock = {"hookline_writer_lock": threading.Lock()}
        engine = create_engine(
            url,
            connect_args={"timeout": SQLITE_BUSY_SECONDS, "check_same_thread": False},
            execution_options=writer_lock,
            pool_use_lifo=True,
            **common,
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        time_calls(engine, most_connections=most)
        return engine
    given = make_url(url).query
    options = {name: value for name, value in POSTGRES_OPTIONS.items() if name not in given}
    if settings.database_pooling == "transaction":
        # Each transaction may run on another of the server's connections: no statement and no setting may stay there.
        options["prepare_threshold"] = None
        engine = create_engine(url, pool_pre_ping=ping, connect_args=options, **common)
    else:
        engine = create_engine(url, pool_pre_ping=ping, connect_args=options, **common)
        session = {name: value for name, value in SESSION.items() if name not in str(given.get("options", ""))}
        event.listen(engine, "connect", _Session(engine, options, session).prepare)
    event.listen(engine, "handle_error", _as_lost_connection, retval=True)
    time_calls(engine, most_connections=most)
    return engine


def try_connection(engine: Engine) -> None:
    """Connect once, so that a process does not start behind a pooler that it can't work with.

    A database that can't be reached is left to whoever needs it first: it may come up later.

    Raises:
        TransactionPooler: naming the setting.
    """
    with suppress(SQLAlchemyError), engine.connect():
        pass


class _Session:
    """What each new connection is told, and the first is asked, where a connection keeps its server."""

    def __init__(self, engine: Engine, options: Mapping[str, Any], session: Mapping[str, str | int]) -> None:
        _, given = engine.dialect.create_connect_args(engine.url)
        self._connect = partial(psycopg.connect, **{**given, **options})
        settings = [f"set_config('{name}', '{value}', false)" for name, value in session.items()]
        # By SELECT, since PgBouncer refuses libpq's `options`.
        self._sql = f"SELECT {', '.join(['pg_backend_pid()', *settings])}".encode()
        self._asked = False

    def prepare(self, connection: psycopg.Connection[Any], _record: Any) -> None:
        """Set the session's settings. Raises TransactionPooler where the server changes between transactions."""
        pid, *_ = connection.execute(self._sql).fetchone() or (0,)
        connection.commit()
        if not self._asked and is_pooled(connection, pid):
            refuse_transaction_mode(connection, self._connect)
        self._asked = True


def _as_lost_connection(context: ExceptionContext) -> OperationalError | None:
    """Turn the server's end of an idle transaction into a lost connection, which callers retry."""
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
    """On SQLite, copy the log into the database file and wait for the disk, without blocking readers or writers.

    PostgreSQL does so by itself.
    """
    if engine.dialect.name == "postgresql":
        return
    with closing(engine.raw_connection()) as connection:  # SQLAlchemy would begin a transaction
        connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")
