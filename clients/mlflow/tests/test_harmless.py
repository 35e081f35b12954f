"""Whatever is wrong with Hookline, its settings or its tables, MLflow serves as it does without the plugin."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hookline.relay import Rows
from mlflow.entities import Metric, RunStatus

from hookline_mlflow import relaying, stores
from hookline_mlflow.recorder import TABLE

Build = Callable[[], Any]
Wait = Callable[..., None]


def log_run(store: Any, name: str) -> str:
    """What a training does; the run's id."""
    run = str(store.create_run(store.create_experiment(name), "alice", 1, [], "first").info.run_id)
    store.log_metric(run, Metric("acc", 0.5, 1, 0))
    store.update_run_info(run, RunStatus.FINISHED, 2, None)
    assert store.get_run(run).data.metrics == {"acc": 0.5}
    return run


def tables(store: Any) -> set[str]:
    return {name for name in sa.inspect(store.engine).get_table_names() if "hookline" in name}


def test_without_a_url_nothing_is_there(tracking: Build, registry: Build, name: str) -> None:
    store = tracking()
    log_run(store, name)
    registry().create_registered_model(name)
    assert tables(store) == set() and not relaying.running()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("HOOKLINE_API_KEY", "", "HOOKLINE_API_KEY: is not set"),
        ("HOOKLINE_URL", "nonsense", "HOOKLINE_URL: must be a URL"),
        ("HOOKLINE_ENTITY", "", "HOOKLINE_ENTITY: is not set"),
        ("HOOKLINE_MLFLOW_RELAY", "perhaps", "HOOKLINE_MLFLOW_RELAY: must be on or off, not 'perhaps'"),
        ("HOOKLINE_MLFLOW_ENTITIES", "acme", "HOOKLINE_MLFLOW_ENTITIES: must be pairs such as team-a=acme"),
        ("HOOKLINE_MLFLOW_MAX_WAITING", "-1", "HOOKLINE_MLFLOW_MAX_WAITING: must be a whole number from 1"),
    ],
)
def test_a_wrong_setting_is_one_line_in_the_log(
    configured: Any,
    sqlite_url: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variable: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.setenv(variable, value)
    with caplog.at_level(logging.WARNING, "hookline"):
        log_run(stores.tracking_store(sqlite_url, "/nowhere"), f"{name}{variable}")
    (line,) = [record.getMessage() for record in caplog.records if record.name == "hookline"]
    assert line.startswith(f"MLflow is served without events for Hookline: {said}")


def test_hookline_is_away_and_nothing_is_lost(
    configured: Any, tracking: Build, name: str, wait_until: Wait, waiting: Callable[[], int]
) -> None:
    configured.stop()
    run = log_run(tracking(), name)
    assert waiting() == 3
    configured.start()
    wait_until(lambda: len(configured.events) >= 3, "three events")
    assert [event["type"] for event in configured.events] == ["RUN_STATE", "RUN_METRIC", "RUN_STATE"]
    assert {event["data"]["run"]["id"] for event in configured.events} == {run}
    wait_until(lambda: waiting() == 0, "an empty outbox")


def test_a_table_that_is_gone_costs_events_and_no_request(
    configured: Any, tracking: Build, registry: Build, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, models = tracking(), registry()
    relaying.end_all()
    with store.engine.begin() as connection:
        connection.execute(sa.text(f"DROP TABLE {TABLE}"))
    with caplog.at_level(logging.WARNING, "hookline"):
        log_run(store, name)
        models.create_registered_model(name)
        models.create_model_version(name, "s3://bucket")
    assert models.get_model_version(name, "1").source == "s3://bucket"
    lines = [record.getMessage() for record in caplog.records if "was not recorded" in record.getMessage()]
    assert 1 <= len(lines) <= 2, "once for each store, and not for each request"


def test_tables_that_cannot_be_made(
    configured: Any, tracking: Build, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hookline import outbox

    def refuse(*_arguments: object) -> None:
        raise sa.exc.ProgrammingError("CREATE TABLE", {}, Exception("permission denied"))

    monkeypatch.setattr(outbox, "create", refuse)
    with caplog.at_level(logging.WARNING, "hookline"):
        store = tracking()
    log_run(store, name)
    assert "MLflow is served without events for Hookline" in caplog.text and tables(store) == set()


def test_above_the_limit_metrics_are_left_out_and_states_are_not(
    configured: Any, tracking: Build, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOOKLINE_MLFLOW_RELAY", "off")
    monkeypatch.setenv("HOOKLINE_MLFLOW_MAX_WAITING", "4")
    log_run(tracking(), name)
    log_run(tracking(), f"{name}-2")  # a new store looks at once
    store = tracking()
    with caplog.at_level(logging.WARNING, "hookline"):
        log_run(store, f"{name}-3")
    assert "metrics are left out" in caplog.text
    assert Rows(store.engine, name=TABLE).waiting() == 3 + 3 + 2
    assert configured.events == []


def test_an_end_of_a_process_sends_what_waits_and_gives_the_lease_up(
    configured: Any, tracking: Build, name: str
) -> None:
    store = tracking()
    log_run(store, name)
    relaying.end_all()
    assert len(configured.events) == 3
    with store.engine.connect() as connection:
        assert connection.execute(sa.text(f"SELECT holder FROM {TABLE}_lease")).scalar() == ""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_relays_by_itself(configured: Any, sqlite_url: str, name: str, wait_until: Wait) -> None:
    store = stores.tracking_store(sqlite_url, "/nowhere")
    relaying.end_all()
    configured.events.clear()
    child = os.fork()
    if child == 0:
        try:
            store.engine.dispose(close=False)
            log_run(store, f"{name}-child")
            relaying.end_all()
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len([one for one in configured.events if one["data"]["project"] == f"{name}-child"]) == 3


def test_a_database_in_memory_has_no_relay(
    configured: Any, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("hookline").addHandler(caplog.handler)  # making tables, MLflow 2 replaces those of the root
    with caplog.at_level(logging.WARNING, "hookline"):
        log_run(stores.tracking_store("sqlite://", str(tmp_path)), name)
    logging.getLogger("hookline").removeHandler(caplog.handler)
    assert "a database in memory can't be relayed" in caplog.text


def test_mlflow_takes_its_database_for_complete_with_the_plugin_s_tables_in_it(
    configured: Any, tracking: Build
) -> None:
    from mlflow.store.db import utils

    store = tracking()
    assert tables(store) == {TABLE, f"{TABLE}_lease"}
    assert utils._all_tables_exist(store.engine)
