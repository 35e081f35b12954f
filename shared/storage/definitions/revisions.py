"""The counter that orders edits of secrets, webhooks and automations.

An edit holds the counter's row until it commits, so edits commit in the order of their revisions, and what an edit has
checked (a free name, an unused secret) can't change under it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select, update

from shared.storage.schema.tables import revisions


def lock_edits(connection: Connection) -> None:
    """Wait for the edits underway and hold off others until this transaction ends.

    On SQLite a `write_transaction` holds the only write lock already.
    """
    connection.execute(select(revisions.c.value).where(revisions.c.id == 1).with_for_update())


def next_revision(connection: Connection) -> int:
    """Take the next revision, and lock as `lock_edits` does."""
    return next_revisions(connection, 1)[0]


def next_revisions(connection: Connection, count: int) -> Sequence[int]:
    """Take the next `count` revisions, and lock as `lock_edits` does."""
    taken = update(revisions).where(revisions.c.id == 1).values(value=revisions.c.value + count)
    last = int(connection.execute(taken.returning(revisions.c.value)).scalar_one())
    connection.get_execution_options().get("hookline_edits", []).append(last)
    return range(last - count + 1, last + 1)


def current_revision_value(connection: Connection) -> int:
    """The revision of the newest committed edit; 0 before the first."""
    return int(connection.execute(select(revisions.c.value).where(revisions.c.id == 1)).scalar_one())
