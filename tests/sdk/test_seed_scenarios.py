"""W&B's page "Create a webhook automation", section by section, from the client's script to the endpoint.

Where the page's script is one that the client runs, it is run; where the client itself refuses it, REST says the same.
Every request that arrives is checked as a receiver would: body, access token, and both signatures.
"""

from __future__ import annotations

import base64
import hmac
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.integration.receiver import Received
from tests.sdk.conftest import SIGNING, TOKEN, Hookline, event

# The client reads a field of its own that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")

REGISTRY = "wandb-registry-model-registry"
HOOKS = {
    "deployment-webhook": "/deploy",
    "tracking": "/tracking-system/models",
    "github": "/api.github.com/repos/acme/app/dispatches",
    "experiment-tracker": "/experiments",
    "staging-deploy": "/staging",
    "production-deploy": "/production",
}
DEPLOY_TOKEN = 'dep"loy\\7c1d'


@pytest.fixture
def api(hookline: Hookline) -> Any:
    """A team's settings page as the document wants it: secrets, and webhooks that use them; and the client's script."""
    for name, value in {"TOKEN": TOKEN, "SIGNING": SIGNING, "DEPLOY_TOKEN": DEPLOY_TOKEN}.items():
        hookline.secret(name, value)
        hookline.secret(name, value, entity="corp")
    for name, path in HOOKS.items():
        url = f"{hookline.receiver.url}{path}"
        hookline.webhook(name, url=url, access_token="TOKEN", signing_secret="SIGNING", secrets=["DEPLOY_TOKEN"])
    hookline.collection(REGISTRY, "llm-models", entity="corp")
    for project in ("model-training", "research-experiments"):
        hookline.rest("PUT", f"/v1/entities/acme/projects/{project}", {})
    return hookline.client()


def get_webhook_integration(
    api: Any, entity: str, name_pattern: str | None = None, url_pattern: str | None = None
) -> Any:
    """The document's helper function."""
    webhooks = list(api.webhook_integrations(entity=entity))
    if not webhooks:
        raise ValueError(f"No webhook integrations found for {entity}. Please configure one in team settings.")
    for webhook in webhooks:
        if name_pattern and name_pattern in webhook.name:
            return webhook
    for webhook in webhooks:
        if url_pattern and url_pattern in webhook.url_endpoint:
            return webhook
    return webhooks[0]


def collection_of(api: Any) -> Any:
    """The document's collection, by the calls that the client has today."""
    registry = api.registry("model-registry", organization="corp")
    return next(registry.collections(filter={"name": "llm-models"}))


def arrived(hookline: Hookline) -> list[Received]:
    """The requests that arrived since this was asked last, each found to be authentic."""
    requests = list(hookline.receiver.requests)
    hookline.receiver.requests.clear()
    for request in requests:
        headers = {name.lower(): value for name, value in request.headers.items()}
        assert headers["authorization"] == f"Bearer {TOKEN}"
        assert headers["content-type"] == "application/json"
        assert Webhook(SIGNING).verify(request.body, headers) == request.json
        expected = base64.b64encode(hmac.digest(SIGNING.encode(), request.body, "sha256")).decode()
        assert headers["x-wandb-signature"] == expected
    return requests


def only(requests: list[Received], path: str) -> Any:
    """The body of the only request, which went there."""
    assert [request.path for request in requests] == [path]
    return requests[0].json


def promoted(alias: str = "production", **data: Any) -> dict[str, Any]:
    """A version of `llm-models` gets an alias."""
    return event("ADD_ARTIFACT_ALIAS", **{"entity": "corp", "project": REGISTRY, "alias": alias, **data})


def metrics(step: int, project: str = "model-training", **values: float) -> dict[str, Any]:
    """A run logs metrics."""
    return event("RUN_METRIC", project=project, step=step, metrics=values)


def test_checking_for_webhook_integrations(hookline: Hookline, api: Any) -> None:
    found = list(api.webhook_integrations(entity="acme"))
    assert {w.name: w.url_endpoint for w in found} == {n: f"{hookline.receiver.url}{p}" for n, p in HOOKS.items()}
    assert len({webhook.id for webhook in found}) == len(HOOKS)
    assert not any(hasattr(webhook, "has_access_token") for webhook in found)  # the page asks before it looks


def test_helper_functions(api: Any) -> None:
    assert get_webhook_integration(api, "acme", url_pattern="github.com").name == "github"
    assert get_webhook_integration(api, "acme", "deployment-webhook").name == "deployment-webhook"
    with pytest.raises(ValueError, match="No webhook integrations found for corp"):
        get_webhook_integration(api, "corp")


def test_understanding_webhook_configuration(hookline: Hookline, api: Any) -> None:
    from wandb.automations import OnAddArtifactAlias, SendWebhook

    webhook = get_webhook_integration(api, "acme", "deployment-webhook")
    payload = {"event": "model_ready", "model": "${artifact_version_string}", "auth": "${ACCESS_TOKEN}"}
    on = OnAddArtifactAlias(scope=collection_of(api))
    api.create_automation(on >> SendWebhook.from_integration(webhook, payload=payload), name="ready")
    hookline.publish(promoted())
    assert only(arrived(hookline), "/deploy") == {
        "event": "model_ready",
        "model": f"corp/{REGISTRY}/llm-models:production",
        "auth": TOKEN,
    }


def test_registry_automation_for_model_deployment(hookline: Hookline, api: Any) -> None:
    from wandb.automations import OnAddArtifactAlias, SendWebhook

    on = OnAddArtifactAlias(scope=collection_of(api), filter={"alias": "production"})
    payload = {
        "event_type": "DEPLOY_MODEL",
        "model_info": {
            "artifact_version": "${artifact_version_string}",
            "collection": "${artifact_collection_name}",
            "entity": "${entity_name}",
            "project": "${project_name}",
            "author": "${event_author}",
            "event_type": "${event_type}",
        },
        "deployment_config": {"environment": "production", "auto_scale": True, "min_replicas": 2},
    }
    action = SendWebhook.from_integration(get_webhook_integration(api, "acme", "deployment"), payload=payload)
    made = api.create_automation(
        on >> action,
        name="production-deployment-trigger",
        description="Trigger deployment pipeline when model is promoted to production",
    )
    assert made.name == "production-deployment-trigger"
    hookline.publish(
        promoted("staging"),
        promoted(collection={"name": "other", "type": "model"}),
        promoted(entity="acme"),
        event("LINK_ARTIFACT", entity="corp", project=REGISTRY),
    )
    assert arrived(hookline) == []
    hookline.publish(promoted())
    assert only(arrived(hookline), "/deploy") == {
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


TRACKING = {
    "action": "register_model",
    "artifact": {
        "id": "${artifact_version}",
        "name": "${artifact_collection_name}",
        "metadata": "${artifact_metadata.model_type}",
        "created_by": "${event_author}",
    },
    "source": "wandb_registry",
}


def test_monitor_artifact_creation_across_a_registry(hookline: Hookline, api: Any) -> None:
    """The client takes a collection for OnCreateArtifact and nothing else, so the whole registry is said in REST."""
    body = {
        "name": "external-tracking-sync",
        "description": "Sync new models to external tracking system",
        "scope": {"project": REGISTRY},
        "event": "CREATE_ARTIFACT",
        "filter": {"artifact_type": "model"},
        "action": {"webhook": "tracking", "payload": TRACKING},
    }
    hookline.rest("POST", "/v1/entities/corp/automations", body, key="admin", status=201)
    seen = api.automation("external-tracking-sync", entity="corp")
    assert (seen.scope.name, seen.action.request_payload) == (REGISTRY, TRACKING)
    artifact = {"id": "QXJ0aWZhY3Q6MQ==", "version": "v0", "metadata": {"model_type": "llm", "rows": 3}}
    created: dict[str, Any] = {"entity": "corp", "project": REGISTRY, "artifact": artifact}
    data_set = {"name": "sets", "type": "dataset"}
    later = {"name": "made later", "type": "model"}  # a registry's automation covers what is created in it later
    hookline.publish(event("CREATE_ARTIFACT", **created, collection=data_set))
    assert arrived(hookline) == []
    hookline.publish(event("CREATE_ARTIFACT", **created, collection=later))
    assert only(arrived(hookline), "/tracking-system/models") == {
        "action": "register_model",
        "artifact": {
            "id": "wandb-artifact://_id/QXJ0aWZhY3Q6MQ==",
            "name": "made later",
            "metadata": "llm",
            "created_by": "alice",
        },
        "source": "wandb_registry",
    }


def test_the_same_for_one_collection_by_the_client(hookline: Hookline, api: Any) -> None:
    from wandb.automations import OnCreateArtifact, SendWebhook

    webhook = next(w for w in api.webhook_integrations(entity="acme") if "tracking-system" in w.url_endpoint)
    on = OnCreateArtifact(scope=collection_of(api), filter={"artifact_type": "model"})
    api.create_automation(on >> SendWebhook.from_integration(webhook, payload=TRACKING), name="external-tracking-sync")
    hookline.publish(event("CREATE_ARTIFACT", entity="corp", project=REGISTRY))
    assert only(arrived(hookline), "/tracking-system/models")["artifact"]["metadata"] == "llm"


def test_project_automation_for_ci_cd(hookline: Hookline, api: Any) -> None:
    """Two metrics at once: the client can't write that, so REST says it; the client is not shown it."""
    payload = {
        "event_type": "MODEL_READY_FOR_REVIEW",
        "client_payload": {
            "project": "${project_name}",
            "metrics": {"event_type": "${event_type}", "author": "${event_author}"},
            "entity": "${entity_name}",
        },
    }
    body = {
        "name": "high-performance-model-review",
        "scope": {"project": "model-training"},
        "event": "RUN_METRIC",
        "conditions": [
            {"metric": "val_accuracy", "op": "$gt", "threshold": 0.95},
            {"metric": "val_loss", "op": "$lt", "threshold": 0.05},
        ],
        "action": {"webhook": "github", "payload": payload},
    }
    hookline.rest("POST", "/v1/entities/acme/automations", body, key="admin", status=201)
    assert list(api.automations(entity="acme")) == []
    hookline.publish(metrics(1, val_accuracy=0.96, val_loss=0.05), metrics(2, val_accuracy=0.95, val_loss=0.04))
    assert arrived(hookline) == []
    hookline.publish(metrics(3, val_accuracy=0.96, val_loss=0.04))
    assert only(arrived(hookline), HOOKS["github"]) == {
        "event_type": "MODEL_READY_FOR_REVIEW",
        "client_payload": {
            "project": "model-training",
            "metrics": {"event_type": "RUN_METRIC", "author": "alice"},
            "entity": "acme",
        },
    }


def experiment(api: Any) -> Any:
    """The document's automation on `final_loss`."""
    from wandb.automations import SendWebhook

    from tests.sdk.untyped import OnRunMetric, RunEvent

    webhook = next(w for w in api.webhook_integrations(entity="acme") if w.name == "experiment-tracker")
    on = OnRunMetric(
        scope=api.project("research-experiments", entity="acme"), filter=RunEvent.metric("final_loss") < 0.1
    )
    payload = {
        "experiment": {"event_type": "${event_type}", "project": "${project_name}", "author": "${event_author}"},
        "notification": {"type": "experiment_complete", "priority": "normal", "recipient": "${event_author}"},
    }
    return api.create_automation(
        on >> SendWebhook.from_integration(webhook, payload=payload),
        name="experiment-completion-tracker",
        description="Send notification when experiments achieve low loss",
    )


def test_experiment_monitoring_with_custom_endpoints(hookline: Hookline, api: Any) -> None:
    experiment(api)
    hookline.publish(metrics(1, "research-experiments", final_loss=0.1), metrics(1, "elsewhere", final_loss=0.01))
    assert arrived(hookline) == []
    hookline.publish(*(metrics(step, "research-experiments", final_loss=0.05) for step in (2, 3)))
    assert only(arrived(hookline), "/experiments") == {
        "experiment": {"event_type": "RUN_METRIC", "project": "research-experiments", "author": "alice"},
        "notification": {"type": "experiment_complete", "priority": "normal", "recipient": "alice"},
    }


def test_managing_webhook_automations_via_api(hookline: Hookline, api: Any) -> None:
    made = experiment(api)
    automations = [a for a in api.automations(entity="acme") if a.scope.id == made.scope.id]
    webhook_automations = [a for a in automations if a.action.action_type == "GENERIC_WEBHOOK"]
    assert webhook_automations == [made]
    for automation in webhook_automations:
        automation.action.request_payload = {"run": "${run_name}", "loss": "${metric_value}"}
        api.update_automation(automation)
    hookline.publish(metrics(1, "research-experiments", final_loss=0.05))
    assert only(arrived(hookline), "/experiments") == {"run": "brave-fox-1", "loss": "0.05"}
    api.delete_automation(made)
    assert list(api.automations(entity="acme")) == []
    hookline.publish(
        event("RUN_METRIC", project="research-experiments", run={"id": "r2"}, step=1, metrics={"final_loss": 0})
    )
    assert arrived(hookline) == []


def test_using_secrets_in_webhooks(hookline: Hookline, api: Any) -> None:
    from wandb.automations import OnAddArtifactAlias, SendWebhook

    payload = {
        "auth_token": "${DEPLOY_TOKEN}",
        "again": "$DEPLOY_TOKEN",
        "deployment": {"model": "${artifact_version_string}", "environment": "production"},
    }
    webhook = get_webhook_integration(api, "acme", "deployment")
    on = OnAddArtifactAlias(scope=collection_of(api), filter={"alias": "production"})
    made = api.create_automation(on >> SendWebhook.from_integration(webhook, payload=payload), name="secret")
    assert made.action.request_payload == payload
    hookline.publish(promoted())
    body = only(arrived(hookline), "/deploy")
    assert (body["auth_token"], body["again"]) == (DEPLOY_TOKEN, DEPLOY_TOKEN)


def test_conditional_webhook_routing(hookline: Hookline, api: Any) -> None:
    from wandb.automations import SendWebhook

    from tests.sdk.untyped import OnRunMetric, RunEvent

    staging = next(w for w in api.webhook_integrations(entity="acme") if "staging" in w.name)
    production = next(w for w in api.webhook_integrations(entity="acme") if "production" in w.name)
    project = api.project("model-training", entity="acme")
    for webhook, least, name in ((staging, 0.90, "staging-deployment"), (production, 0.95, "production-deployment")):
        on = OnRunMetric(scope=project, filter=RunEvent.metric("val_accuracy") > least)
        api.create_automation(on >> SendWebhook.from_integration(webhook), name=name)
    hookline.publish(metrics(1, val_accuracy=0.93))
    # Without a payload of its own an automation sends every variable that has a value, and no secret.
    body = only(arrived(hookline), "/staging")
    assert (body["metric_name"], body["metric_value"], body["event_type"]) == ("val_accuracy", "0.93", "RUN_METRIC")
    assert TOKEN not in str(body)
    assert "DEPLOY_TOKEN" not in body
    hookline.publish(metrics(2, val_accuracy=0.97))
    only(arrived(hookline), "/production")  # staging has fired for this run today


def test_error_handling_and_validation(hookline: Hookline, api: Any) -> None:
    from wandb.automations import OnAddArtifactAlias, SendWebhook
    from wandb.errors import CommError

    on = OnAddArtifactAlias(scope=collection_of(api), filter={"alias": "production"})
    action = SendWebhook.from_integration(get_webhook_integration(api, "acme"), payload={"a": "${alias}"})
    made = api.create_automation(on >> action, name="validated-webhook-automation")
    with pytest.raises(CommError, match="Automation 'validated-webhook-automation' exists"):
        api.create_automation(on >> action, name="validated-webhook-automation")
    bad = SendWebhook.from_integration(get_webhook_integration(api, "acme"), payload={"a": "${no_such_thing}"})
    with pytest.raises(CommError, match=r"action\.payload\.a: .*no_such_thing"):
        api.create_automation(on >> bad, name="bad")
    assert list(api.automations(entity="corp")) == [made]


def test_payload_variables(hookline: Hookline, api: Any) -> None:
    from wandb.automations import OnAddArtifactTag, OnLinkArtifact, SendWebhook

    names = (
        "project_name", "entity_name", "event_type", "event_author", "alias", "tag", "artifact_collection_name",
        "artifact_metadata.model_type", "artifact_metadata.missing", "artifact_version", "artifact_version_string",
    )  # fmt: skip
    action = SendWebhook.from_integration(
        get_webhook_integration(api, "acme", "deployment"), payload={name: f"${{{name}}}" for name in names}
    )
    registry = api.registry("model-registry", organization="corp")
    api.create_automation(OnLinkArtifact(scope=registry) >> action, name="link")
    api.create_automation(OnAddArtifactTag(scope=registry) >> action, name="tag")
    artifact = {"id": "QXJ0aWZhY3Q6NTE3ODg5ODg3", "version": "v3", "metadata": {"model_type": 'a "b"\n'}}
    common = {
        "project_name": REGISTRY,
        "entity_name": "corp",
        "event_author": "alice",
        "alias": "",
        "artifact_collection_name": "llm-models",
        "artifact_metadata.model_type": 'a "b"\n',
        "artifact_metadata.missing": "",
        "artifact_version": "wandb-artifact://_id/QXJ0aWZhY3Q6NTE3ODg5ODg3",
        "artifact_version_string": f"corp/{REGISTRY}/llm-models:v3",
    }
    hookline.publish(event("LINK_ARTIFACT", entity="corp", project=REGISTRY, artifact=artifact))
    assert only(arrived(hookline), "/deploy") == {**common, "event_type": "LINK_ARTIFACT", "tag": ""}
    hookline.publish(event("ADD_ARTIFACT_TAG", entity="corp", project=REGISTRY, artifact=artifact, tag="approved"))
    assert only(arrived(hookline), "/deploy") == {**common, "event_type": "ADD_ARTIFACT_TAG", "tag": "approved"}


GITHUB = {
    "event_type": "BUILD_AND_DEPLOY",
    "client_payload": {
        "event_author": "${event_author}",
        "artifact_version": "${artifact_version}",
        "artifact_version_string": "${artifact_version_string}",
        "artifact_collection_name": "${artifact_collection_name}",
        "project_name": "${project_name}",
        "entity_name": "${entity_name}",
    },
}
TEAMS = {
    "@type": "MessageCard",
    "@context": "http://schema.org/extensions",
    "summary": "New Notification",
    "sections": [
        {
            "activityTitle": "Notification from WANDB",
            "text": "This is an example message sent via Teams webhook.",
            "facts": [{"name": "Author", "value": "${event_author}"}, {"name": "Event Type", "value": "${event_type}"}],
            "markdown": True,
        }
    ],
}
SLACK = {
    "text": "New alert from WANDB!",
    "blocks": [
        {"type": "section", "text": {"type": "mrkdwn", "text": "Registry event: ${event_type}"}},
        {"type": "section", "text": {"type": "mrkdwn", "text": "New version: ${artifact_version_string}"}},
        {"type": "divider"},
        {"type": "section", "text": {"type": "mrkdwn", "text": "Author: ${event_author}"}},
    ],
}


@pytest.mark.parametrize("payload", [GITHUB, TEAMS, SLACK], ids=["GitHub", "Microsoft Teams", "Slack"])
def test_payload_examples(hookline: Hookline, api: Any, payload: dict[str, Any]) -> None:
    from wandb.automations import OnLinkArtifact, SendWebhook

    webhook = get_webhook_integration(api, "acme", "github")
    on = OnLinkArtifact(scope=collection_of(api))
    made = api.create_automation(on >> SendWebhook.from_integration(webhook, payload=payload), name="example")
    assert made.action.request_payload == payload
    artifact = {"id": "QQ==", "version": "v7"}
    hookline.publish(event("LINK_ARTIFACT", entity="corp", project=REGISTRY, artifact=artifact))
    values = {
        "event_author": "alice",
        "event_type": "LINK_ARTIFACT",
        "artifact_version": "wandb-artifact://_id/QQ==",
        "artifact_version_string": f"corp/{REGISTRY}/llm-models:v7",
        "artifact_collection_name": "llm-models",
        "project_name": REGISTRY,
        "entity_name": "corp",
    }
    assert only(arrived(hookline), HOOKS["github"]) == _filled(payload, values)


def _filled(template: Any, values: dict[str, str]) -> Any:
    if isinstance(template, dict):
        return {key: _filled(value, values) for key, value in template.items()}
    if isinstance(template, list):
        return [_filled(value, values) for value in template]
    for name, value in values.items():
        template = template.replace(f"${{{name}}}", value) if isinstance(template, str) else template
    return template


def test_troubleshoot_your_webhook(hookline: Hookline, api: Any) -> None:
    """The Test button, and the request that `webhook_test.sh` generates."""
    webhook = get_webhook_integration(api, "acme", "deployment")
    path = f"/v1/entities/acme/webhooks/{webhook.id}/test"
    tried = hookline.rest("POST", path, {"payload": {"token": "${DEPLOY_TOKEN}"}}, key="admin")
    assert tried["response"]["status"] == 200
    assert DEPLOY_TOKEN not in str(tried)
    assert only(arrived(hookline), "/deploy") == {"token": DEPLOY_TOKEN}


def test_editing_an_automation_s_alias_regex(hookline: Hookline, api: Any) -> None:
    """What the page's form asks for: an alias regex, on a registry and whatever is created in it later."""
    from wandb.automations import ArtifactEvent, OnAddArtifactAlias, SendWebhook

    registry = api.registry("model-registry", organization="corp")
    action = SendWebhook.from_integration(get_webhook_integration(api, "acme", "deployment"), payload={"a": "${alias}"})
    on = OnAddArtifactAlias(scope=registry, filter=ArtifactEvent.alias.matches_regex("^prod(uction)?$"))
    made = api.create_automation(on >> action, name="regex")
    later = {"name": "made later", "type": "model"}
    hookline.publish(promoted("prod", collection=later), promoted("product"), promoted("production"))
    # Of two collections, so that neither order is promised.
    assert sorted(request.json["a"] for request in arrived(hookline)) == ["prod", "production"]
    edited = OnAddArtifactAlias(scope=registry, filter=ArtifactEvent.alias.matches_regex("^v[0-9]+$"))
    api.update_automation(made, event=edited)
    hookline.publish(promoted("prod"), promoted("v12"))
    assert [request.json["a"] for request in arrived(hookline)] == ["v12"]
