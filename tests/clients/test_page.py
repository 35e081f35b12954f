"""The scripts of W&B's page "Create a webhook automation", as they stand there, with the client that `hookline.wandb`
completes; then events fire what they made.

`page/` has the page's blocks of code, numbered in its order. Nothing in them is changed: Hookline has teams of the
names that they use. Some go on where an earlier one stopped, and two use names that the page leaves to its reader.
Where WANDB_PAGE names a file with the text of that page, the blocks are compared with it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.client import Client, ClientError, running_client
from tests.clients.environments import OWN, VERSIONS, available
from tests.sdk.conftest import SIGNING, TOKEN, Hookline, event
from tests.sdk.test_seed_scenarios import DEPLOY_TOKEN, HOOKS, REGISTRY, arrived, only

PAGE = Path(__file__).parent / "page"
CLIENT = Path(__file__).parents[2] / "clients" / "python"
# Read and not imported: that would complete the client of this process.
TRIED = tuple(re.findall(r"\d+\.\d+\.\d+", (CLIENT / "hookline" / "wandb" / "versions.py").read_text()))
TEAM = "my-team"


def block(name: str) -> str:
    """A block of the page by its name."""
    (found,) = PAGE.glob(f"*_{name}.txt")
    return found.read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=[version for version in available() if version in TRIED])
def completed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A completed client, not logged in."""
    with running_client(request.param, tmp_path_factory.mktemp("completed")) as client:
        client("complete(folder)", folder=str(CLIENT))
        yield client


@pytest.fixture
def page(completed: Client, hookline: Hookline) -> Client:
    """A completed client of somebody who has what the page asks for: teams, secrets and webhooks."""
    prepare(hookline)
    completed.connect(hookline.url, hookline.keys["page"])
    completed("run('', begin=True)")
    return completed


def prepare(hookline: Hookline) -> None:
    """The page's teams, in the organization `corp`, their webhooks and secrets, and a key `page` for all of them."""
    for team in (TEAM, "your-team"):
        hookline.rest("PUT", f"/v1/entities/{team}", {"parent": "corp"}, status=201)
    for name, value in {"TOKEN": TOKEN, "SIGNING": SIGNING, "DEPLOY_TOKEN": DEPLOY_TOKEN}.items():
        hookline.secret(name, value, entity=TEAM)
    for name, path in HOOKS.items():
        granted = {"access_token": "TOKEN", "signing_secret": "SIGNING", "secrets": ["DEPLOY_TOKEN"]}
        hookline.webhook(name, entity=TEAM, url=f"{hookline.receiver.url}{path}", **granted)
    hookline.webhook("plain", entity="your-team")
    hookline.collection(REGISTRY, "llm-models", entity="corp")
    for project in ("model-training", "research-experiments"):
        hookline.rest("PUT", f"/v1/entities/{TEAM}/projects/{project}", {})
    roles = [{"entity": entity, "role": "admin"} for entity in ("corp", TEAM, "your-team")]
    hookline.rest("POST", "/v1/users", {"name": "reader", "roles": roles}, status=201)
    hookline.key("page", user="reader")


def test_the_versions_that_are_tried_can_be() -> None:
    assert len(TRIED) > 1
    assert set(TRIED) <= set(VERSIONS)
    assert OWN in TRIED


def test_the_blocks_are_those_of_the_page() -> None:
    names = [path.stem[3:] for path in sorted(PAGE.iterdir())]
    assert names == [
        *("checking_webhooks", "helper_functions", "webhook_capabilities", "model_deployment", "artifact_creation"),
        *("project_automation", "experiment_monitoring", "managing_automations", "using_secrets"),
        *("conditional_routing", "error_handling"),
    ]
    if (text := os.environ.get("WANDB_PAGE")) is not None:
        # What a browser shows, or a copy of it, has neither indentation nor blank lines.
        lines = "\n".join(_lines(Path(text).read_text(encoding="utf-8")))
        for name in names:
            assert "\n".join(_lines(block(name))) in lines, name


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def metrics(step: int, project: str = "model-training", run: str = "r1", **values: float) -> dict[str, Any]:
    """A run logs metrics."""
    of = {"id": run, "name": "brave-fox-1"}
    return event("RUN_METRIC", entity=TEAM, project=project, step=step, metrics=values, run=of)


def promoted(**data: Any) -> dict[str, Any]:
    """A version of `llm-models` gets the alias `production`."""
    return event("ADD_ARTIFACT_ALIAS", entity="corp", project=REGISTRY, **{"alias": "production", **data})


def test_webhooks_are_looked_at_and_a_payload_is_made_for_one(page: Client, hookline: Hookline) -> None:
    said = page("run(text)", text=block("checking_webhooks"))
    assert "✅ Found 1 webhook integration(s):" in said
    assert "Has access token" not in said
    said = page("run(text)", text=block("helper_functions"))
    assert f"Endpoint: {hookline.receiver.url}{HOOKS['github']}" in said
    assert "✓ Has access token configured" in said
    assert "Use ${DEPLOY_TOKEN} in payload to access secret 'DEPLOY_TOKEN'" in said
    page("run('from wandb.automations import *')")  # the page imports it in its next block
    page("run(text)", text=block("webhook_capabilities"))
    page("run(\"collection = api.registry('model-registry', entity='my-team').collection('llm-models')\")")
    page("run(\"api.create_automation(OnAddArtifactAlias(scope=collection) >> action, name='made')\")")
    hookline.publish(promoted())
    assert only(arrived(hookline), HOOKS["deployment-webhook"]) == {
        "event": "model_ready",
        "model": f"corp/{REGISTRY}/llm-models:production",
        "auth": TOKEN,
    }


def test_a_team_without_webhooks_is_told_where_they_are_made(page: Client, hookline: Hookline) -> None:
    (webhook,) = hookline.rest("GET", "/v1/entities/your-team/webhooks")["items"]
    hookline.rest("DELETE", f"/v1/entities/your-team/webhooks/{webhook['id']}", status=204)
    with pytest.raises(ClientError, match="NameError: name 'your' is not defined"):  # an f-string of the page's own
        page("run(text)", text=block("checking_webhooks"))
    page("run(text)", text=block("helper_functions"))
    with pytest.raises(ClientError, match=r"ValueError: No webhook integrations found for your-team\."):
        page("script['get_webhook_integration']('your-team')")


def test_model_deployment(page: Client, hookline: Hookline) -> None:
    said = page("run(text)", text=block("model_deployment"))
    assert said == "Created automation: production-deployment-trigger\n"
    hookline.publish(promoted(alias="staging"), promoted(collection={"name": "other", "type": "model"}), promoted())
    assert only(arrived(hookline), HOOKS["deployment-webhook"]) == {
        "event_type": "DEPLOY_MODEL",
        "model_info": {
            "artifact_version": f"corp/{REGISTRY}/llm-models:production",
            "collection": "llm-models",
            "entity": "corp",
            "project": REGISTRY,
            "author": "alice",
            "event_type": "ADD_ARTIFACT_ALIAS",
        },
        "deployment_config": {"environment": "production", "auto_scale": True, "min_replicas": 2},
    }


def test_artifact_creation_in_a_registry(page: Client, hookline: Hookline) -> None:
    page("run(text)", text=block("artifact_creation"))
    created = {"type_": "CREATE_ARTIFACT", "entity": "corp"}
    artifact = {"id": "QQ==", "version": "v0", "metadata": {"model_type": "llm"}}
    later = {"name": "made later", "type": "model"}
    hookline.publish(
        event(**created, project=REGISTRY, collection={"name": "data", "type": "dataset"}),
        event(**created, project="elsewhere", artifact=artifact),
        event(**created, project=REGISTRY, artifact=artifact, collection=later),
    )
    assert only(arrived(hookline), HOOKS["tracking"]) == {
        "action": "register_model",
        "artifact": {
            "id": "wandb-artifact://_id/QQ==",
            "name": "made later",
            "metadata": "llm",
            "created_by": "alice",
        },
        "source": "wandb_registry",
    }
    assert page("named(script['registry'].automations())") == ["external-tracking-sync"]
    assert page("named(script['registry'].collection('llm-models').automations())") == []


def test_project_automation_on_two_metrics(page: Client, hookline: Hookline) -> None:
    said = page("run(text)", text=block("project_automation"))
    assert said == "Created automation: high-performance-model-review\n"
    (made,) = hookline.rest("GET", f"/v1/entities/{TEAM}/automations")["items"]
    assert [(each["metric"], each["op"], each["threshold"]) for each in made["conditions"]] == [
        ("val_accuracy", "$gt", 0.95),
        ("val_loss", "$lt", 0.05),
    ]
    hookline.publish(metrics(1, val_accuracy=0.96, val_loss=0.05), metrics(2, val_accuracy=0.95, val_loss=0.04))
    assert arrived(hookline) == []
    hookline.publish(metrics(3, val_accuracy=0.96, val_loss=0.04))
    assert only(arrived(hookline), HOOKS["github"]) == {
        "event_type": "MODEL_READY_FOR_REVIEW",
        "client_payload": {
            "artifact_version": "",
            "collection": "",
            "project": "model-training",
            "metrics": {"event_type": "RUN_METRIC", "author": "alice"},
            "author": "alice",
            "entity": TEAM,
        },
    }
    # What the completed client lists, it can change; a stock one would not see it.
    page("run(\"found, = project.automations(); found.enabled = False; found.description = 'off'; found.save()\")")
    assert page("named(script['api'].automations())") == ["high-performance-model-review"]
    (changed,) = hookline.rest("GET", f"/v1/entities/{TEAM}/automations")["items"]
    assert (changed["enabled"], changed["description"]) == (False, "off")
    assert changed["conditions"] == made["conditions"]


def test_experiment_monitoring_and_its_management(page: Client, hookline: Hookline) -> None:
    page("run(text)", text=block("experiment_monitoring"))
    low: dict[str, Any] = {"project": "research-experiments", "final_loss": 0.05}
    hookline.publish(metrics(1, "research-experiments", final_loss=0.1), metrics(1, "elsewhere", final_loss=0.01))
    assert arrived(hookline) == []
    hookline.publish(metrics(2, **low))
    assert only(arrived(hookline), HOOKS["experiment-tracker"])["experiment"] == {
        "event_type": "RUN_METRIC",
        "project": "research-experiments",
        "entity": TEAM,
        "author": "alice",
        "artifact_version": "",
    }
    page("run(\"automation.name = 'my-webhook-automation'; automation.save()\")")
    page("run(\"updated_payload = {'loss': '${metric_value}'}\")")  # the page leaves it to its reader
    managing = block("managing_automations")
    changing, deleting = managing[: managing.index("# Delete")], managing[managing.index("# Delete") :]
    page("run(text)", text=changing)
    hookline.publish(metrics(1, run="r2", **low))
    assert only(arrived(hookline), HOOKS["experiment-tracker"]) == {"loss": "0.05"}
    page("run(text)", text=deleting)
    assert page("named(script['project'].automations())") == []
    hookline.publish(metrics(1, run="r3", **low))
    assert arrived(hookline) == []


def test_managing_automations_in_one_piece(page: Client) -> None:
    page("run(text)", text=block("experiment_monitoring"))
    page("run(text)", text=block("managing_automations"))
    assert page("named(script['api'].automations(entity='my-team'))") == []


def test_using_secrets(page: Client, hookline: Hookline) -> None:
    page("run(text)", text=block("model_deployment"))
    page("run(text)", text=block("using_secrets"))
    page("run('automation.action.request_payload = payload; automation.save()')")
    hookline.publish(promoted())
    assert only(arrived(hookline), HOOKS["deployment-webhook"]) == {
        "auth_token": DEPLOY_TOKEN,
        "deployment": {"model": f"corp/{REGISTRY}/llm-models:production", "environment": "production"},
    }


def test_conditional_routing(page: Client, hookline: Hookline) -> None:
    page("run(text)", text=block("project_automation"))
    page("run('automation.delete()')")
    page("run(text)", text=block("conditional_routing"))
    hookline.publish(metrics(1, val_accuracy=0.93))
    assert only(arrived(hookline), HOOKS["staging-deploy"])["metric_value"] == "0.93"
    hookline.publish(metrics(2, val_accuracy=0.97))
    only(arrived(hookline), HOOKS["production-deploy"])


def test_error_handling(page: Client, hookline: Hookline) -> None:
    page("run(text)", text=block("model_deployment"))
    said = [page("run(text)", text=block("error_handling")) for _ in range(2)]
    assert said[0] == "Successfully created: validated-webhook-automation\n"
    assert said[1].startswith("Failed to create automation: Automation 'validated-webhook-automation' exists.")
    hookline.publish(promoted())
    assert [request.path for request in arrived(hookline)] == [HOOKS["deployment-webhook"]] * 2
