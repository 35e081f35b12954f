"""Workers and pumps that start before the migration wait for it with a clear line, and go on by themselves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from redis import Redis
from sqlalchemy import Engine, text
from structlog.testing import capture_logs

from dispatcher.pump.pump import Pump
from shared.messaging.celery_app import EVALUATE_QUEUE, PARTITION_TASK, celery_app
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import write_transaction
from shared.storage.schema.errors import SchemaTooOld
from shared.storage.schema.gate import SchemaGate
from shared.storage.schema.migrate import MIGRATIONS, migrate, newest_revision
from tests.integration.processes import wait_until
from tests.integration.scene import Scene, alias_event
from worker.bootstrap import build_process
from worker.process.lazy_process import LazyProcess
from worker.tasks import DrainInterrupted, run_drain

BEFORE = "0002"


def _to(engine: Engine, revision: str) -> None:
    """Take migrations back, as if they had never run."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with write_transaction(engine) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def _named(logs: list[Any], name: str) -> list[Any]:
    return [line for line in logs if line["event"] == name]


def test_a_pump_waits_with_one_line_and_goes_on_once_the_database_is_migrated(scene: Scene, tmp_path: Path) -> None:
    beat, engine = tmp_path / "beat", scene.process.engine
    _to(engine, BEFORE)
    with capture_logs() as logs, Redis.from_url(scene.settings.celery_broker_url) as broker:
        pump = Pump(scene.settings.model_copy(update={"heartbeat_file": beat}))
        pump.start()
        wait_until(lambda: bool(_named(logs, "schema.waiting")), "line")
        beat.unlink(missing_ok=True)
        wait_until(beat.exists, "another round of the sweep, which waits and lives")
        migrate(engine)
        wait_until(lambda: bool(_named(logs, "schema.ready")), "end of the wait")
        scene.publish(alias_event())
        wait_until(lambda: bool(broker.llen(EVALUATE_QUEUE)), "wake of a drain")
        pump.stop()
    [line] = _named(logs, "schema.waiting")
    assert (line["schema"], line["wanted"]) == (BEFORE, newest_revision())
    assert "hookline init" in line["remedy"]
    assert _named(logs, "pump.waiting") == []


def test_a_worker_does_nothing_until_the_database_is_migrated(scene: Scene) -> None:
    lazy = LazyProcess(lambda: build_process(scene.settings, celery_app(scene.settings)))
    lazy._process, lazy._pid = scene.process, os.getpid()

    def drain(partition: int) -> int:
        return run_drain(lazy, PARTITION_TASK, partition)

    scene.automation(None)
    event = alias_event()
    scene.publish(event)
    _to(scene.process.engine, BEFORE)
    with capture_logs() as logs:
        for partition in range(scene.settings.partitions):
            with pytest.raises(DrainInterrupted, match=r"schema 0002.*hookline init"):
                drain(partition)
        assert [line["event"] for line in logs] == ["schema.waiting"]
        migrate(scene.process.engine)
        assert sum(drain(partition) for partition in range(scene.settings.partitions)) == 1


def test_a_later_schema_is_worked_on_and_an_empty_database_is_not(scene: Scene, tmp_path: Path) -> None:
    with write_transaction(scene.process.engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    SchemaGate(scene.process.engine).check()
    empty = open_engine(scene.settings.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'empty.db'}"}))
    with pytest.raises(SchemaTooOld, match="no schema"):
        SchemaGate(empty).check()
    empty.dispose()


def test_it_is_told_now_and_then_and_asked_again_when_in_doubt(scene: Scene) -> None:
    gate = SchemaGate(scene.process.engine, log_seconds=0)
    gate.check()
    _to(scene.process.engine, BEFORE)
    gate.check()  # costs nothing, and so knows nothing of it
    gate.doubt()
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(SchemaTooOld):
                gate.check()
    assert len(_named(logs, "schema.waiting")) == 3
