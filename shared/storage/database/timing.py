"""Times what a database is asked: how long its pool makes threads wait, and how long statements and commits take."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from shared.observability import saturation_metrics as metrics

_BEGAN = "hookline_began"


class TimedPool(QueuePool):
    """A pool that tells how long it took to give out a connection."""

    # Its lines are SQLAlchemy's, of which only warnings are wanted; by its own module's name they would be Hookline's.
    _sqla_logger_namespace = "sqlalchemy.pool.impl.QueuePool"

    def connect(self) -> PoolProxiedConnection:
        """Give out a connection, as soon as there is one."""
        with metrics.waiting_for_connection():
            return super().connect()


def time_calls(engine: Engine, *, most_connections: int) -> None:
    """Time every call of an engine from now on.

    Args:
        most_connections: how many connections its pool gives out at the same time.
    """
    metrics.DATABASE_CONNECTIONS_MOST.set(most_connections)
    event.listen(engine, "checkout", _given_out)
    event.listen(engine, "checkin", _given_back)
    event.listen(engine, "before_cursor_execute", _begin)
    event.listen(engine, "after_cursor_execute", _end)
    event.listen(engine, "handle_error", _failed)
    _time_commits(engine.dialect)


def _time_commits(dialect: Any) -> None:
    """SQLAlchemy tells when a commit begins, and not when it ends."""
    commit = dialect.do_commit

    def timed(connection: Any) -> None:
        began = time.perf_counter()
        commit(connection)
        metrics.observe_statement("COMMIT", began)

    dialect.do_commit = timed


def _given_out(*_: Any) -> None:
    metrics.DATABASE_CONNECTIONS.inc()


def _given_back(*_: Any) -> None:
    metrics.DATABASE_CONNECTIONS.dec()


def _begin(connection: Any, *_: Any) -> None:
    connection.info[_BEGAN] = time.perf_counter()


def _end(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    if (began := connection.info.pop(_BEGAN, None)) is not None:
        metrics.observe_statement(statement.lstrip()[:10].partition(" ")[0].upper(), began)


def _failed(context: ExceptionContext) -> None:
    """Count it, unless it is an answer: a row that exists already."""
    if isinstance(context.sqlalchemy_exception, IntegrityError):
        return
    unavailable = context.is_disconnect or (
        isinstance(context.sqlalchemy_exception, OperationalError) and context.connection is None
    )
    metrics.count_database_fault(unavailable=unavailable)
