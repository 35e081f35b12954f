"""On SQLite, what was committed is brought to the disk soon, and not by those who commit."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from dispatcher.pump.pump import Pump
from shared.settings import Settings
from shared.storage.database.engine import checkpoint
from shared.storage.database.transactions import write_transaction
from shared.storage.definitions.entities import insert_entity
from tests.integration.processes import wait_until

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def _commit(engine: Engine) -> None:
    with write_transaction(engine) as connection:
        insert_entity(connection, name="acme", kind="team", parent_id=None, now=datetime.now(UTC))


def _without_its_log(engine: Engine, folder: Path) -> list[str]:
    """The entities in the database's file alone."""
    assert engine.url.database is not None
    copy = shutil.copy(engine.url.database, folder / "copy.db")
    with closing(sqlite3.connect(copy)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM entities")]


def test_a_checkpoint_brings_into_the_database_what_was_committed(engine: Engine, tmp_path: Path) -> None:
    _commit(engine)
    assert _without_its_log(engine, tmp_path) == []
    checkpoint(engine)
    assert _without_its_log(engine, tmp_path) == ["acme"]


def test_a_checkpoint_waits_for_no_writer(engine: Engine, tmp_path: Path) -> None:
    _commit(engine)
    with write_transaction(engine) as connection:
        connection.exec_driver_sql("DELETE FROM entities")
        checkpoint(engine)
        assert _without_its_log(engine, tmp_path) == ["acme"]


def _is_on_disk(engine: Engine, folder: Path) -> bool:
    with suppress(sqlite3.DatabaseError):  # the file was copied in the middle of it
        return _without_its_log(engine, folder) == ["acme"]
    return False


def test_the_pump_does_it(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    pump = Pump(settings)
    pump.start()
    _commit(engine)
    wait_until(lambda: _is_on_disk(engine, tmp_path), "checkpoint")
    pump.stop()
