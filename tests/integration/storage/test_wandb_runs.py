"""What is remembered of the `wandb` client's runs, and for how long."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.domain.events.types import RunPhase
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions import wandb_runs as store
from shared.storage.definitions.wandb_runs import StoredRun, Streamed, wandb_run_key
from shared.storage.maintenance.retention import purge_wandb_runs
from tests.integration.scene import Scene

NOW = datetime(2026, 12, 1, tzinfo=UTC)
STREAMED = Streamed(5, 4, {"a": 1}, RunPhase.FINISHED, preempting=False, told_at=NOW)


def begin(scene: Scene, run: str, now: datetime = NOW) -> bool:
    """Remember a run of `acme`, which is the first entity."""
    with write_transaction(scene.process.engine) as connection:
        return store.insert_run(
            connection,
            key=wandb_run_key("acme", "p", run),
            entity_id=1,
            project="p",
            run=run,
            token="t",
            about={"config": {"text": "\0"}},
            told_at=now,
            now=now,
        )


def found(scene: Scene, run: str) -> StoredRun | None:
    """A run, if it is remembered."""
    with read_transaction(scene.process.engine) as connection:
        return store.find_run(connection, wandb_run_key("acme", "p", run))


def test_a_run_is_written_down(scene: Scene) -> None:
    assert begin(scene, "r1")
    assert not begin(scene, "r1")
    run = found(scene, "r1")
    assert run is not None
    assert (run.about, run.summary, run.state, run.starts) == ({"config": {"text": "\0"}}, {}, RunPhase.RUNNING, 1)
    later = NOW + timedelta(hours=1)
    with write_transaction(scene.process.engine) as connection:
        store.write_streamed(connection, run, STREAMED, later)
        store.write_streamed(connection, run, replace(STREAMED, history_lines=2, last_step=None, summary=None), later)
        # A request that took so long that the client repeated it, and went on, changes nothing any more.
        late = Streamed(2, 1, {"a": 0}, None, preempting=False, told_at=NOW - timedelta(hours=1))
        store.write_streamed(connection, run, late, NOW - timedelta(hours=1))
        store.write_progress(connection, run, 2)
    ended = found(scene, "r1")
    assert ended is not None
    assert (ended.history_lines, ended.last_step, ended.summary) == (5, 4, {"a": 1})
    assert (ended.state, ended.streamed, ended.told_at, ended.seen_at) == (RunPhase.FINISHED, True, NOW, later)
    with write_transaction(scene.process.engine) as connection:
        store.start_again(connection, run.key, 2, later)
        # A request of the process before, which took longer, ends nothing.
        store.write_streamed(connection, ended, STREAMED, later)
        store.write_progress(connection, ended, 9)
        store.mark_streamed(connection, ended)
    again = found(scene, "r1")
    assert again is not None
    with write_transaction(scene.process.engine) as connection:
        store.write_progress(connection, again, 3)
        store.start_again(connection, run.key, 3, later, goes_on=True)
    resumed = found(scene, "r1")
    assert resumed is not None
    assert (resumed.starts, resumed.history_lines) == (3, 3)
    assert (again.state, again.starts, again.streamed, again.history_lines) == (RunPhase.RUNNING, 2, False, 0)


def test_an_entity_has_so_many_runs(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_RUNS", 3)
    for number in range(5):
        assert begin(scene, f"r{number}", NOW + timedelta(minutes=number))
    assert [run for run in (f"r{number}" for number in range(5)) if found(scene, run)] == ["r2", "r3", "r4"]


def test_a_run_that_is_in_use_is_not_waited_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    if scene.process.engine.dialect.name == "sqlite":
        pytest.skip("has one writer")
    monkeypatch.setattr(store, "MAX_RUNS", 2)
    for number in range(2):
        begin(scene, f"r{number}", NOW - timedelta(days=31 - number))
    with write_transaction(scene.process.engine) as connection:
        store.find_run(connection, wandb_run_key("acme", "p", "r0"), lock=True)
        assert begin(scene, "r2")
        assert sum(batch.rows for batch in purge_wandb_runs(scene.process.engine, before=NOW - timedelta(days=30))) == 0
    assert [run for run in ("r0", "r1", "r2") if found(scene, run)] == ["r0", "r2"]


def test_runs_of_which_nothing_came_are_forgotten(scene: Scene) -> None:
    begin(scene, "old", NOW - timedelta(days=31))
    begin(scene, "new")
    assert sum(batch.rows for batch in purge_wandb_runs(scene.process.engine, before=NOW - timedelta(days=30))) == 1
    assert found(scene, "old") is None
    assert found(scene, "new") is not None
