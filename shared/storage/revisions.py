"""The counter that orders edits of secrets, webhooks and automations.

An edit holds the counter's row until it commits, so edits commit in the order of their revisions, and what an edit has
checked (a free name, an unused secret) can't change under it.
"""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from shared.storage.tables import revisions


def lock_edits(connection: Connection) -> None:
    """Wait for the edits underway and hold off others until this transaction ends.

    On SQLite the transaction of `writing` holds the only write lock already.
    """
    connection.execute(select(revisions.c.value).where(revisions.c.id == 1).with_for_update())


def next_revision(connection: Connection) -> int:
    """Take the next revision; locks as `lock_edits` does."""
    statement = (
        update(revisions).where(revisions.c.id == 1).values(value=revisions.c.value + 1).returning(revisions.c.value)
    )
    return int(connection.execute(statement).scalar_one())


def current_revision_value(connection: Connection) -> int:
    """The revision of the newest committed edit; 0 before the first."""
    return int(connection.execute(select(revisions.c.value).where(revisions.c.id == 1)).scalar_one())
