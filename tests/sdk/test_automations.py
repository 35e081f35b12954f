"""The life of an automation in the client's hands: made, read, changed, moved, switched off, deleted; and refusals."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from tests.sdk.conftest import Hookline, event
from tests.sdk.scopes import COLLECTION, PROJECT, looked_up, prepare

# The client reads a field of its own that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
AUTOMATIONS = "/v1/entities/acme/automations"


@pytest.fixture
def api(hookline: Hookline) -> Any:
    """The client of an administrator, on a team with the webhooks `deploy` and `other`."""
    prepare(hookline)
    for name in ("deploy", "other"):
        hookline.webhook(name)
    return hookline.client()


def new(api: Any, name: str = "n", *, scope: str = "project", action: Any = None, **more: Any) -> Any:
    """An automation on every alias `prod`, made by the client."""
    from wandb.automations import DoNothing, OnAddArtifactAlias

    on = OnAddArtifactAlias(scope=looked_up(api, scope), filter={"alias": "prod"})
    return api.create_automation(on >> (action or DoNothing()), name=name, **more)


def sending(api: Any, name: str = "deploy", payload: Any = None) -> Any:
    """The action that calls this webhook."""
    from wandb.automations import SendWebhook

    webhook = next(w for w in api.webhook_integrations(entity="acme") if w.name == name)
    return SendWebhook.from_integration(webhook, payload=payload)


def refused(call: Any, *args: Any, **more: Any) -> str:
    """The message of the client's error."""
    from wandb.errors import CommError

    with pytest.raises(CommError) as caught:
        call(*args, **more)
    return str(caught.value)


def test_a_webhook_action_fires_with_its_payload(hookline: Hookline, api: Any) -> None:
    made = new(
        api, action=sending(api, payload={"z": "${alias}", "a": [1, 2.5, None], "m": "${artifact_version_string}"})
    )
    assert made.action.request_payload == {
        "z": "${alias}",
        "a": [1, 2.5, None],
        "m": "${artifact_version_string}",
    }
    hookline.publish(event("ADD_ARTIFACT_ALIAS", project=PROJECT, alias="prod"))
    (request,) = hookline.receiver.requests
    assert request.path == "/deploy"
    assert request.body == b'{"z":"prod","a":[1,2.5,null],"m":"acme/training/llm-models:prod"}'


def test_a_payload_keeps_the_order_of_its_keys(hookline: Hookline, api: Any) -> None:
    given = {"b": 1, "a": {"z": 1, "c": 2}}
    made = new(api, action=sending(api, payload=given))
    assert json.dumps(made.action.request_payload) == json.dumps(given)
    stored = hookline.rest("GET", f"{AUTOMATIONS}/{made.id}")["action"]["payload"]
    assert json.dumps(stored) == json.dumps(given)


def test_no_payload_stays_none(hookline: Hookline, api: Any) -> None:
    assert new(api, action=sending(api)).action.request_payload is None
    hookline.publish(event("ADD_ARTIFACT_ALIAS", project=PROJECT, alias="prod"))
    assert hookline.receiver.requests[0].json["alias"] == "prod"


def test_doing_nothing_is_recorded(hookline: Hookline, api: Any) -> None:
    made = new(api)
    assert made.action.action_type == "NO_OP"
    hookline.publish(event("ADD_ARTIFACT_ALIAS", project=PROJECT, alias="prod"))
    assert hookline.receiver.requests == []
    (delivery,) = hookline.rest("GET", "/v1/entities/acme/deliveries")["items"]
    assert delivery["automation"]["id"] == made.id


def test_slack(hookline: Hookline, api: Any) -> None:
    from tests.sdk.untyped import SendNotification

    hookline.secret("SLACK_URL", f"{hookline.receiver.url}/services/T1/B2/x")
    body = {"name": "alerts", "url_secret": "SLACK_URL", "team": "corp-ws", "channel": "#alerts"}
    slack_id = hookline.rest("POST", "/v1/entities/acme/slack", body, status=201)["id"]
    (integration,) = api.slack_integrations(entity="acme")
    assert (integration.id, integration.team_name, integration.channel_name) == (slack_id, "corp-ws", "#alerts")
    assert {w.name for w in api.webhook_integrations(entity="acme")} == {"deploy", "other"}
    assert len(list(api.integrations(entity="acme"))) == 3
    action = SendNotification.from_integration(integration, title="Promoted", text="${alias} is out", level="warn")
    made = new(api, action=action)
    assert (made.action.title, made.action.message, made.action.severity) == ("Promoted", "${alias} is out", "WARN")
    assert made.action.integration.id == slack_id
    assert api.automation("n", entity="acme") == made
    hookline.publish(event("ADD_ARTIFACT_ALIAS", project=PROJECT, alias="prod"))
    (request,) = hookline.receiver.requests
    assert request.path == "/services/T1/B2/x"
    assert "prod is out" in request.body.decode()
    made.action.message = "now ${alias}"
    made.action.severity = "ERROR"
    changed = api.update_automation(made)
    assert (changed.action.title, changed.action.message, changed.action.severity) == (
        "Promoted",
        "now ${alias}",
        "ERROR",
    )


def test_an_integration_of_the_other_kind_is_refused(hookline: Hookline, api: Any) -> None:
    from wandb.automations import SendWebhook

    from tests.sdk.untyped import SendNotification

    (webhook_id, *_) = [w.id for w in api.webhook_integrations(entity="acme")]
    told = refused(new, api, action=SendNotification(integration_id=webhook_id))
    assert told == "triggeredActionConfig.notificationActionInput.integrationID: must be the id of a Slack integration"
    for unknown in ("deploy", "slk_1", "SW50ZWdyYXRpb246MQ=="):
        told = refused(new, api, action=SendWebhook(integration_id=unknown))
        assert told == "triggeredActionConfig.genericWebhookActionInput.integrationID: must be the id of a webhook"
    told = refused(new, api, action=SendWebhook(integration_id="wh_999"))
    assert told == "action.webhook: must be the name or id of a webhook of this entity"
    assert list(api.automations(entity="acme")) == []


def test_update(hookline: Hookline, api: Any) -> None:
    made = new(api, description="first", action=sending(api, payload={"v": 1}))
    made.name, made.description, made.enabled = "renamed", "second", False
    made.action.request_payload = {"v": 2}
    changed = api.update_automation(made)
    assert changed.id == made.id
    assert (changed.name, changed.description, changed.enabled) == ("renamed", "second", False)
    assert changed.action.request_payload == {"v": 2}
    assert api.automation("renamed", entity="acme") == changed
    hookline.publish(event("ADD_ARTIFACT_ALIAS", project=PROJECT, alias="prod"))
    assert hookline.receiver.requests == []
    api.update_automation(changed, enabled=True, action=sending(api, "other", {"v": 3}))
    hookline.publish(event("ADD_ARTIFACT_ALIAS", project=PROJECT, alias="prod"))
    assert [(r.path, r.json) for r in hookline.receiver.requests] == [("/other", {"v": 3})]


def test_update_keeps_what_the_form_does_not_carry(hookline: Hookline, api: Any) -> None:
    body = {
        "name": "full",
        "description": "kept",
        "event": "RUN_STATE",
        "states": ["failed", "crashed"],
        "scope": {"project": PROJECT},
        "filter": {"display_name": {"$contains": "fox"}, "config.depth": {"$gt": 3}},
        "action": {"webhook": "deploy", "payload": {"b": 1, "a": "${run_name}"}},
        "cooldown": {"per": "automation", "period": "1h"},
        "rate_limit": "5/min",
    }
    stored = hookline.rest("POST", AUTOMATIONS, body, status=201)
    seen = api.automation("full", entity="acme")
    seen.description = None  # the client leaves a null out
    api.update_automation(seen)
    again = hookline.rest("GET", f"{AUTOMATIONS}/{stored['id']}")
    assert again == stored
    api.update_automation(seen, name="other name")
    changed = hookline.rest("GET", f"{AUTOMATIONS}/{stored['id']}")
    kept = ("description", "event", "states", "scope", "filter", "action", "cooldown", "rate_limit")
    assert {key: changed[key] for key in kept} == {key: stored[key] for key in kept}


def test_change_of_event_and_scope(hookline: Hookline, api: Any) -> None:
    from tests.sdk.untyped import OnRunMetric, RunEvent

    made = new(api, action=sending(api, payload={"run": "${run_name}"}))
    on = OnRunMetric(scope=looked_up(api, "team"), filter=RunEvent.metric("loss") < 0.1)
    changed = api.update_automation(made, event=on, scope=on.scope)
    assert changed.id == made.id
    assert (changed.event.event_type, changed.scope.name) == ("RUN_METRIC", "acme")
    stored = hookline.rest("GET", f"{AUTOMATIONS}/{made.id}")
    assert (stored["scope"], stored["cooldown"]) == ({}, {"per": "run", "period": "1d"})
    for step in (1, 2):  # a run fires once a day
        hookline.publish(event("RUN_METRIC", project="elsewhere", step=step, metrics={"loss": 0.05}))
    assert [request.json for request in hookline.receiver.requests] == [{"run": "brave-fox-1"}]


def test_back_to_an_artifact_event(hookline: Hookline, api: Any) -> None:
    from wandb.automations import OnLinkArtifact, OnRunState

    from tests.sdk.untyped import RunEvent

    on = OnRunState(scope=looked_up(api, "project"), filter=RunEvent.state == "failed")
    made = api.create_automation(on >> sending(api), name="n")
    changed = api.update_automation(made, event=OnLinkArtifact(scope=looked_up(api, "project")))
    assert changed.event.event_type == "LINK_MODEL"
    assert hookline.rest("GET", f"{AUTOMATIONS}/{made.id}")["cooldown"] is None


def test_a_move_to_another_entity(hookline: Hookline, api: Any) -> None:
    made = new(api, action=sending(api, payload={"by": "${event_author}"}))
    moved = api.update_automation(made, scope=looked_up(api, "registry"))
    assert list(api.automations(entity="acme")) == []
    assert list(api.automations(entity="corp")) == [moved]
    assert moved.scope.name == "wandb-registry-model"
    hookline.publish(event("ADD_ARTIFACT_ALIAS", entity="corp", alias="prod"))
    assert [request.json for request in hookline.receiver.requests] == [{"by": "alice"}]


def test_a_move_that_is_refused_changes_nothing(hookline: Hookline, api: Any) -> None:
    made = new(api, "taken")
    new(api, "taken", scope="registry")
    told = refused(api.update_automation, made, scope=looked_up(api, "registry"))
    assert told == "'corp' has an automation 'taken' already"
    member = hookline.client("member")
    told = refused(member.update_automation, made, scope=looked_up(api, "registry"))
    assert told == "scopeID: there is no entity 'corp'"
    assert api.automation("taken", entity="acme") == made


def test_delete(hookline: Hookline, api: Any) -> None:
    first, second = new(api, "first"), new(api, "second")
    assert api.delete_automation(first) is True
    assert api.delete_automation(second.id) is True
    assert list(api.automations(entity="acme")) == []
    assert refused(api.delete_automation, first) == f"there is no automation '{first.id}'"
    with pytest.raises(ValueError, match="No automations found"):
        api.automation("first", entity="acme")


def test_unknown_ids(hookline: Hookline, api: Any) -> None:
    made = new(api)
    gone = made.model_copy(update={"id": "aut_999"})
    assert refused(api.update_automation, gone) == "Automation 'n' not found. Unable to edit it."
    for unknown in ("aut_999", "VHJpZ2dlcjox", "n", ""):
        assert refused(api.delete_automation, unknown) == f"there is no automation {unknown!r}"
    for scope_id, told in (
        ("UHJvamVjdDox", "scopeID: must be the id of PROJECT from an answer"),
        ("UHJvamVjdDp2MTpnaG9zdDphY21l", "scopeID: there is no project 'ghost' in 'acme'"),
        ("UHJvamVjdDp2MTp4Om90aGVy", "scopeID: there is no entity 'other'"),
    ):
        astray = made.model_copy(update={"scope": made.scope.model_copy(update={"id": scope_id})})
        assert refused(api.update_automation, astray) == told


def test_a_taken_name(hookline: Hookline, api: Any) -> None:
    made = new(api)
    told = "Automation 'n' exists. Unable to create another with the same name."
    assert refused(new, api) == told
    for scope in ("team", "project"):
        api.update_automation(made, scope=looked_up(api, scope))
        assert new(api, fetch_existing=True).id == made.id
    second = new(api, "m")
    assert "'acme' has an automation 'n' already" in refused(api.update_automation, second, name="n")


def test_refused_definitions_name_the_field(hookline: Hookline, api: Any) -> None:
    from wandb.automations import DoNothing, OnAddArtifactAlias

    from tests.sdk.untyped import OnRunMetric, RunEvent

    project = looked_up(api, "project")
    loss = RunEvent.metric("loss")
    cases: list[tuple[Any, str, str]] = [
        (OnAddArtifactAlias(scope=project, filter={"nope": 1}), "n", "filter.nope: ADD_ARTIFACT_ALIAS events have no"),
        (
            OnAddArtifactAlias(scope=project, filter={"alias": {"$weird": 1}}),
            "n",
            "filter.alias.$weird: unknown operator",
        ),
        (
            OnAddArtifactAlias(scope=project, filter={"alias": {"$regex": "("}}),
            "n",
            "filter.alias.$regex: must be a valid",
        ),
        (OnAddArtifactAlias(scope=project, filter={"alias": {"$size": 1}}), "n", "unknown operator"),
        (
            OnRunMetric(scope=project, filter=loss.avg(2000) > 1),
            "n",
            "conditions.0.window: expected a whole number from 1 to 1000",
        ),
        (
            OnRunMetric(scope=project, filter=loss.zscore(1) > 3),
            "n",
            "conditions.0.window: expected a whole number from 2",
        ),
        (OnAddArtifactAlias(scope=project), " ", "name: is required: 1 to 255 characters"),
    ]
    for on, name, told in cases:
        message = refused(api.create_automation, on >> DoNothing(), name=name)
        assert told in message, message
    told = refused(new, api, action=sending(api, payload={"key": "${DEPLOY_TOKEN}"}))
    assert "action.payload.key" in told
    assert "DEPLOY_TOKEN" in told
    assert list(api.automations(entity="acme")) == []


def test_more_than_a_page(hookline: Hookline, api: Any) -> None:
    expected = []
    for number in range(63):
        scope = ({}, {"project": PROJECT}, {"project": PROJECT, "collection": COLLECTION})[number % 3]
        body = {"name": f"a{number}", "event": "LINK_ARTIFACT", "scope": scope, "action": {"no_op": True}}
        expected.append(hookline.rest("POST", AUTOMATIONS, body, status=201)["id"])
    for per_page in (1, 7, 50, 63, 1000):
        assert [a.id for a in api.automations(entity="acme", per_page=per_page)] == expected
    assert {a.id for a in api.automations(per_page=10)} == set(expected)
    listing = api.automations(entity="acme", per_page=20)
    head = [next(listing).id for _ in range(20)]
    rest = [a.id for a in api.automations(entity="acme", per_page=20, start=listing.cursor)]
    assert head + rest == expected
    walk = api.automations(per_page=20)
    assert {next(walk).id for _ in range(20)} == set(expected[:20])
    assert walk.cursor is not None
    assert {a.id for a in api.automations(per_page=20, start=walk.cursor)} == set(expected[20:])
    assert [a.name for a in api.automations(name="a61")] == ["a61"]
    assert [a.name for a in api.automations(entity="acme", name="a61")] == ["a61"]
    assert list(api.automations(entity="acme", name="a99")) == []


def test_what_the_form_cannot_express_is_left_out(hookline: Hookline, api: Any) -> None:
    common = {"action": {"webhook": "deploy"}, "scope": {"project": PROJECT}}
    metric = {"metric": "loss", "op": "$lt", "threshold": 1}
    inexpressible: list[dict[str, Any]] = [
        {"event": "RUN_METRIC", "conditions": [metric, metric]},
        {"event": "RUN_METRIC", "conditions": [{**metric, "op": "$ne"}]},
        {"event": "RUN_STATE", "states": ["killed"]},
        {"event": "RUN_STATE", "states": ["failed"]},
        {"event": "DEAD_LETTER", "scope": {}},
        {"event": "RUN_STATE", "states": ["failed", "crashed"]},
    ]
    for number, members in enumerate(inexpressible):
        hookline.rest("POST", AUTOMATIONS, {"name": f"n{number}", **common, **members}, status=201)
    for per_page in (1, 50):
        assert [a.name for a in api.automations(entity="acme", per_page=per_page)] == ["n5"]
        assert [a.name for a in api.automations(per_page=per_page)] == ["n5"]
    assert refused(new, api, "n0") == "Automation 'n0' exists. Unable to create another with the same name."


def test_definitions_from_rest_come_back_as_they_went(hookline: Hookline, api: Any) -> None:
    """Filters that the client did not write itself: it reads them, and sends back what means the same."""
    alias = {"alias": {"$eq": "a"}}
    filters: list[dict[str, Any]] = [
        {},
        {"metadata.model_type": {"$eq": "llm"}},
        {"metadata.score": {"$gt": 1.5}, "aliases": {"$in": ["x"]}, "metadata.kind": {"$in": ["x", 1, True]}},
        {"$nor": [alias, {"tag": {"$exists": False}}]},
        {"$not": {"$or": [alias, {"$and": [alias, {"metadata.k": {"$ne": None}}]}]}},
        {"alias": {"$not": {"$regex": "^a"}}},
        {"aliases": {"$eq": ["a", "b"]}, "metadata.nested": {"$eq": {"a": {"b": 1}}}},
        {"version": {"$nin": ["v0"]}, "author": {"$contains": "al"}},
    ]
    for number, expression in enumerate(filters):
        body = {"name": f"n{number}", "event": "ADD_ARTIFACT_ALIAS", "filter": expression, "action": {"no_op": True}}
        hookline.rest("POST", AUTOMATIONS, body, status=201)
    before = hookline.rest("GET", AUTOMATIONS)["items"]
    for automation in list(api.automations(entity="acme")):
        api.update_automation(automation)
    after = hookline.rest("GET", AUTOMATIONS)["items"]
    assert [(each["name"], each["filter"]) for each in after] == [(each["name"], each["filter"]) for each in before]


def test_an_edit_by_the_client_turns_no_filter_around(hookline: Hookline, api: Any) -> None:
    nightly, batch = {"display_name": {"$contains": "nightly"}}, {"display_name": {"$contains": "batch"}}
    filters: dict[str, dict[str, Any]] = {
        "none of one": {"$nor": [nightly]},
        "not one of one": {"$not": {"$or": [nightly]}},
        "none of none": {"$nor": [nightly, {"$nor": [{"$not": batch}]}]},
        "one": {"$not": {"$nor": [nightly]}},
    }
    for name, expression in filters.items():
        body = {"name": name, "event": "RUN_STATE", "states": ["finished"], "filter": expression}
        action = {"webhook": "deploy", "payload": {"name": name}}
        hookline.rest("POST", AUTOMATIONS, {**body, "action": action, "scope": {"project": PROJECT}}, status=201)

    def fired_by(run: str) -> set[str]:
        hookline.receiver.requests.clear()
        hookline.publish(event("RUN_STATE", project=PROJECT, run={"id": run, "name": run}, state="finished"))
        return {request.json["name"] for request in hookline.receiver.requests}

    def fired() -> list[set[str]]:
        return [fired_by(f"{run}-{next(numbers)}") for run in ("nightly", "batch", "other")]

    numbers = itertools.count()
    assert (before := fired()) == [
        {"one"},
        {"none of one", "not one of one"},
        {"none of one", "not one of one", "none of none"},
    ]
    assert fired_by("once") == {"none of one", "not one of one", "none of none"}
    stored = {one["name"]: one["filter"] for one in hookline.rest("GET", AUTOMATIONS)["items"]}
    for automation in list(api.automations(entity="acme")):
        changed = api.update_automation(automation, description="x")
        api.update_automation(changed, description="y")
    assert {one["name"]: one["filter"] for one in hookline.rest("GET", AUTOMATIONS)["items"]} == stored
    assert fired() == before
    assert fired_by("once") == set(), "a run fires once a day, whatever was edited"


def test_automations_of_whole_entities_are_switched_on(hookline: Hookline, api: Any) -> None:
    """The client asks the organization's flags first, and takes one that is not told for one that is off."""
    flags = api._service_api.org_feature_flags("corp", "automation_entity_scope")
    assert flags == {"automation_entity_scope": True}


CARD = {
    "type": "message",
    "attachments": [
        {
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": [{"type": "TextBlock", "text": "${event_author} promoted ${artifact_version_string}"}],
            },
        }
    ],
}


def test_a_card_with_a_schema_arrives_as_it_was_given(hookline: Hookline, api: Any) -> None:
    made = new(api, action=sending(api, payload=CARD))
    assert made.action.request_payload == CARD
    hookline.publish(event("ADD_ARTIFACT_ALIAS", project=PROJECT, alias="prod"))
    (content,) = [one["content"] for one in hookline.receiver.requests[0].json["attachments"]]
    assert content["$schema"] == "http://adaptivecards.io/schemas/adaptive-card.json"
    assert content["body"][0]["text"].endswith("promoted acme/training/llm-models:prod")


def test_values_are_text_in_what_the_client_makes_and_stay_what_they_were_in_what_it_edits(
    hookline: Hookline, api: Any
) -> None:
    payload = {"type": "${artifact_metadata.type}", "n": "${artifact_metadata.n}"}
    made = new(api, action=sending(api, payload=payload))
    path = f"{AUTOMATIONS}/{made.id}"
    assert hookline.rest("GET", path)["action"]["payload_types"] == "text"
    made.description = "edited"
    api.update_automation(made)
    assert hookline.rest("GET", path)["action"]["payload_types"] == "text"
    action = {"webhook": "deploy", "payload": payload, "payload_types": "json", "content_type": "application/x+json"}
    hookline.rest("PATCH", path, {"action": action})
    again = api.automation(entity="acme", name="n")
    again.description = "edited again"
    again = api.update_automation(again, scope=looked_up(api, "registry"))
    moved = hookline.rest("GET", f"/v1/entities/corp/automations/{again.id}")
    assert moved["description"] == "edited again"
    assert (moved["action"]["payload_types"], moved["action"]["content_type"]) == ("json", "application/x+json")
    assert again.action.request_payload == payload
