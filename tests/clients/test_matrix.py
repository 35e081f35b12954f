"""Each client version, over what docs/wandb.md says of it: look-ups, scopes, events, and the life of an automation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dispatcher.graphql.execution import answer_to
from tests.clients.client import Client, ClientError
from tests.sdk.conftest import Hookline, event
from tests.sdk.scopes import COLLECTION, PROJECT, REGISTRY, prepare

DOCS = Path(__file__).parents[2] / "docs" / "wandb.md"
AUTOMATIONS = "/v1/entities/acme/automations"

LOOK_UPS: dict[str, list[tuple[str, Any]]] = {
    "`api.viewer`, `api.default_entity`": [("[api.viewer.username, api.default_entity]", ["alice", "acme"])],
    "`api.project(s)`, `api.create_project`": [
        ("named([api.project('training', entity='acme')])", [PROJECT]),
        ("api.create_project('made', entity='acme')", None),
        ("sorted(named(api.projects('acme')))", ["made", PROJECT]),
    ],
    "`api.team`": [("api.team('acme').name", "acme")],
    "`api.artifact_type(s)`, `api.artifact_collection(s)`": [
        ("named(api.artifact_types('acme/training'))", ["model"]),
        ("api.artifact_type('model', 'acme/training').name", "model"),
        ("named(api.artifact_type('model', 'acme/training').collections())", [COLLECTION]),
        ("named(api.artifact_collections('acme/training', 'model'))", [COLLECTION]),
        ("api.artifact_collection('model', 'acme/training/llm-models').is_sequence()", True),
        ("api.artifact_collection('model', 'acme/training/llm-models').description", None),
        ("list(api.artifact_collection('model', 'acme/training/llm-models').tags)", []),
        ("api.artifact_collection_exists('acme/training/llm-models', 'model')", True),
        ("api.artifact_collection_exists('acme/training/nope', 'model')", False),
    ],
    "`collection.aliases`, which is empty": [
        ("list(api.artifact_collection('model', 'acme/training/llm-models').aliases)", [])
    ],
    "`api.registry`, `api.registries`, their `collections`": [
        ("api.registry('model', organization='corp').full_name", REGISTRY),
        ("api.registry('model').full_name", REGISTRY),
        ("named(api.registries('corp'))", lambda found: found in ([REGISTRY], ["model"])),
        ("named(api.registries('corp').collections())", [COLLECTION]),
        ("named(api.registry('model', organization='corp').collections(filter={'name': 'llm-models'}))", [COLLECTION]),
        ("named(api.registry('model', organization='corp').collections(filter={'name': 'nope'}))", []),
    ],
    "`project.collections`": [("named(api.project('training', entity='acme').collections())", [COLLECTION])],
    "`api.organization`": [("api.organization('corp').name", "corp"), ("api.organization().name", "corp")],
    "`api.webhook_integrations`, `slack_integrations`, `integrations`": [
        ("named(api.webhook_integrations(entity='acme'))", ["deploy"]),
        ("[s.channel_name for s in api.slack_integrations(entity='acme')]", ["#alerts"]),
        ("len(list(api.integrations(entity='acme')))", 2),
    ],
}
SCOPES = {
    "scope: a project": ("api.project('training', entity='acme')", "acme", PROJECT),
    "scope: a collection": ("api.artifact_collection('model', 'acme/training/llm-models')", "acme", PROJECT),
    "scope: a registry's collection": (
        "next(iter(api.registry('model', organization='corp').collections()))",
        "corp",
        REGISTRY,
    ),
    "scope: a registry": ("api.registry('model', organization='corp')", "corp", REGISTRY),
    "scope: a team": ("api.team('acme')", "acme", PROJECT),
    "scope: an organization": ("api.organization('corp')", "corp", REGISTRY),
}
ON_PROJECT = "scope=api.project('training', entity='acme')"
EVENTS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "`OnLinkArtifact`, `OnAddArtifactAlias`, `OnCreateArtifact`": [
        (f"OnLinkArtifact({ON_PROJECT})", {"type_": "LINK_ARTIFACT"}),
        (
            f"OnAddArtifactAlias({ON_PROJECT}, filter={{'alias': {{'$regex': '^prod'}}}})",
            {"type_": "ADD_ARTIFACT_ALIAS", "alias": "prod"},
        ),
        (
            "OnCreateArtifact(scope=api.artifact_collection('model', 'acme/training/llm-models'))",
            {"type_": "CREATE_ARTIFACT"},
        ),
    ],
    "`OnRunMetric`: thresholds, changes": [
        (
            f"OnRunMetric({ON_PROJECT}, filter=RunEvent.metric('loss').avg(1) < 1)",
            {"type_": "RUN_METRIC", "step": 1, "metrics": {"loss": 0.5}},
        ),
        (
            f"OnRunMetric({ON_PROJECT}, filter=RunEvent.metric('acc').increases_by(diff=1))",
            {"type_": "RUN_METRIC", "step": 2, "metrics": {"acc": 2}},
        ),
    ],
    "`OnRunState`": [
        (f"OnRunState({ON_PROJECT}, filter=RunEvent.state == 'failed')", {"type_": "RUN_STATE", "state": "crashed"})
    ],
    "`OnRunMetric`: z-scores": [(f"OnRunMetric({ON_PROJECT}, filter=RunEvent.metric('z').zscore(3) > 2)", {})],
    "`OnUnlinkArtifact`, `On…ArtifactTag`, `On…CollectionTag`": [
        (f"OnUnlinkArtifact({ON_PROJECT})", {"type_": "UNLINK_ARTIFACT"}),
        (f"OnAddArtifactTag({ON_PROJECT}, filter=ArtifactEvent.tag == 'a')", {"type_": "ADD_ARTIFACT_TAG", "tag": "a"}),
        (f"OnRemoveArtifactTag({ON_PROJECT})", {"type_": "REMOVE_ARTIFACT_TAG", "tag": "a"}),
        (f"OnAddCollectionTag({ON_PROJECT})", {"type_": "ADD_COLLECTION_TAG", "tag": "a"}),
        (f"OnRemoveCollectionTag({ON_PROJECT})", {"type_": "REMOVE_COLLECTION_TAG", "tag": "a"}),
    ],
}
LIFE = "`create_automation`, `update_automation`, `delete_automation`, `automation`, `automations`"


def documented() -> dict[str, tuple[str, str | None]]:
    """What docs/wandb.md says: for each call the first version that has it, and one since that has not."""
    rows = re.findall(r"^\| (.+?) \| (\d+\.\d+\.\d+)(?:, not (\d+\.\d+(?:\.\d+)?))? \|", DOCS.read_text(), re.MULTILINE)
    return {call: (since, but or None) for call, since, but in rows}


def has(client: Client, call: str) -> bool:
    """Whether this version has a call, by the documentation."""
    since, but = documented()[call]
    return client.since(since) and not (but is not None and f"{client.version}.".startswith(f"{but}."))


@pytest.fixture
def ready(client: Client, hookline: Hookline) -> Client:
    """A client before scopes, a webhook and a Slack integration."""
    prepare(hookline)
    hookline.webhook("deploy")
    hookline.webhook("deploy", entity="corp")
    hookline.secret("SLACK_URL", f"{hookline.receiver.url}/services/T1/B2/x")
    slack = {"name": "alerts", "url_secret": "SLACK_URL", "team": "corp-ws", "channel": "#alerts"}
    hookline.rest("POST", "/v1/entities/acme/slack", slack, status=201)
    return client


def test_every_documented_call_is_tried() -> None:
    assert {*LOOK_UPS, *SCOPES, *EVENTS, LIFE} == set(documented())


def test_look_ups(ready: Client) -> None:
    for call, expressions in LOOK_UPS.items():
        for expression, expected in expressions:
            if has(ready, call):
                found = ready(expression)
                assert expected(found) if callable(expected) else found == expected, (call, found)
            else:
                with pytest.raises(ClientError, match=r"AttributeError|Field is frozen"):
                    ready(expression)


def test_scopes(hookline: Hookline, ready: Client) -> None:
    created = "api.create_automation(OnLinkArtifact(scope=%s) >> action, name=name).id".replace("action", "%s")
    for call, (scope, owner, project) in SCOPES.items():
        action = f"SendWebhook.from_integration(webhook('deploy', '{owner}'), payload={{'scope': name}})"
        if not has(ready, call):
            with pytest.raises(ClientError, match=r"ValidationError|AttributeError"):
                ready(created % (scope, action), name=call)
            continue
        made = ready(created % (scope, action), name=call)
        hookline.receiver.requests.clear()
        hookline.publish(event("LINK_ARTIFACT", entity=owner, project=project))
        assert {"scope": call} in [request.json for request in hookline.receiver.requests]
        assert ready("returned(api.automation(name, entity=entity))", name=call, entity=owner)["id"] == made
        assert ready("api.delete_automation(made)", made=made) is True
        assert hookline.rest("GET", f"/v1/entities/{owner}/automations")["items"] == []


def test_events(hookline: Hookline, ready: Client) -> None:
    for call, cases in EVENTS.items():
        for on, happens in cases:
            created = f"api.create_automation({on} >> SendWebhook.from_integration(webhook('deploy')), name='n').id"
            if not has(ready, call):
                with pytest.raises(ClientError, match=r"NameError|AttributeError|not supported on this"):
                    ready(created)
                continue
            made = ready(created)
            listed = ready("[returned(a) for a in api.automations(entity='acme')]")
            assert [one["id"] for one in listed] == [made]
            if happens:
                given = {"project": PROJECT, **happens}
                if given["type_"] == "RUN_METRIC" and "acc" in given["metrics"]:
                    hookline.publish(event(**{**given, "step": 1, "metrics": {"acc": 0}}))
                hookline.receiver.requests.clear()
                hookline.publish(event(**given))
                assert [request.path for request in hookline.receiver.requests] == ["/deploy"], on
            assert ready("api.delete_automation(made)", made=made) is True


def test_the_life_of_an_automation(hookline: Hookline, ready: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert has(ready, LIFE)
    answered: list[int] = []

    def counted(*args: Any) -> Any:
        answer = answer_to(*args)
        answered.append(answer.status)
        return answer

    monkeypatch.setattr("dispatcher.graphql.endpoint.answer_to", counted)
    on = f"OnAddArtifactAlias({ON_PROJECT}, filter={{'alias': {{'$eq': 'prod'}}}})"
    sending = "SendWebhook.from_integration(webhook('deploy'), payload={'a': '${alias}'})"
    made = ready(f"returned(api.create_automation({on} >> {sending}, name='n'))")
    with pytest.raises(ClientError, match="Automation 'n' exists"):
        ready(f"api.create_automation({on} >> DoNothing(), name='n')")
    assert answered.count(409) == 1
    again = f"returned(api.create_automation({on} >> DoNothing(), name='n', fetch_existing=True))"
    assert ready(again) == made
    changed = ready("returned(api.update_automation(api.automation('n', entity='acme'), description='x'))")
    assert changed == {**made, "description": "x"}
    renamed = ready("returned(api.update_automation(api.automation('n', entity='acme'), name='m', enabled=False))")
    assert renamed == {**changed, "name": "m", "enabled": False}
    hookline.publish(event("ADD_ARTIFACT_ALIAS", project=PROJECT, alias="prod"))
    assert hookline.receiver.requests == []
    ready("api.update_automation(api.automation('m', entity='acme'), enabled=True).id")
    hookline.publish(event("ADD_ARTIFACT_ALIAS", project=PROJECT, alias="prod"))
    assert [request.json for request in hookline.receiver.requests] == [{"a": "prod"}]

    answered.clear()
    wrong = f"OnAddArtifactAlias({ON_PROJECT}, filter={{'nope': {{'$eq': 'prod'}}}})"
    with pytest.raises(ClientError) as refused:
        ready(f"api.create_automation({wrong} >> DoNothing(), name='wrong')")
    if ready.since("0.20.0"):  # the first version shows nothing but the status
        assert "filter.nope: ADD_ARTIFACT_ALIAS events have no field 'nope'" in str(refused.value)
    assert answered.count(400) == 1, "what is refused is not sent again"
    with pytest.raises(ClientError):
        ready(
            "api.create_automation(OnLinkArtifact(scope=api.project('training', entity='acme')) >> "
            "SendWebhook.from_integration(webhook('deploy'), payload={'x': 'y' * 1100000}), name='large').id"
        )
    assert answered.count(400) == 1

    assert ready("api.delete_automation(made)", made=made["id"]) is True
    with pytest.raises(ClientError, match="No automations found"):
        ready("api.automation('m', entity='acme')")
    with pytest.raises(ClientError):
        ready("api.delete_automation(made)", made=made["id"])
    assert answered.count(404) == 1
