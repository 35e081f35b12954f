"""Slack integrations: webhooks whose URL is a secret that no answer shows, under the same rules."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.api.conftest import ACME, Api, automation, create_automation, create_webhook, webhook

URL = "https://hooks.slack.com/services/T0001/B0002/s3cr3tS3cr3t"


def integration(name: str = "ml-alerts", **members: Any) -> dict[str, Any]:
    return {"name": name, "url_secret": "SLACK_URL", "team": "Acme", "channel": "#ml", **members}


def notifying(name: str = "tell", **action: Any) -> dict[str, Any]:
    return automation(name, action={"slack": "ml-alerts", "title": "${alias}", **action})


@pytest.fixture
def slack(api: Api) -> Any:
    """A Slack integration in acme."""
    api.ok("PUT", f"{ACME}/secrets/SLACK_URL", {"value": URL}, status=201)
    return api.ok("POST", f"{ACME}/slack", integration(), key="admin", status=201)


def test_an_integration_is_created_with_defaults_and_is_no_webhook(api: Api, slack: Any) -> None:
    assert slack | integration() == slack
    assert slack["id"].startswith("slk_")
    assert (slack["enabled"], slack["paused"], slack["disabled_reason"], slack["failing_since"]) == (
        True,
        False,
        None,
        None,
    )
    assert "url" not in slack
    assert api.ok("GET", f"{ACME}/slack/{slack['id']}", key="member") == slack
    assert api.ok("GET", f"{ACME}/slack", key="member") == {"items": [slack], "next": None}
    assert api.ok("GET", f"{ACME}/webhooks")["items"] == []
    for path in (f"{ACME}/webhooks/{slack['id']}", f"{ACME}/webhooks/{slack['id'].replace('slk', 'wh')}"):
        api.refused("GET", path, status=404)
    assert api.ok("GET", f"{ACME}/secrets/SLACK_URL")["used_by"] == ["ml-alerts"]


BAD: list[tuple[dict[str, Any], list[Any]]] = [
    ({"name": "wh_1"}, ["name"]),
    ({"name": "slk_1"}, ["name"]),
    ({"url_secret": "NONE"}, ["url_secret"]),
    ({"url_secret": None}, ["url_secret"]),
    ({"url_secret": "PLAIN"}, ["url_secret"]),
    ({"url_secret": "PRIVATE"}, ["url_secret"]),
    ({"team": ""}, ["team"]),
    ({"channel": "x" * 256}, ["channel"]),
    ({"url": URL}, ["url"]),
    ({"access_token": "SLACK_URL"}, ["access_token"]),
    ({"policy": {"jitter": 2}}, ["policy", "jitter"]),
    ({"enabled": 1}, ["enabled"]),
]


def test_bad_integrations_are_refused_and_change_nothing(api: Api, slack: Any) -> None:
    api.ok("PUT", f"{ACME}/secrets/PLAIN", {"value": "not a url"}, status=201)
    api.ok("PUT", f"{ACME}/secrets/PRIVATE", {"value": "https://10.0.0.1/hook"}, status=201)
    for members, loc in BAD:
        assert api.refused("POST", f"{ACME}/slack", integration("new") | members, status=422).locs == [loc], members
        assert api.refused("PATCH", f"{ACME}/slack/{slack['id']}", members, status=422).locs == [loc], members
    assert api.refused("POST", f"{ACME}/slack", {}, status=422).locs == [[m] for m in ("name", "url_secret")]
    assert api.ok("GET", f"{ACME}/slack")["items"] == [slack]


def test_a_secret_stays_a_url_while_an_integration_uses_it(api: Api, slack: Any) -> None:
    for bad in ("not a url", "https://127.1/x", "ftp://hooks.slack.com/x", "https://10.0.0.1/token-of-mine"):
        problem = api.refused("PUT", f"{ACME}/secrets/SLACK_URL", {"value": bad}, status=422)
        assert problem.locs == [["value"]]
        assert bad not in problem.detail
    api.ok("PUT", f"{ACME}/secrets/SLACK_URL", {"value": URL + "2"})
    problem = api.refused("DELETE", f"{ACME}/secrets/SLACK_URL", status=409)
    assert "ml-alerts" in problem.detail
    api.ok("DELETE", f"{ACME}/slack/{slack['id']}", status=204)
    api.ok("DELETE", f"{ACME}/secrets/SLACK_URL", status=204)


def test_names_are_shared_with_webhooks(api: Api, slack: Any) -> None:
    assert api.refused("POST", f"{ACME}/webhooks", webhook("ml-alerts"), status=409).locs == [["name"]]
    create_webhook(api)
    problem = api.refused("POST", f"{ACME}/slack", integration("deploy-hook"), status=409)
    assert problem.locs == [["name"]]
    api.refused("PATCH", f"{ACME}/slack/{slack['id']}", {"name": "deploy-hook"}, status=409)


def test_an_integration_is_patched_and_kept_while_in_use(api: Api, slack: Any) -> None:
    path = f"{ACME}/slack/{slack['id']}"
    changed = api.ok("PATCH", path, {"channel": "#other", "paused": True, "policy": {"jitter": 0}})
    assert (changed["channel"], changed["paused"], changed["policy"]["jitter"]) == ("#other", True, 0.0)
    assert changed["revision"] > slack["revision"]
    used = create_automation(api, notifying())
    problem = api.refused("DELETE", path, status=409)
    assert "'tell'" in problem.detail
    api.ok("DELETE", f"{ACME}/automations/{used['id']}", status=204)
    api.ok("DELETE", path, status=204)
    api.refused("GET", path, status=404)


def test_a_change_can_be_conditional_and_a_repeat_is_answered_again(api: Api, slack: Any) -> None:
    path = f"{ACME}/slack/{slack['id']}"
    tag = api.send("GET", path).headers["ETag"]
    assert api.send("GET", path, headers={"If-None-Match": tag}).status_code == 304
    api.ok("PATCH", path, {"channel": "#new"})
    assert api.send("PATCH", path, {"channel": "#late"}, headers={"If-Match": tag}).status_code == 412
    assert api.send("DELETE", path, headers={"If-Match": tag}).status_code == 412
    made = [api.send("POST", f"{ACME}/slack", integration("once"), headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [answer.status_code for answer in made] == [201, 201]
    assert made[0].json() == made[1].json()


def test_an_automation_names_it_by_name_or_id_and_answers_with_the_name(api: Api, slack: Any) -> None:
    by_name = create_automation(api, notifying(message="by ${event_author}", severity="ERROR"))
    by_id = create_automation(api, notifying("again", slack=slack["id"]))
    assert by_name["action"] == {
        "slack": "ml-alerts",
        "title": "${alias}",
        "message": "by ${event_author}",
        "severity": "ERROR",
    }
    assert by_id["action"] == {"slack": "ml-alerts", "title": "${alias}", "severity": "INFO"}
    create_webhook(api)
    refused: list[tuple[dict[str, Any], list[str]]] = [
        ({"slack": "deploy-hook"}, ["action", "slack"]),
        ({"webhook": "ml-alerts"}, ["action", "webhook"]),
        ({"webhook": slack["id"]}, ["action", "webhook"]),
        ({"slack": "ml-alerts", "message": "${SLACK_URL}"}, ["action", "message"]),
    ]
    for action, loc in refused:
        assert api.refused("POST", f"{ACME}/automations", automation("n", action=action), status=422).locs == [loc]
    changed = api.ok("PATCH", f"{ACME}/automations/{by_id['id']}", {"action": {"webhook": "deploy-hook"}})
    assert changed["action"] == {"webhook": "deploy-hook", "payload_types": "json"}  # an action that is new


def test_manifests_carry_integrations_there_and_back(api: Api, slack: Any) -> None:
    create_automation(api, notifying())
    exported = api.ok("GET", f"{ACME}/export", key="member")
    assert exported["slack"] == [integration()]
    applied = api.ok("POST", f"{ACME}/apply", exported, key="admin")["changes"]
    assert {change["change"] for change in applied} == {"unchanged"}

    changed = {**exported, "slack": [integration(channel="#x"), integration("second")]}
    dry = api.ok("POST", f"{ACME}/apply?dry_run=true", changed)["changes"]
    applied = api.ok("POST", f"{ACME}/apply", changed)["changes"]
    assert dry == applied
    assert [(c["kind"], c["name"], c["change"], c["detail"]) for c in applied][:2] == [
        ("slack", "ml-alerts", "updated", ["channel"]),
        ("slack", "second", "created", []),
    ]
    pruned = api.ok("POST", f"{ACME}/apply", {"slack": [integration()], "prune": True})["changes"]
    assert ("slack", "second", "deleted") in [(c["kind"], c["name"], c["change"]) for c in pruned]
    api.refused("POST", f"{ACME}/apply", {"slack": [], "prune": True}, status=409)
    api.refused("POST", f"{ACME}/apply", {"slack": []}, key="member", status=403)


def test_a_manifest_names_every_fault_of_its_integrations(api: Api, slack: Any) -> None:
    body = {
        "webhooks": [webhook("taken")],
        "slack": [integration("bad", url_secret="NONE"), integration("taken"), 5, integration("bad")],
        "automations": [notifying("a", slack="bad"), notifying("b", slack="nobody"), notifying("c", title="${X}")],
    }
    assert api.refused("POST", f"{ACME}/apply", body, status=422).locs == [
        ["slack", 0, "url_secret"],
        ["slack", 1, "name"],
        ["slack", 2],
        ["slack", 3, "name"],
        ["automations", 1, "action", "slack"],
        ["automations", 2, "action", "title"],
    ]


def test_roles_and_no_answer_holds_the_url(api: Api, slack: Any) -> None:
    api.refused("POST", f"{ACME}/slack", integration("x"), key="member", status=403)
    api.refused("GET", f"{ACME}/slack", key="publisher", status=403)
    api.refused("GET", f"{ACME}/slack", key="outsider", status=404)
    api.refused("PATCH", f"{ACME}/slack/{slack['id']}", {}, key="member", status=403)
    api.refused("DELETE", f"{ACME}/slack/{slack['id']}", key="member", status=403)
    api.ok("GET", f"{ACME}/audit")
    api.ok("GET", f"{ACME}/export")
    assert not [answer for answer in api.answers if "s3cr3t" in answer or "hooks.slack.com" in answer]


def test_workspace_and_channel_may_be_left_out(api: Api, slack: Any) -> None:
    plain = integration("plain")
    made = api.ok("POST", f"{ACME}/slack", {"name": "plain", "url_secret": plain["url_secret"]}, status=201)
    assert (made["team"], made["channel"]) == (None, None)
    path = f"{ACME}/slack/{made['id']}"
    assert api.ok("PATCH", path, {"channel": "#ml"})["channel"] == "#ml"
    assert api.ok("PATCH", path, {"channel": None})["channel"] is None
