"""The model registry in a real store: versions, aliases, tags, each with what is around it at that time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag

Build = Callable[[], Any]
Wait = Callable[..., None]


class Seen:
    """What came of one collection, as short texts."""

    def __init__(self, api: Any, name: str, wait_until: Wait) -> None:
        self._api, self._name, self._wait_until = api, name, wait_until

    def events(self) -> list[dict[str, Any]]:
        return [
            event for event in list(self._api.events) if event["data"].get("collection", {}).get("name") == self._name
        ]

    def after(self, count: int) -> list[str]:
        """The last `count` events, once there are that many more than before."""
        self._wait_until(lambda: len(self.events()) >= count, f"{count} events")
        return [_short(event) for event in self.events()]


def _short(event: dict[str, Any]) -> str:
    data = event["data"]
    said = [event["type"], data.get("artifact", {}).get("version"), data.get("alias") or data.get("tag")]
    return " ".join(one for one in said if one)


@pytest.fixture
def seen(configured: Any, name: str, wait_until: Wait) -> Seen:
    return Seen(configured, name, wait_until)


def test_aliases_and_tags(seen: Seen, registry: Build, name: str) -> None:
    store = registry()
    store.create_registered_model(name, tags=[RegisteredModelTag("task", "nlp"), RegisteredModelTag("mlflow.x", "1")])
    store.create_model_version(name, "s3://bucket/1", tags=[ModelVersionTag("gate", "open")])
    store.set_registered_model_alias(name, "champion", 1)
    store.set_registered_model_alias(name, "champion", 1)
    store.create_model_version(name, "s3://bucket/2")
    store.set_registered_model_alias(name, "champion", 2)
    store.set_model_version_tag(name, "2", ModelVersionTag("gate", "open"))
    store.set_model_version_tag(name, "2", ModelVersionTag("gate", "open"))
    store.set_model_version_tag(name, "2", ModelVersionTag("gate", "shut"))
    store.set_model_version_tag(name, "2", ModelVersionTag("mlflow.own", "1"))
    store.delete_model_version_tag(name, "2", "gate")
    store.set_registered_model_tag(name, RegisteredModelTag("task", "vision"))
    store.delete_registered_model_tag(name, "task")
    store.delete_registered_model_alias(name, "champion")
    expected = [
        "ADD_COLLECTION_TAG task:nlp",
        "CREATE_ARTIFACT v1",
        "LINK_ARTIFACT v1",
        "ADD_ARTIFACT_TAG v1 gate:open",
        "ADD_ARTIFACT_ALIAS v1 champion",
        "CREATE_ARTIFACT v2",
        "LINK_ARTIFACT v2",
        "REMOVE_ARTIFACT_ALIAS v1 champion",
        "ADD_ARTIFACT_ALIAS v2 champion",
        "ADD_ARTIFACT_TAG v2 gate:open",
        "REMOVE_ARTIFACT_TAG v2 gate:open",
        "ADD_ARTIFACT_TAG v2 gate:shut",
        "REMOVE_ARTIFACT_TAG v2 gate:shut",
        "REMOVE_COLLECTION_TAG task:nlp",
        "ADD_COLLECTION_TAG task:vision",
        "REMOVE_COLLECTION_TAG task:vision",
        "REMOVE_ARTIFACT_ALIAS v2 champion",
    ]
    assert seen.after(len(expected)) == expected
    events = seen.events()
    assert {event["data"]["project"] for event in events} == {"wandb-registry-model"}
    assert {event["data"]["collection"]["type"] for event in events} == {"model"}
    promoted = events[4]["data"]["artifact"]
    assert promoted == {
        "id": f"models:/{name}/1",
        "version": "v1",
        "aliases": ["champion"],
        "tags": ["gate:open"],
        "metadata": {"gate": "open", "source": "s3://bucket/1"},
    }
    demoted = events[7]["data"]["artifact"]
    assert (demoted["version"], demoted["aliases"]) == ("v1", []), "as it is after the event"


def test_deleted_versions_and_models_are_unlinked(seen: Seen, registry: Build, name: str) -> None:
    store = registry()
    store.create_registered_model(name, tags=[RegisteredModelTag("task", "nlp")])
    for _ in range(2):
        store.create_model_version(name, "s3://bucket")
    store.set_registered_model_alias(name, "champion", 1)
    store.delete_model_version(name, "2")
    store.delete_registered_model(name)
    said = seen.after(8)
    assert said[5:] == ["ADD_ARTIFACT_ALIAS v1 champion", "UNLINK_ARTIFACT v2", "UNLINK_ARTIFACT v1"]
    assert seen.events()[-1]["data"]["artifact"]["id"] == f"models:/{name}/1"


def test_a_version_has_its_run_s_last_metrics(seen: Seen, tracking: Build, registry: Build, name: str) -> None:
    runs, models = tracking(), registry()
    run = runs.create_run(runs.create_experiment(name), "alice", 1, [], "first").info.run_id
    for step, value in enumerate((0.5, 0.97)):
        runs.log_metric(run, Metric("val_accuracy", value, 1, step))
    models.create_registered_model(name)
    models.create_model_version(name, "s3://bucket", run)
    assert seen.after(2) == ["CREATE_ARTIFACT v1", "LINK_ARTIFACT v1"]
    metadata = seen.events()[0]["data"]["artifact"]["metadata"]
    assert metadata == {"val_accuracy": 0.97, "run_id": run, "source": "s3://bucket"}


def test_prompts_are_collections_of_their_own_type(seen: Seen, registry: Build, name: str) -> None:
    store = registry()
    store.create_registered_model(name, tags=[RegisteredModelTag("mlflow.prompt.is_prompt", "true")])
    store.create_model_version(
        name,
        "prompt-template",
        tags=[ModelVersionTag("mlflow.prompt.is_prompt", "true"), ModelVersionTag("mlflow.prompt.text", "Say {{x}}")],
    )
    assert seen.after(2) == ["CREATE_ARTIFACT v1", "LINK_ARTIFACT v1"]
    data = seen.events()[0]["data"]
    assert data["collection"]["type"] == "prompt" and "Say" not in str(data)


def test_stages_are_aliases_where_they_are_wanted(
    seen: Seen, registry: Build, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = registry()
    store.create_registered_model(name)
    store.create_model_version(name, "s3://bucket")
    store.transition_model_version_stage(name, "1", "Staging", False)
    monkeypatch.setenv("HOOKLINE_MLFLOW_STAGES", "on")
    monkeypatch.setenv("HOOKLINE_MLFLOW_REGISTRY", "wandb-registry-ours")
    store = registry()
    store.transition_model_version_stage(name, "1", "Production", False)
    store.transition_model_version_stage(name, "1", "Archived", False)
    assert seen.after(5)[2:] == [
        "REMOVE_ARTIFACT_ALIAS v1 Staging",
        "ADD_ARTIFACT_ALIAS v1 Production",
        "REMOVE_ARTIFACT_ALIAS v1 Production",
    ]
    assert seen.events()[-1]["data"]["project"] == "wandb-registry-ours"
