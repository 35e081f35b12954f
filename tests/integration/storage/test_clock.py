"""The database's time: the same for all processes, whatever a machine's own clock is stepped to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from shared.settings import load_settings
from shared.storage.database import clock as clock_module
from shared.storage.database.clock import DatabaseClock
from shared.storage.database.engine import open_engine

HOUR = timedelta(hours=1)
SOON = timedelta(seconds=20)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_step_of_the_machines_clock_changes_nothing_on_postgresql(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, step: timedelta
) -> None:
    monkeypatch.setattr(clock_module, "LOOK_SECONDS", 0.0)
    clock = DatabaseClock(engine)
    before = clock.now()
    with time_machine.travel(datetime.now(UTC) + step, tick=True):
        stepped, again = clock.now(), DatabaseClock(engine).now()
        reckoned = clock.estimate()
    if engine.dialect.name == "postgresql":
        assert before <= stepped < before + SOON
        assert before <= again < before + SOON
        assert stepped <= reckoned < before + SOON
    else:
        assert abs(stepped - before - step) < SOON
    assert before.tzinfo is UTC


def test_it_runs_on_while_the_database_is_away(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite is never away")
    monkeypatch.setattr(clock_module, "LOOK_SECONDS", 0.0)
    clock = DatabaseClock(engine)
    before = clock.now()
    away = open_engine(load_settings(database_url="postgresql://127.0.0.1:1/none"))
    monkeypatch.setattr(clock, "_engine", away)
    assert before < clock.now() < before + SOON
    with pytest.raises(OperationalError):
        DatabaseClock(away).now()
