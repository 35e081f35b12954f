"""MLflow's workspaces, which newer versions have: each is an entity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Metric

from hookline_mlflow import stores

Wait = Callable[..., None]


def test_each_workspace_has_its_entity(
    configured: Any, tmp_path: Path, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = pytest.importorskip("mlflow.utils.workspace_context")
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    monkeypatch.setenv("HOOKLINE_MLFLOW_ENTITIES", "team-b=beta")
    url = f"sqlite:///{tmp_path}/workspaces.db"
    runs, models = stores.tracking_store(url, "/nowhere"), stores.registry_store(url)
    for workspace in ("team-a", "team-b", "default"):
        with context.WorkspaceContext(workspace):
            run = runs.create_run(runs.create_experiment("digits"), "alice", 1, [], "first").info.run_id
            runs.log_metric(run, Metric("acc", 0.5, 1, 0))
            models.create_registered_model("llm")
            models.create_model_version("llm", "s3://bucket", run)
            models.set_registered_model_alias("llm", "champion", 1)
    wait_until(lambda: len(configured.events) >= 15, "fifteen events")
    entities = [event["data"]["entity"] for event in configured.events]
    assert entities == ["team-a"] * 5 + ["beta"] * 5 + ["acme"] * 5
    last = configured.events[-1]["data"]["artifact"]
    assert last["metadata"]["acc"] == 0.5 and last["aliases"] == ["champion"]
