"""Quotas of entities: on every way and at every moment, told in errors, seen by members, set by administrators."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, update

from shared.domain.quotas import DEFAULT_LIMITS, Quota
from shared.storage.database.transactions import write_transaction
from shared.storage.schema.tables import automations
from tests.integration.api.conftest import ACME, Api, Problem, automation, create_automation, create_webhook, webhook

CREATE = """
    mutation ($scope: ID!, $webhook: ID!) { createFilterTrigger(input: {
        name: "fifth", enabled: true, scopeType: PROJECT, scopeID: $scope, eventFilter: "{}",
        triggeringEventType: ADD_ARTIFACT_ALIAS, triggeredActionType: GENERIC_WEBHOOK,
        triggeredActionConfig: {genericWebhookActionInput: {integrationID: $webhook, requestPayload: "{}"}}
    }) { trigger { id } } }
"""


def limit(api: Api, **limits: int | None) -> Any:
    """Set limits of acme."""
    return api.ok("PATCH", ACME, {"quotas": limits})["quotas"]


def refused(api: Api, method: str, path: str, body: object, **more: Any) -> Problem:
    """The refusal of what would pass a quota."""
    problem = api.refused(method, f"{ACME}/{path}", body, status=409, **more)
    assert "quota" in problem.detail
    return problem


def uses(api: Api) -> dict[str, int]:
    return {name: quota["used"] for name, quota in api.ok("GET", ACME, key="member")["quotas"].items()}


def test_members_see_what_their_entity_may_have_and_has(api: Api) -> None:
    create_webhook(api)
    api.ok("PUT", f"{ACME}/secrets/S", {"value": "a secret value"}, status=201)
    create_automation(api)
    quotas = api.ok("GET", ACME, key="publisher")["quotas"]
    assert {name: quota["limit"] for name, quota in quotas.items()} == {str(q): n for q, n in DEFAULT_LIMITS.items()}
    assert 100 < quotas["definition_bytes"]["used"] < 1000
    assert uses(api) == {
        "automations": 1,
        "webhooks": 1,
        "secrets": 1,
        "sources": 0,
        "definition_bytes": quotas["definition_bytes"]["used"],
    }


def test_automations_webhooks_and_secrets_end_at_their_quotas(api: Api) -> None:
    create_webhook(api)
    create_automation(api)
    api.ok("PUT", f"{ACME}/secrets/URL", {"value": "https://hooks.slack.com/services/T/B/X"}, status=201)
    limit(api, automations=1, webhooks=1, secrets=1)
    found = refused(api, "POST", "automations", automation("second"), key="member")
    assert found.locs == [["automations"]]
    assert found.errors[0]["msg"] == "at most 1 automations; it has 1 of them"
    assert "automations: at most 1" in found.detail
    assert refused(api, "POST", "webhooks", webhook("second"), key="admin").locs == [["webhooks"]]
    slack = {"name": "second", "url_secret": "URL", "team": "t", "channel": "c"}
    assert refused(api, "POST", "slack", slack, key="admin").locs == [["webhooks"]]
    assert refused(api, "PUT", "secrets/T", {"value": "another value"}, key="admin").locs == [["secrets"]]
    api.ok("PUT", f"{ACME}/secrets/URL", {"value": "https://hooks.slack.com/services/T/B/Y"}, key="admin")
    assert [uses(api)[name] for name in ("automations", "webhooks", "secrets")] == [1, 1, 1]
    limit(api, automations=2)
    create_automation(api, automation("second"))


def test_bytes_of_definitions_end_at_their_quota_and_may_always_become_less(api: Api) -> None:
    create_webhook(api)

    def large(name: str, size: int) -> dict[str, Any]:
        return automation(name, action={"webhook": "deploy-hook", "payload": {"text": "x" * size}})

    one = create_automation(api, large("one", 5000))
    limit(api, definition_bytes=6000)
    assert refused(api, "POST", "automations", large("two", 1000)).locs == [["definition_bytes"]]
    more = {"action": large("one", 6000)["action"]}
    assert refused(api, "PATCH", f"automations/{one['id']}", more).locs == [["definition_bytes"]]
    limit(api, definition_bytes=100)
    api.ok("PATCH", f"{ACME}/automations/{one['id']}", {"description": None, "action": large("one", 4000)["action"]})
    assert 4000 < uses(api)["definition_bytes"] < 5000
    api.ok("DELETE", f"{ACME}/automations/{one['id']}", status=204)
    assert uses(api)["definition_bytes"] == 0


def test_manifests_and_graphql_obey_the_same_quotas(api: Api) -> None:
    hook = create_webhook(api)
    for name in ("first", "second"):
        create_automation(api, automation(name))
    limit(api, automations=2, webhooks=1)
    three = {"automations": [automation(name) for name in ("second", "third", "fourth")]}
    for query in ("", "?dry_run=true"):
        assert refused(api, "POST", f"apply{query}", three, key="member").locs == [["automations"]]
    two_hooks = {"webhooks": [webhook(), webhook("other-hook")]}
    assert refused(api, "POST", "apply", two_hooks, key="admin").locs == [["webhooks"]]
    assert uses(api)["automations"] == 2
    swap = {"automations": [automation(name) for name in ("third", "fourth")], "prune": True}
    api.ok("POST", f"{ACME}/apply", swap, key="member")

    project = 'query { project(entityName: "acme", name: "wandb-registry-model") { id } }'
    scope = api.ok("POST", "/graphql", {"query": project}, key="member")["data"]["project"]["id"]
    integrations = (
        'query { entity(name: "acme") { integrations(first: 5) { edges { node { ... on GenericWebhookIntegration '
        "{ id } } } } } }"
    )
    found = api.ok("POST", "/graphql", {"query": integrations}, key="member")["data"]["entity"]["integrations"]
    variables = {"scope": scope, "webhook": found["edges"][0]["node"]["id"]}
    answer = api.send("POST", "/graphql", {"query": CREATE, "variables": variables}, key="member")
    assert "at most 2 automations" in answer.json()["errors"][0]["message"]
    limit(api, automations=3)
    answer = api.send("POST", "/graphql", {"query": CREATE, "variables": variables}, key="member")
    assert "errors" not in answer.json()
    assert hook["name"] == "deploy-hook"


def test_of_many_creators_at_once_no_more_succeed_than_the_quota_has_room_for(api: Api) -> None:
    create_webhook(api)
    limit(api, automations=3, webhooks=3, secrets=3)
    for kind, make in (("automations", automation), ("webhooks", webhook)):
        with ThreadPoolExecutor(6) as pool:
            create = partial(api.send, "POST", f"{ACME}/{kind}")
            answers = pool.map(create, [make(f"creation {number}") for number in range(6)])
            assert Counter(answer.status_code for answer in answers)[201] == (3 if kind == "automations" else 2)
        assert uses(api)[kind] == 3
    with ThreadPoolExecutor(6) as pool:
        put = partial(api.send, "PUT", body={"value": "a secret value"})
        assert Counter(a.status_code for a in pool.map(put, [f"{ACME}/secrets/S{n}" for n in range(6)]))[201] == 3


def test_a_deleted_automation_lives_again_only_within_the_quota(api: Api) -> None:
    create_webhook(api)
    one = create_automation(api)
    api.ok("DELETE", f"{ACME}/automations/{one['id']}", status=204)
    create_automation(api, automation("second"))
    limit(api, automations=1)
    path = f"{ACME}/automations/{one['id']}/revisions"
    first = api.ok("GET", path)["items"][-1]["number"]
    assert "quota" in api.refused("POST", f"{path}/{first}/restore", status=409).detail


def test_what_an_older_version_stored_counts_too(api: Api, engine: Engine) -> None:
    create_webhook(api)
    create_automation(api, automation(description="ü" * 1000))
    new = uses(api)["definition_bytes"]
    with write_transaction(engine) as connection:
        connection.execute(update(automations).values(weight_bytes=None))
    assert 0 < uses(api)["definition_bytes"] <= new + 100


def test_instance_administrators_alone_set_quotas(api: Api) -> None:
    for key, status in (("admin", 403), ("member", 403), ("publisher", 403), ("outsider", 404)):
        api.refused("PATCH", ACME, {"quotas": {"automations": 5000}}, status=status, key=key)
    assert limit(api, automations=5000, secrets=0)["automations"]["limit"] == 5000
    assert limit(api, secrets=7)["automations"]["limit"] == 5000
    api.ok("PUT", ACME, {"kind": "team"})
    assert api.ok("GET", ACME)["quotas"]["secrets"]["limit"] == 7
    assert limit(api, secrets=None)["secrets"]["limit"] == DEFAULT_LIMITS[Quota.SECRETS]
    everything = api.ok("PATCH", ACME, {"quotas": None})["quotas"]
    assert everything["automations"]["limit"] == DEFAULT_LIMITS[Quota.AUTOMATIONS]
    changes = api.ok("GET", "/v1/audit")["items"]
    detail = [c["detail"] for c in changes if c["action"] == "entity.update"]
    assert {"changed": ["quotas"], "quotas": {"automations": 5000, "secrets": 0}} in detail
    api.refused("PATCH", "/v1/entities/nobody", {"quotas": {}}, status=404)


@pytest.mark.parametrize(
    ("patch", "loc"),
    [
        ({"quotas": {"automation": 1}}, ["quotas", "automation"]),
        ({"quotas": {"automations": -1}}, ["quotas", "automations"]),
        ({"quotas": {"automations": True}}, ["quotas", "automations"]),
        ({"quotas": {"automations": 1 << 50}}, ["quotas", "automations"]),
        ({"quotas": [1]}, ["quotas"]),
        ({"kind": "team"}, ["kind"]),
    ],
)
def test_a_limit_that_cannot_be_is_refused_at_its_place(api: Api, patch: dict[str, Any], loc: list[str]) -> None:
    assert api.refused("PATCH", ACME, patch, status=422).locs == [loc]
