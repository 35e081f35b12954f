"""Webhooks of an organization and its teams: who may name whose, and that nothing in use elsewhere goes away."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from shared.storage.database.transactions import read_transaction
from shared.storage.definitions.revisions import current_revision_value
from tests.integration.api.conftest import Api, automation, full_webhook, put_secrets, webhook

TYPED = {"payload_types": "json"}
ORG, RED, BLUE = (f"/v1/entities/{name}" for name in ("org", "red", "blue"))


@pytest.fixture
def org(api: Api) -> Api:
    """An organization with two teams, and keys: of the organization's admin, who is a member of red, and of red's."""
    api.ok("PUT", ORG, {"kind": "organization"}, status=201)
    for team in (RED, BLUE):
        api.ok("PUT", team, {"parent": "org"}, status=201)
    api.ok("POST", "/v1/users", {"name": "olga", "roles": roles(org="admin", red="member")}, status=201)
    api.ok("POST", "/v1/users", {"name": "rita", "roles": roles(red="admin", org="member")}, status=201)
    api.ok("POST", "/v1/users", {"name": "ruth", "roles": roles(red="admin")}, status=201)
    for name in ("olga", "rita", "ruth"):
        api.key(name, user=name)
    return api


def roles(**given: str) -> list[dict[str, str]]:
    return [{"entity": entity, "role": role} for entity, role in given.items()]


def using(name: str, named: str, **more: Any) -> dict[str, Any]:
    return automation(name, action={"webhook": named, **more})


def test_an_organization_uses_its_teams_webhooks_and_a_team_its_organizations(org: Api) -> None:
    put_secrets(org, "red")
    hook = org.ok("POST", f"{RED}/webhooks", full_webhook("red-hook"), status=201)
    own = org.ok("POST", f"{ORG}/webhooks", webhook("org-hook"), status=201)

    down = org.ok(
        "POST", f"{ORG}/automations", using("down", "red-hook", payload={"k": "${DEPLOY}"}), key="olga", status=201
    )
    up = org.ok("POST", f"{RED}/automations", using("up", own["id"]), key="rita", status=201)

    assert down["action"] == {"webhook": hook["id"], "payload": {"k": "${DEPLOY}"}, **TYPED}
    assert up["action"] == {"webhook": own["id"], **TYPED}
    again = org.ok("PATCH", f"{ORG}/automations/{down['id']}", {"enabled": False}, key="olga")
    assert again["action"] == down["action"]
    exported = org.ok("GET", f"{ORG}/export", key="olga")
    changes = org.ok("POST", f"{ORG}/apply", {"automations": exported["automations"]}, key="olga")["changes"]
    assert {change["change"] for change in changes} == {"unchanged"}


def test_what_one_may_not_read_does_not_exist(org: Api) -> None:
    hook = org.ok("POST", f"{ORG}/webhooks", webhook("org-hook"), status=201)
    org.ok("POST", f"{BLUE}/webhooks", webhook("blue-hook"), status=201)
    for key, path, named in (
        ("ruth", RED, "org-hook"),
        ("ruth", RED, hook["id"]),
        ("olga", ORG, "blue-hook"),
        ("rita", RED, "blue-hook"),
        ("root", RED, "blue-hook"),
        ("outsider", "/v1/entities/other", hook["id"]),
    ):
        problem = org.refused("POST", f"{path}/automations", using("a", named), key=key, status=422)
        assert problem.locs == [["action", "webhook"]], (key, named)


def test_who_may_not_read_the_webhook_may_still_change_the_rest(org: Api) -> None:
    hook = org.ok("POST", f"{ORG}/webhooks", webhook("org-hook"), status=201)
    made = org.ok("POST", f"{RED}/automations", using("a", "org-hook"), key="rita", status=201)
    path = f"{RED}/automations/{made['id']}"

    assert org.ok("PATCH", path, {"enabled": False}, key="ruth")["enabled"] is False
    org.refused("PATCH", path, {"action": {"webhook": hook["id"]}}, key="ruth", status=422)


def test_the_own_name_comes_first_and_ambiguous_names_are_refused_naming_them(org: Api) -> None:
    red = org.ok("POST", f"{RED}/webhooks", webhook("hook"), status=201)
    blue = org.ok("POST", f"{BLUE}/webhooks", webhook("hook"), status=201)

    problem = org.refused("POST", f"{ORG}/automations", using("a", "hook"), status=422)
    assert problem.locs == [["action", "webhook"]]
    assert f"{red['id']} of 'red', {blue['id']} of 'blue'" in problem.errors[0]["msg"]
    assert org.ok("POST", f"{ORG}/automations", using("b", blue["id"]), status=201)["action"]["webhook"] == blue["id"]
    assert org.ok("POST", f"{ORG}/automations", using("c", "hook"), key="olga", status=201)["action"] == {
        "webhook": red["id"],
        **TYPED,
    }
    org.ok("POST", f"{ORG}/webhooks", webhook("hook"), status=201)
    assert org.ok("POST", f"{ORG}/automations", using("d", "hook"), status=201)["action"] == {
        "webhook": "hook",
        **TYPED,
    }


def test_what_another_entity_uses_is_kept(org: Api) -> None:
    put_secrets(org, "red")
    hook = org.ok("POST", f"{RED}/webhooks", full_webhook("hook"), status=201)
    path = f"{RED}/webhooks/{hook['id']}"
    org.ok("POST", f"{ORG}/automations", using("a", "hook", payload={"k": "${DEPLOY}"}), status=201)

    for problem in (
        org.refused("DELETE", path, key="ruth", status=409),
        org.refused("PATCH", path, {"secrets": []}, key="ruth", status=409),
        org.refused("POST", f"{RED}/apply", {"webhooks": [], "prune": True}, key="ruth", status=409),
    ):
        assert "'a' of 'org'" in problem.detail


def test_slack_integrations_are_shared_in_the_same_way(org: Api) -> None:
    org.ok("PUT", f"{RED}/secrets/URL", {"value": "https://hooks.slack.com/services/x"}, status=201)
    body = {"name": "chat", "url_secret": "URL", "team": "t", "channel": "c"}
    slack = org.ok("POST", f"{RED}/slack", body, status=201)

    made = org.ok("POST", f"{ORG}/automations", automation("a", action={"slack": "chat"}), key="olga", status=201)

    assert made["action"] == {"slack": slack["id"], "severity": "INFO"}
    org.refused("DELETE", f"{RED}/slack/{slack['id']}", status=409)


def test_a_move_of_an_entity_takes_a_revision_and_repeating_it_does_not(org: Api, engine: Engine) -> None:
    def revision() -> int:
        with read_transaction(engine) as connection:
            return current_revision_value(connection)

    before = revision()
    assert org.ok("PUT", RED, {"parent": "org"})["parent"] == "org"
    assert revision() == before
    org.ok("PUT", RED, {})
    assert revision() == before + 1
    org.ok("PUT", ORG, {"kind": "team"})
    assert revision() == before + 2
