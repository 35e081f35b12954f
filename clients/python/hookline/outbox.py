"""An outbox: events that are written in the transaction of the change they tell of, and relayed afterwards.

    metadata = MyBase.metadata
    hookline.outbox.table(metadata)                    # once, so that migrations know the tables

    with Session.begin() as session:
        version.aliases.append("production")
        hookline.outbox.add(session, hookline.events.alias_added(...))

    # hookline outbox relay --database-url postgresql+psycopg://…

A rollback takes the events with it, and a crash after the commit loses none. Needs SQLAlchemy
(the extra `outbox`).
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

try:
    import sqlalchemy as sa
    from sqlalchemy.dialects import mysql
except ImportError as exc:  # pragma: no cover - said once, where it is needed
    raise ImportError("hookline.outbox needs SQLAlchemy: pip install 'sqlalchemy>=2.0,<2.2'") from exc

from hookline import batches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session
    from sqlalchemy.orm.scoping import scoped_session

    from hookline.events import Event

TABLE = "hookline_outbox"
"""The usual name; the lease is in the table of this name with `_lease`."""


def table(metadata: sa.MetaData, name: str = TABLE, *, schema: str | None = None) -> sa.Table:
    """Define the outbox and its lease in `metadata`, for `create_all` and for Alembic's autogenerate; the outbox."""
    key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    sa.Table(
        f"{name}_lease",
        metadata,
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("beats", sa.BigInteger, nullable=False),
        schema=schema,
    )
    return sa.Table(
        name,
        metadata,
        # Rows are deleted once they are sent. The order of the numbers is that in which they were written.
        sa.Column("id", key, primary_key=True, autoincrement=True),
        # MySQL's usual BLOB ends at 64 KiB; an event may have 1 MiB.
        sa.Column("event", sa.LargeBinary().with_variant(mysql.MEDIUMBLOB(), "mysql", "mariadb"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        # Refused for good: kept for people to look at.
        sa.Column("parked_at", sa.DateTime(timezone=True)),
        sa.Column("reason", sa.Text),
        schema=schema,
        sqlite_autoincrement=True,
    )


def create(bind: sa.Engine | sa.Connection, name: str = TABLE, *, schema: str | None = None) -> sa.Table:
    """Create the two tables where they are not there yet; the outbox."""
    metadata = sa.MetaData()
    outbox = table(metadata, name, schema=schema)
    metadata.create_all(bind)
    return outbox


def insert(*events: Event | Mapping[str, Any] | bytes, name: str = TABLE, schema: str | None = None) -> sa.Insert:
    """The statement that writes events, for sessions that are awaited: `await session.execute(outbox.insert(event))`.

    Raises InvalidEvent.
    """
    if not events:
        raise ValueError("insert takes at least one event")
    outbox = sa.table(
        name, sa.column("event", sa.LargeBinary), sa.column("created_at", sa.DateTime(timezone=True)), schema=schema
    )
    now = datetime.now(timezone.utc)
    rows = [{"event": batches.encoded(event), "created_at": now} for event in events]
    return sa.insert(outbox).values(rows if len(rows) > 1 else rows[0])


def add(
    session: Session | scoped_session[Any] | sa.Connection,
    *events: Event | Mapping[str, Any] | bytes,
    name: str = TABLE,
    schema: str | None = None,
) -> None:
    """Write events in the session's or connection's transaction. Raises InvalidEvent, and what the database raises."""
    if events:
        session.execute(insert(*events, name=name, schema=schema))
