"""A stock client against a stock server with several workers: events arrive, whoever is killed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hookline.relay import Rows
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow_servers import MlflowServer

from hookline_mlflow.recorder import TABLE

pytestmark = pytest.mark.timeout(900)
Wait = Callable[..., None]


def metrics_of(api: Any, run: str) -> list[tuple[int, float]]:
    """The samples that arrived, each event once, in order."""
    events = {event["id"]: event for event in list(api.events) if event["type"] == "RUN_METRIC"}
    return [
        (event["data"]["step"], value)
        for event in events.values()
        if event["data"]["run"]["id"] == run
        for value in event["data"]["metrics"].values()
    ]


def free_lease(url: str) -> None:
    """A killed relay's lease ends after 30 seconds; tests have less patience."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {TABLE}_lease SET holder = ''"))
    engine.dispose()


def test_kill_9_between_commit_and_relay_loses_and_doubles_nothing(
    configured: Any, url: str, tmp_path: Path, name: str, wait_until: Wait
) -> None:
    server = MlflowServer(url, tmp_path)
    with server:
        client = MlflowClient(server.url)
        run = client.create_run(client.create_experiment(name)).info.run_id

        is_over = threading.Event()

        def train() -> None:
            with suppress(Exception):  # the server is killed under it
                for step in count():
                    client.log_batch(run, [Metric("loss", step / 2, step + 1, step)])
                    if is_over.is_set():
                        break

        training = threading.Thread(target=train)
        training.start()
        wait_until(lambda: len(metrics_of(configured, run)) >= 5, "some metrics", seconds=120)
        configured.stop()  # from here on the rows wait
        engine = sa.create_engine(url)
        rows = Rows(engine, name=TABLE)
        wait_until(lambda: rows.waiting() >= 5, "some rows that wait", seconds=120)
        server.kill()
        is_over.set()
        configured.start()
        free_lease(url)
        server.start()
        training.join(120)
        client.set_terminated(run)
        wait_until(lambda: rows.waiting() == 0, "an empty outbox", seconds=120)
        stored = sorted((one.step, one.value) for one in client.get_metric_history(run, "loss"))
        engine.dispose()
    assert stored and metrics_of(configured, run) == stored
    assert [event["data"]["state"] for event in configured.events if event["type"] == "RUN_STATE"][-1] == "finished"


def test_authors_of_basic_auth(
    configured: Any, sqlite_url: str, tmp_path: Path, name: str, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("flask_wtf")
    password = "a-long-password-1"
    config = tmp_path / "auth.ini"
    config.write_text(
        "[mlflow]\ndefault_permission = READ\nadmin_username = root-user\n"
        f"admin_password = {password}\ndatabase_uri = sqlite:///{tmp_path / 'auth.db'}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    variables = {"MLFLOW_AUTH_CONFIG_PATH": str(config), "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-this-test"}
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "root-user")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    with MlflowServer(sqlite_url, tmp_path, "--app-name", "basic-auth", workers=1, **variables) as server:
        client = MlflowClient(server.url)
        run = client.create_run(client.create_experiment(name)).info.run_id
        client.log_metric(run, "acc", 0.5)
        client.create_registered_model(name)
        client.create_model_version(name, "s3://bucket/model", run)
        client.set_registered_model_alias(name, "champion", "1")

        def authors() -> list[tuple[str, str]]:
            return [(event["type"], event["data"].get("author", "")) for event in configured.events]

        wait_until(lambda: ("ADD_ARTIFACT_ALIAS", "root-user") in authors(), "the alias", seconds=120)
    assert {author for _, author in authors()} == {"root-user"}
