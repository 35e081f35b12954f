"""Bringing a database to this version's schema."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from shared.storage.database.transactions import check_references, schema_transaction
from shared.storage.schema.indexes_ahead import make_indexes_ahead

MIGRATIONS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 0x686F6F6B
"""The key of the lock that migrations of all processes take; any number does that never changes."""


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def migrate(engine: Engine) -> None:
    """Run the migrations that the database lacks. Several processes may do so concurrently: one does the work."""
    make_indexes_ahead(engine)
    with schema_transaction(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _ADVISORY_LOCK})
        before = current_revision(connection)
        command.upgrade(_config(connection), "head")
        if current_revision(connection) != before:
            check_references(connection)


@lru_cache(maxsize=1)
def newest_revision() -> str | None:
    """The revision that this version's code expects."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def current_revision(connection: Connection) -> str | None:
    """The revision that the database is at; None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def is_served(revision: str | None) -> bool:
    """Whether this version's code works on a database at that revision: its own, or one of a later version.

    The next version's migrations run while this version still serves, so they only add; a column that they make useless
    is dropped by the version after. Revisions are numbers of four digits, so they compare as text.
    """
    newest = newest_revision()
    return revision is not None and newest is not None and revision >= newest


def schema_fault(revision: str | None) -> str | None:
    """Why this version can't serve a database at that revision, and what to do; None when it can."""
    if is_served(revision):
        return None
    found = f"has schema {revision}, not {newest_revision()}" if revision else "has no schema"
    return f"{found}: run `hookline init` with this version"
