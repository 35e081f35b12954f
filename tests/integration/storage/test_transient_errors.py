"""Which faults of a database are worth trying again: told from real ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.pool import QueuePool

from shared.settings import load_settings
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import write_transaction
from shared.storage.database.transient_errors import is_transient


@pytest.mark.parametrize(
    "statement",
    ["SELECT 1 FROM no_such_table", "SELECT no_such_column FROM webhooks", "UPDATE webhooks SET", "nonsense"],
)
def test_a_statement_that_never_succeeds_is_not_tried_again(engine: Engine, statement: str) -> None:
    with pytest.raises(DBAPIError) as caught, write_transaction(engine) as connection:
        connection.execute(text(statement))
    assert not is_transient(caught.value)


def test_a_database_that_is_away_is() -> None:
    with pytest.raises(SQLAlchemyError) as caught:
        open_engine(load_settings(database_url="postgresql://127.0.0.1:1/none")).connect()
    assert is_transient(caught.value)


def test_no_free_connection_is(tmp_path: Path) -> None:
    engine = create_engine(
        f"sqlite:///{tmp_path}/a.db", poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.01
    )
    with engine.connect(), pytest.raises(NoConnection) as caught:
        engine.connect()
    assert is_transient(caught.value)
    engine.dispose()


def _locked(folder: Path) -> SQLAlchemyError:
    engines = [create_engine(f"sqlite:///{folder}/a.db", connect_args={"timeout": 0}) for _ in range(2)]
    with engines[0].connect() as first, engines[1].connect() as second, pytest.raises(DBAPIError) as caught:
        first.exec_driver_sql("BEGIN IMMEDIATE")
        second.exec_driver_sql("BEGIN IMMEDIATE")
    for engine in engines:
        engine.dispose()
    return caught.value


def _full(folder: Path) -> SQLAlchemyError:
    engine = create_engine(f"sqlite:///{folder}/a.db")
    with engine.connect() as connection, pytest.raises(DBAPIError) as caught:
        connection.exec_driver_sql("PRAGMA max_page_count = 2")
        connection.exec_driver_sql("CREATE TABLE a (b)")
        connection.exec_driver_sql("INSERT INTO a VALUES (zeroblob(100000))")
    engine.dispose()
    return caught.value


def _gone(folder: Path) -> SQLAlchemyError:
    with pytest.raises(DBAPIError) as caught:
        create_engine(f"sqlite:///{folder}/no/such/folder/a.db").connect()
    return caught.value


@pytest.mark.parametrize("fault", [_locked, _full, _gone])
def test_sqlite_that_is_busy_full_or_out_of_reach_is(tmp_path: Path, fault: object) -> None:
    assert callable(fault)
    assert is_transient(fault(tmp_path))
