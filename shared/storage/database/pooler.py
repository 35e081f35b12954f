"""A pooler between a process and PostgreSQL: whether there is one, and whether it changes servers between transactions.

With PgBouncer in transaction mode a connection of ours is another connection of the server in each transaction. What
belongs to a server's session is then somebody else's: a prepared statement of the same name, a setting. So nothing of
the kind may be kept, which `HOOKLINE_DATABASE_POOLING=transaction` says; without it, such a pooler is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg

from shared.domain.errors import HooklineError

ROUNDS = 8
"""How often a pooler may give our server to somebody else; it gives out first the one that it got back last."""

Connect = Callable[[], "psycopg.Connection[Any]"]


class TransactionPooler(HooklineError):
    """The pooler gives a connection another server for each transaction, and the settings do not say so."""

    def __init__(self) -> None:
        super().__init__(
            "HOOKLINE_DATABASE_URL leads to a pooler that changes servers between transactions (PgBouncer's pool_mode "
            "= transaction): set HOOKLINE_DATABASE_POOLING=transaction for every process, or let it pool sessions"
        )


def is_pooled(connection: psycopg.Connection[Any], server_pid: int) -> bool:
    """Whether something stands between: it made up the pid that it told at the log-in.

    Args:
        connection: a connection that is open.
        server_pid: what `pg_backend_pid()` says on it.
    """
    return connection.info.backend_pid != server_pid


def refuse_transaction_mode(connection: psycopg.Connection[Any], connect: Connect) -> None:
    """Find out whether somebody else can be given the server that we are talking to.

    Args:
        connection: ours, in no transaction.
        connect: opens another one in the same way.

    Raises:
        TransactionPooler: if so.
        psycopg.Error: if the database can't be asked.
    """
    ours = _server_of(connection)
    for _ in range(ROUNDS):
        with closing(connect()) as other:
            # Its transaction stays open meanwhile: it holds the server that it was given.
            theirs = _server_of(other, leave_open=True)
            if theirs == ours or (now := _server_of(connection)) != ours:
                raise TransactionPooler
            ours = now


def _server_of(connection: psycopg.Connection[Any], *, leave_open: bool = False) -> int:
    row = connection.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM
    if not leave_open:
        connection.commit()
    return int(row[0])
