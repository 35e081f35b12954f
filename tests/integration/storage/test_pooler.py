"""Behind a real PgBouncer: sessions work as they are, transactions by a setting, and without it nothing starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from shared.settings import Settings
from shared.storage.database.engine import open_engine
from shared.storage.database.pooler import TransactionPooler
from shared.storage.database.transactions import read_transaction
from shared.storage.schema.tables import attempts, deliveries
from tests.integration.processes import (
    ROOT,
    dispatcher_command,
    environment,
    running,
    stop,
    wait_until,
    worker_command,
)
from tests.integration.scene import Scene, alias_event
from tests.poolers import pgbouncer

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
WORDS = "set HOOKLINE_DATABASE_POOLING=transaction for every process"
EVENTS = 600


def through(settings: Settings, url: str, pooling: str = "session") -> Settings:
    changed = settings.model_copy(update={"database_url": url, "database_pooling": pooling})
    changed.model_fields_set.update({"database_url", "database_pooling"})
    return changed


def test_a_pooler_of_transactions_is_refused(settings: Settings) -> None:
    with pgbouncer(str(settings.database_url), pool_mode="transaction") as url:
        for _ in range(10):  # whatever the pooler has idle by now
            engine = open_engine(through(settings, url))
            with pytest.raises(TransactionPooler, match=WORDS), engine.connect():
                pass
            engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("process", ["worker", "dispatcher", "api", "init"])
def test_no_process_starts_behind_one(settings: Settings, process: str) -> None:
    commands = {"worker": worker_command("w"), "dispatcher": dispatcher_command()}
    command = commands.get(process, [sys.executable, "-m", "dispatcher.cli", process])
    with pgbouncer(str(settings.database_url), pool_mode="transaction") as url:
        own = environment(through(settings, url))
        done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode != 0
    assert WORDS in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pooler_of_sessions_is_none(settings: Settings) -> None:
    with pgbouncer(str(settings.database_url), pool_mode="session", pool_size=20) as url:
        engine = open_engine(through(settings, url))
        with engine.connect() as one, engine.connect() as other:
            for _ in range(10):
                for connection in (one, other):
                    connection.execute(text("SELECT 1 WHERE :a = 1"), {"a": 1})
                    connection.commit()
            limit = one.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one()
        engine.dispose()
    assert limit == "10s"


def test_nothing_is_left_in_a_server_that_others_get(settings: Settings) -> None:
    with pgbouncer(str(settings.database_url), pool_mode="transaction", pool_size=1) as url:
        engine = open_engine(through(settings, url, "transaction"))
        for _ in range(20):
            with read_transaction(engine) as connection:
                connection.execute(select(func.count()).select_from(deliveries))
        with engine.connect() as connection:
            kept = connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one()
            limit = connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one()
        engine.dispose()
    assert (kept, limit) == (0, "0")


@pytest.mark.slow
def test_transactions_are_pooled_under_load_and_kills(scene: Scene, tmp_path: Path) -> None:
    hooks = [scene.webhook(f"hook-{number}") for number in range(3)]
    for hook in hooks:
        scene.automation(hook)
    with pgbouncer(str(scene.settings.database_url), pool_mode="transaction", pool_size=3) as url:
        settings = through(scene.settings, url, "transaction")
        started = [_start_worker(settings, tmp_path, number) for number in range(2)]
        try:
            with running(dispatcher_command(), settings, tmp_path / "dispatcher.log"):
                for first in range(0, EVENTS, 100):
                    scene.publish(*(alias_event(event_id=f"e{number}") for number in range(first, first + 100)))
                    if first == EVENTS // 2:
                        started[0].kill()
                        started.append(_start_worker(settings, tmp_path, 2))
                wait_until(lambda: _delivered(scene) == EVENTS * len(hooks), "deliveries", seconds=180)
        finally:
            for worker in started:
                stop(worker)
    with read_transaction(scene.process.engine) as connection:
        pairs = select(deliveries.c.event_id, deliveries.c.webhook_id).distinct().subquery()
        distinct = connection.execute(select(func.count()).select_from(pairs)).scalar_one()
        assert distinct == connection.execute(select(func.count()).select_from(deliveries)).scalar_one()
        assert connection.execute(select(func.count()).select_from(attempts)).scalar_one() >= EVENTS * len(hooks)
    logs = "".join(log.read_text() for log in tmp_path.glob("*.log"))
    for fault in ("DuplicatePrepared", "InvalidSqlStatementName", "prepared statement"):
        assert fault not in logs


def _start_worker(settings: Settings, folder: Path, number: int) -> subprocess.Popen[bytes]:
    with (folder / f"w{number}.log").open("ab") as log:
        return subprocess.Popen(
            worker_command(f"w{number}"), cwd=ROOT, env=environment(settings), stdout=log, stderr=subprocess.STDOUT
        )


def _delivered(scene: Scene) -> int:
    with read_transaction(scene.process.engine) as connection:
        query = select(func.count()).select_from(deliveries).where(deliveries.c.status == "delivered")
        return int(connection.execute(query).scalar_one())
