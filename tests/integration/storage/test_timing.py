"""What the database was asked is timed, its connections are counted, and what failed is told apart from answers."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from shared.observability.saturation_metrics import write_durations
from shared.settings import Settings
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import read_statement, write_transaction


def _value(name: str, **labels: str) -> float:
    write_durations()
    return REGISTRY.get_sample_value(name, labels) or 0


def test_statements_commits_connections_and_faults(settings: Settings) -> None:
    engine = open_engine(settings)
    kinds = ("SELECT", "COMMIT")
    before = {kind: _value("hookline_database_seconds_count", statement=kind) for kind in kinds}
    used, waited = _value("hookline_database_connections"), _value("hookline_database_wait_seconds_count")
    with write_transaction(engine) as connection:
        connection.execute(text("SELECT 1"))
        assert _value("hookline_database_connections") == used + 1
    assert _value("hookline_database_connections") == used
    assert _value("hookline_database_wait_seconds_count") == waited + 1
    after = {kind: _value("hookline_database_seconds_count", statement=kind) - before[kind] for kind in kinds}
    assert after["COMMIT"] == 1 and after["SELECT"] >= 1  # on SQLite nothing more, on PostgreSQL what a log-in asks
    refused = _value("hookline_database_faults_total", kind="statement")
    with pytest.raises(SQLAlchemyError), read_statement(engine) as connection:
        connection.execute(text("SELECT nothing_that_there_is"))
    assert _value("hookline_database_faults_total", kind="statement") == refused + 1
    engine.dispose()


def test_a_server_that_is_away_is_unavailable(settings: Settings) -> None:
    away = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:9/nothing"})
    engine = open_engine(away)
    before = _value("hookline_database_faults_total", kind="unavailable")
    with pytest.raises(SQLAlchemyError):
        engine.connect()
    assert _value("hookline_database_faults_total", kind="unavailable") == before + 1
    engine.dispose()
