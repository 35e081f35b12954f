"""Where the server can't be touched: a client publishes what it told the server, and is hurt by nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hookline import background
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow_servers import MlflowServer

from hookline_mlflow import stores
from hookline_mlflow.settings import Settings
from hookline_mlflow.training import ModelsClient, RunsClient

Wait = Callable[..., None]


@pytest.fixture(autouse=True)
def _publisher_ends() -> Iterator[None]:
    yield
    background.forget_shared()


@pytest.fixture
def runs(configured: Any, sqlite_url: str) -> Any:
    """A store that a client publishes of; that it is no server's makes no difference to it."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(sqlite_url, "/nowhere")
    RunsClient(store, Settings.of_environment(), background.shared())
    return store


@pytest.fixture
def models(configured: Any, sqlite_url: str) -> Any:
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(sqlite_url)
    ModelsClient(store, Settings.of_environment(), background.shared())
    return store


def test_a_run_from_its_client(configured: Any, runs: Any, name: str) -> None:
    run = runs.create_run(runs.create_experiment(name), "alice", 1_700_000_000_000, [], "first").info.run_id
    runs.log_param(run, Param("lr", "0.1"))
    runs.log_batch(run, [Metric("acc", 0.5, 1, 1), Metric("system/cpu", 1, 1, 1)], [Param("optimizer", "sgd")], [])
    runs.log_batch(run_id=run, metrics=[], params=[], tags=[])
    runs.log_metric(run, Metric("acc", float("nan"), 2, 2))
    runs.log_batch_async(run, [Metric("acc", float("inf"), 3, 3)], [], []).wait()
    runs.update_run_info(run_id=run, run_status=RunStatus.RUNNING, end_time=None, run_name="renamed")
    runs.update_run_info(run, RunStatus.FINISHED, 1_700_000_060_000, None)
    assert background.shared().flush(60)
    said = [(one["type"], one["data"].get("state") or one["data"]["metrics"]) for one in configured.events]
    assert said == [
        ("RUN_STATE", "running"),
        ("RUN_METRIC", {"acc": 0.5}),
        ("RUN_METRIC", {"acc": "NaN"}),
        ("RUN_METRIC", {"acc": "Infinity"}),
        ("RUN_STATE", "finished"),
    ]
    last = configured.events[-1]
    assert last["data"]["project"] == name and last["data"]["author"] == "alice"
    seen = last["data"]["run"]
    assert seen["name"] == "renamed" and seen["config"] == {"lr": 0.1, "optimizer": "sgd"}
    assert seen["summary"] == {"acc": "Infinity"}


def test_a_run_that_another_process_began(configured: Any, runs: Any, sqlite_url: str, name: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    other = SqlAlchemyStore(sqlite_url, "/nowhere")
    run = other.create_run(other.create_experiment(name), "alice", 1, [], "first").info.run_id
    other.log_param(run, Param("lr", "0.1"))
    runs.update_run_info(run, RunStatus.RUNNING, None, None)
    runs.log_metric(run, Metric("acc", 0.5, 1, 0))
    runs.update_run_info(run, RunStatus.FAILED, 2, None)
    assert background.shared().flush(60)
    assert [one["data"]["run"]["config"] for one in configured.events] == [{"lr": 0.1}] * 3
    assert [one["data"].get("state") for one in configured.events] == ["running", None, "failed"]


def test_models_from_their_client(configured: Any, models: Any, name: str) -> None:
    models.create_registered_model(name)
    models.set_registered_model_tag(name, RegisteredModelTag("task", "nlp"))
    models.create_model_version(name, "s3://bucket/1", tags=[ModelVersionTag("gate", "open")])
    models.set_registered_model_alias(name, "champion", 1)
    models.set_model_version_tag(name, "1", ModelVersionTag("gate", "shut"))
    models.set_model_version_tag(name, "1", ModelVersionTag("mlflow.own", "1"))
    assert background.shared().flush(60)
    assert [one["type"] for one in configured.events] == [
        "ADD_COLLECTION_TAG",
        "CREATE_ARTIFACT",
        "LINK_ARTIFACT",
        "ADD_ARTIFACT_ALIAS",
        "ADD_ARTIFACT_TAG",
    ]
    promoted = configured.events[3]["data"]
    assert promoted["alias"] == "champion" and promoted["artifact"] == {
        "id": f"models:/{name}/1",
        "version": "v1",
        "aliases": ["champion"],
        "tags": ["gate:open"],
        "metadata": {"gate": "open", "source": "s3://bucket/1"},
    }


def test_what_the_server_refuses_is_no_event_and_what_fails_here_is_no_error(
    configured: Any, runs: Any, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mlflow.exceptions import MlflowException

    run = runs.create_run(runs.create_experiment(name), "alice", 1, [], "first").info.run_id
    with pytest.raises(MlflowException):
        runs.log_batch(run, [Metric("acc", 0.5, 1, 0)], [Param("lr", "1"), Param("lr", "2")], [])
    monkeypatch.delenv("HOOKLINE_ENTITY")
    with caplog.at_level(logging.WARNING, "hookline"):
        RunsClient(runs, Settings(source="/test", entity=None), background.shared())
        runs.update_run_info(run, RunStatus.FINISHED, 2, None)
    assert "an event of MLflow's was not published: data.entity" in caplog.text
    assert runs.get_run(run).info.status == "FINISHED"


def test_a_stock_client_over_http(
    configured: Any, sqlite_url: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MlflowServer(sqlite_url, tmp_path, workers=1, HOOKLINE_URL="") as server:
        MlflowClient(server.url).create_experiment(f"{name}-unseen")
        monkeypatch.setenv("HOOKLINE_MLFLOW_CLIENT", "on")
        tracking = stores.rest_tracking_store(server.url)
        experiment = tracking.create_experiment(name)
        run = tracking.create_run(experiment, "alice", 1, [], "first").info.run_id
        configured.stop()  # the training goes on, and the events wait on disk
        tracking.log_metric(run, Metric("acc", 0.5, 1, 0))
        tracking.update_run_info(run, RunStatus.FINISHED, 2, None)
        registry = stores.rest_registry_store(server.url, tracking_uri=server.url)
        registry.create_registered_model(name)
        registry.create_model_version(name, "s3://bucket/1")
        configured.start()
        assert background.shared().flush(120)
    assert [one["type"] for one in configured.events] == [
        "RUN_STATE",
        "RUN_METRIC",
        "RUN_STATE",
        "CREATE_ARTIFACT",
        "LINK_ARTIFACT",
    ]


@pytest.mark.parametrize("scheme", ["https", "databricks"])
def test_unless_it_is_asked_for_stores_are_mlflow_s_own(
    configured: Any, scheme: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    build = stores.databricks_tracking_store if scheme == "databricks" else stores.rest_tracking_store
    uri = "databricks" if scheme == "databricks" else "https://mlflow.invalid"
    assert "log_metric" not in vars(build(uri))
    monkeypatch.setenv("HOOKLINE_MLFLOW_CLIENT", "on")
    assert "log_metric" in vars(build(uri))
    monkeypatch.setenv("HOOKLINE_MLFLOW_CLIENT", "maybe")
    with caplog.at_level(logging.WARNING, "hookline"):
        assert "log_metric" not in vars(build(uri))
    assert "HOOKLINE_MLFLOW_CLIENT: must be on or off" in caplog.text
