"""INSERT with ON CONFLICT, which SQLite and PostgreSQL spell alike but SQLAlchemy keeps in two dialects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

Upsert: TypeAlias = postgresql.Insert | sqlite.Insert


def insert_into(connection: Connection, table: Table) -> Upsert:
    """An INSERT that has `on_conflict_do_nothing` and `on_conflict_do_update`, for the connection's database."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def insert_ignore(connection: Connection, table: Table) -> Upsert:
    """An INSERT that skips rows whose key exists."""
    return insert_into(connection, table).on_conflict_do_nothing()


def insert_replace(connection: Connection, table: Table, key: Sequence[str]) -> Upsert:
    """An INSERT that overwrites a row whose key exists."""
    statement = insert_into(connection, table)
    changed = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in key}
    return statement.on_conflict_do_update(index_elements=list(key), set_=changed)
