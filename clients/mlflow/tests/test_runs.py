"""Runs in a real store: their states and metrics arrive, in order, with what the run is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from mlflow.entities import Metric, Param, RunStatus, RunTag

from hookline_mlflow.recorder import TABLE
from hookline_mlflow.stores import writing_session

Build = Callable[[], Any]
Wait = Callable[..., None]


def metric(key: str, value: float, step: int = 0, timestamp: int = 1_700_000_000_000) -> Metric:
    return Metric(key, value, timestamp, step)


def begin(store: Any, name: str, *, tags: dict[str, str] | None = None) -> str:
    experiment = store.create_experiment(name)
    made = store.create_run(
        experiment, "alice", 1_700_000_000_000, [RunTag(key, value) for key, value in (tags or {}).items()], "first"
    )
    return str(made.info.run_id)


def of_project(api: Any, name: str) -> list[dict[str, Any]]:
    return [event for event in list(api.events) if event["data"]["project"] == name]


def test_a_run_arrives_in_order_with_what_is_known_of_it(
    configured: Any, tracking: Build, name: str, wait_until: Wait
) -> None:
    store = tracking()
    run = begin(store, name, tags={"team": "vision", "mlflow.parentRunId": "p1", "mlflow.source.name": "train.py"})
    store.log_batch(
        run,
        [metric("acc", 0.5, 1), metric("loss", float("nan"), 1), metric("acc", 0.75, 2), metric("up", float("inf"), 2)],
        [
            Param("lr", "0.1"),
            Param("epochs", "3"),
            Param("frozen", "True"),
            Param("version", "1.50"),
            Param("token", "x"),
        ],
        [RunTag("owner", "bob")],
    )
    store.log_metric(run, metric("acc", 0.9, 3))
    store.update_run_info(run, RunStatus.FINISHED, 1_700_000_060_000, "renamed")
    wait_until(lambda: len(of_project(configured, name)) == 5, "five events")
    events = of_project(configured, name)
    assert [event["type"] for event in events] == ["RUN_STATE", *["RUN_METRIC"] * 3, "RUN_STATE"]
    assert [event["data"].get("state") for event in events if event["type"] == "RUN_STATE"] == ["running", "finished"]
    logged = [(event["data"]["step"], event["data"]["metrics"]) for event in events[1:4]]
    assert logged == [(1, {"acc": 0.5, "loss": "NaN"}), (2, {"acc": 0.75, "up": "Infinity"}), (3, {"acc": 0.9})]
    last = events[-1]
    assert last["source"] == "/test" and last["time"] == "2023-11-14T22:14:20.000Z"
    assert last["data"]["entity"] == "acme" and last["data"]["author"] == "alice"
    seen = last["data"]["run"]
    assert (seen["id"], seen["name"], seen["user"], seen["parent"]) == (run, "renamed", "alice", "p1")
    assert seen["source_name"] == "train.py" and seen["tags"] == {"team": "vision", "owner": "bob"}
    assert seen["config"] == {"lr": 0.1, "epochs": 3, "frozen": True, "version": "1.50"}, "a secret is left out"
    assert seen["summary"] == {"acc": 0.9, "loss": "NaN", "up": "Infinity"}


@pytest.mark.parametrize(("status", "state"), [(RunStatus.FAILED, "failed"), (RunStatus.KILLED, "killed")])
def test_other_ends(configured: Any, tracking: Build, name: str, wait_until: Wait, status: int, state: str) -> None:
    store = tracking()
    run = begin(store, name)
    store.update_run_info(run, status, 1_700_000_060_000, None)
    store.update_run_info(run, status, 1_700_000_070_000, "only its name")
    store.update_run_info(run, RunStatus.RUNNING, None, None)
    wait_until(lambda: len(of_project(configured, name)) == 3, "three events")
    assert [event["data"]["state"] for event in of_project(configured, name)] == ["running", state, "running"]


def test_values_without_steps_are_an_event_each(configured: Any, tracking: Build, name: str, wait_until: Wait) -> None:
    store = tracking()
    run = begin(store, name)
    for number in range(3):
        store.log_metric(run, metric("acc", number, timestamp=1_700_000_000_000 + number))
    store.log_batch(run, [metric("acc", number, timestamp=1_700_000_000_010 + number) for number in (3, 4)], [], [])
    store.log_metric(run, metric("before", 1.0, step=-2))
    wait_until(lambda: len(of_project(configured, name)) == 7, "seven events")
    metrics = [event["data"] for event in of_project(configured, name)[1:]]
    assert [one["metrics"].get("acc") for one in metrics] == [0.0, 1.0, 2.0, 3.0, 4.0, None]
    assert {one["step"] for one in metrics} == {0}


def test_a_sample_that_is_logged_twice_is_one_event(
    configured: Any, tracking: Build, name: str, wait_until: Wait
) -> None:
    store = tracking()
    run = begin(store, name)
    store.log_metric(run, metric("acc", 0.5))
    store.log_metric(run, metric("acc", 0.5))  # MLflow rolls back, and finds that it has it
    store.log_batch(run, [metric("acc", 0.5), metric("loss", 0.1)], [], [])
    store.update_run_info(run, RunStatus.FINISHED, 1, None)
    wait_until(lambda: len(of_project(configured, name)) == 4, "four events")
    metrics = [event["data"]["metrics"] for event in of_project(configured, name)[1:3]]
    assert metrics == [{"acc": 0.5}, {"loss": 0.1}]


def test_a_refused_call_is_no_event(configured: Any, tracking: Build, name: str, wait_until: Wait) -> None:
    from mlflow.exceptions import MlflowException

    store = tracking()
    run = begin(store, name)
    with pytest.raises(MlflowException):
        store.log_batch(run, [metric("acc", 0.5)], [Param("lr", "1"), Param("lr", "2")], [])
    with writing_session(store) as session:
        from mlflow.store.tracking.dbmodels.models import SqlMetric

        session.add(SqlMetric(run_uuid=run, key="x", value=1, timestamp=1, step=0, is_nan=False))
        session.flush()
        session.rollback()
    store.update_run_info(run, RunStatus.FINISHED, 1, None)
    wait_until(lambda: len(of_project(configured, name)) == 2, "two events")
    assert [event["type"] for event in of_project(configured, name)] == ["RUN_STATE", "RUN_STATE"]


def test_metrics_by_name(
    configured: Any, tracking: Build, name: str, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tracking()
    run = begin(store, name)
    store.log_batch(run, [metric("system/cpu", 1), metric("acc", 1)], [], [])
    monkeypatch.setenv("HOOKLINE_MLFLOW_METRICS", "val_*,-val_debug")
    store = tracking()
    store.log_batch(run, [metric("val_acc", 1), metric("val_debug", 1), metric("loss", 1)], [], [])
    wait_until(lambda: len(of_project(configured, name)) == 3, "three events")
    assert [list(event["data"]["metrics"]) for event in of_project(configured, name)[1:]] == [["acc"], ["val_acc"]]


def test_a_thousand_steps_in_one_call(configured: Any, tracking: Build, name: str, wait_until: Wait) -> None:
    store = tracking()
    run = begin(store, name)
    steps = [*range(500, 1000), *range(500)]
    store.log_batch(run, [metric("acc", step, step) for step in steps], [], [])
    wait_until(lambda: len(of_project(configured, name)) == 1001, "all of them")
    assert [event["data"]["step"] for event in of_project(configured, name)[1:]] == list(range(1000))


def test_an_event_of_a_run_that_is_gone_is_parked(
    configured: Any, tracking: Build, name: str, wait_until: Wait, waiting: Callable[[], int]
) -> None:
    from hookline.relay import Rows

    configured.stop()
    store = tracking()
    gone, stays = begin(store, name), begin(store, f"{name}-2")
    store._hard_delete_run(gone)
    assert waiting() == 2
    configured.start()
    wait_until(lambda: len(of_project(configured, f"{name}-2")) == 1, "the other run's event")
    rows = Rows(store.engine, name=TABLE)
    wait_until(lambda: rows.waiting() == 0, "an empty outbox")
    assert [reason for _, reason in rows.parked()] == [f"data.run: {gone} is not in MLflow any more"]
    assert stays
