"""Databases of earlier versions, with rows in every table: the migration loses none and leaves no reference broken."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, Table, insert, select
from sqlalchemy.exc import IntegrityError

from shared.settings import load_settings
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import read_transaction, schema_transaction, write_transaction
from shared.storage.schema.migrate import MIGRATIONS, current_revision, migrate, newest_revision
from tests.servers import drop_database, fresh_database, postgres_server

CONFIG = Config()
CONFIG.set_main_option("script_location", str(MIGRATIONS))
EARLIER = sorted(script.revision for script in ScriptDirectory.from_config(CONFIG).walk_revisions())[:-1]
NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL server for this module."""
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A blank database."""
    url = f"sqlite:///{tmp_path / 'hookline.db'}"
    if request.param == "postgresql":
        url = fresh_database(request.getfixturevalue("server"))
    engine = open_engine(load_settings(database_url=url))
    yield engine
    engine.dispose()
    if request.param == "postgresql":
        drop_database(url)


def at(engine: Engine, revision: str) -> None:
    """Bring a blank database to a revision."""
    with schema_transaction(engine) as connection:
        CONFIG.attributes["connection"] = connection
        command.upgrade(CONFIG, revision)


def fill(engine: Engine) -> Rows:
    """Two rows in each table that has none, whose foreign keys all lead somewhere; what each table then holds."""
    metadata = MetaData()
    metadata.reflect(engine)
    with write_transaction(engine) as connection:
        for table in metadata.sorted_tables:
            if not connection.execute(select(table)).first():
                connection.execute(insert(table), [_row(table, number) for number in (1, 2)])
    return rows(engine, {table.name: [column.name for column in table.columns] for table in metadata.sorted_tables})


def _row(table: Table, number: int) -> dict[str, Any]:
    return {
        column.name: number if column.foreign_keys else _value(column, number)
        for column in table.columns
        if not column.computed
    }


def _value(column: sa.Column[Any], number: int) -> Any:
    match column.type:
        case sa.Boolean():
            return bool(number % 2)
        case sa.Integer():
            return number
        case sa.DateTime():
            return NOW
        case sa.LargeBinary():
            return bytes([number])
        case sa.JSON():
            return {"number": number}
        case sa.Float() | sa.Numeric():
            return number / 2
    return str(number)


def rows(engine: Engine, columns: dict[str, list[str]]) -> Rows:
    """These columns of these tables, in order."""
    with read_transaction(engine) as connection:
        return {
            name: sorted(
                (dict(row._mapping) for row in connection.execute(_selection(name, names))),
                key=repr,
            )
            for name, names in columns.items()
            if name != "alembic_version"
        }


def _selection(name: str, names: list[str]) -> sa.Select[*tuple[Any, ...]]:
    columns: list[sa.ColumnElement[Any]] = [sa.column(one) for one in names]
    return select(*columns).select_from(sa.table(name))


@pytest.mark.parametrize("revision", EARLIER)
def test_no_row_is_lost_and_no_reference_breaks(engine: Engine, revision: str) -> None:
    at(engine, revision)
    before = fill(engine)
    assert len(before) > 10 and all(before.values())
    tables = {name: list(table[0]) for name, table in before.items()}

    migrate(engine)

    assert rows(engine, tables) == before
    with read_transaction(engine) as connection:
        assert current_revision(connection) == newest_revision()


def test_references_are_enforced_again_after_a_migration(engine: Engine) -> None:
    migrate(engine)
    metadata = MetaData()
    metadata.reflect(engine, only=["webhooks"])
    with pytest.raises(IntegrityError), write_transaction(engine) as connection:
        connection.execute(insert(metadata.tables["webhooks"]), _row(metadata.tables["webhooks"], 999))


def test_a_migration_that_breaks_a_reference_is_taken_back(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    at(engine, EARLIER[-1])
    before = fill(engine)
    upgrade = command.upgrade

    def harmful(config: Config, revision: str) -> None:
        upgrade(config, revision)
        config.attributes["connection"].exec_driver_sql("DELETE FROM entities WHERE id = 2")

    monkeypatch.setattr(command, "upgrade", harmful)
    with pytest.raises(IntegrityError):
        migrate(engine)

    assert rows(engine, {name: list(table[0]) for name, table in before.items()}) == before
    with read_transaction(engine) as connection:
        assert current_revision(connection) == EARLIER[-1]
