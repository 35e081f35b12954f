"""Webhooks: checked as a whole, changed by merge patch, kept while automations need them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import time_machine
from sqlalchemy import Engine, select, update
from standardwebhooks import Webhook

from dispatcher.control.circuits import circuit_view
from shared.domain.delivery.circuits import Circuit
from shared.domain.delivery.retries import DeliveryPolicy
from shared.storage.database.clock import database_time
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.revisions import current_revision_value
from shared.storage.schema.tables import webhooks
from tests.integration.api.conftest import (
    ACME,
    DEPLOY,
    SECRETS,
    SIGNING,
    TOKEN,
    Api,
    automation,
    create_automation,
    create_webhook,
    full_webhook,
    put_secrets,
    webhook,
)
from tests.integration.receiver import Answer, receiving


def revision(engine: Engine) -> int:
    with read_transaction(engine) as connection:
        return current_revision_value(connection)


def test_a_webhook_is_created_with_defaults(api: Api) -> None:
    created = create_webhook(api)

    assert created | webhook() == created
    assert created["id"].startswith("wh_")
    assert created["entity"] == "acme"
    assert (created["enabled"], created["paused"], created["secrets"]) == (True, False, [])
    assert (created["access_token"], created["disabled_reason"], created["failing_since"]) == (None, None, None)
    assert DeliveryPolicy.model_validate(created["policy"]) == DeliveryPolicy()
    assert api.ok("GET", f"{ACME}/webhooks/{created['id']}", key="member") == created
    assert api.ok("GET", f"{ACME}/webhooks", key="member") == {"items": [created], "next": None}


BAD: list[tuple[dict[str, Any], list[Any]]] = [
    ({"name": ""}, ["name"]),
    ({"name": " a"}, ["name"]),
    ({"name": "a/b"}, ["name"]),
    ({"name": "a" * 65}, ["name"]),
    ({"name": "wh_1"}, ["name"]),
    ({"name": None}, ["name"]),
    ({"url": "ftp://example.com"}, ["url"]),
    ({"url": "https://10.0.0.1/"}, ["url"]),
    ({"url": "https://u:p@example.com/"}, ["url"]),
    ({"url": 5}, ["url"]),
    ({"url": "https://example.com:25/"}, ["url"]),
    ({"client_certificate": "NONE"}, ["client_certificate"]),
    ({"client_certificate": "TOKEN"}, ["client_certificate"]),
    ({"client_certificate": 5}, ["client_certificate"]),
    ({"access_token": "NONE"}, ["access_token"]),
    ({"signing_secret": "NONE"}, ["signing_secret"]),
    ({"secrets": ["DEPLOY", "NONE"]}, ["secrets", 1]),
    ({"secrets": "DEPLOY"}, ["secrets"]),
    ({"policy": {"timeout_seconds": 0}}, ["policy", "timeout_seconds"]),
    ({"policy": {"timeout_seconds": "15"}}, ["policy", "timeout_seconds"]),
    ({"policy": {"circuit_failures": False}}, ["policy", "circuit_failures"]),
    ({"policy": {"schedule_seconds": ["5"]}}, ["policy", "schedule_seconds", 0]),
    ({"policy": {"schedule_seconds": "5"}}, ["policy", "schedule_seconds"]),
    ({"policy": {"schedule_seconds": [1, -1]}}, ["policy", "schedule_seconds", 1]),
    ({"policy": {"retries": 1}}, ["policy", "retries"]),
    ({"enabled": "yes"}, ["enabled"]),
    ({"colour": "red"}, ["colour"]),
    ({"colour": None}, ["colour"]),
    ({"policy": {"retries": None}}, ["policy", "retries"]),
    ({"url": "https://example.com/\0"}, ["url"]),
]


def test_bad_webhooks_are_refused_and_change_nothing(api: Api, engine: Engine) -> None:
    put_secrets(api)
    kept = create_webhook(api, full_webhook("kept"))
    before = revision(engine)

    for members, loc in BAD:
        assert api.refused("POST", f"{ACME}/webhooks", full_webhook() | members, status=422).locs == [loc], members
        problem = api.refused("PATCH", f"{ACME}/webhooks/{kept['id']}", members, status=422)
        assert problem.locs == [loc], members
    assert api.refused("POST", f"{ACME}/webhooks", {}, status=422).locs == [["name"], ["url"]]
    assert api.refused("POST", f"{ACME}/webhooks", [1], status=422).locs == [[]]
    assert api.refused("PATCH", f"{ACME}/webhooks/{kept['id']}", [1], status=422).locs == [[]]

    assert api.ok("GET", f"{ACME}/webhooks")["items"] == [kept]
    assert revision(engine) == before


def test_an_unknown_secret_is_answered_with_those_there_are(api: Api) -> None:
    put_secrets(api)
    api.ok("PUT", "/v1/entities/other/secrets/FOREIGN", {"value": "x"}, key="outsider", status=201)

    problem = api.refused("POST", f"{ACME}/webhooks", webhook(access_token="FOREIGN"), status=422)

    assert problem.errors[0]["msg"].endswith("available: DEPLOY, SIGNING, TOKEN")


def test_what_is_sent_in_headers_must_fit_there(api: Api) -> None:
    api.ok("PUT", f"{ACME}/secrets/LINES", {"value": "a\nb"}, status=201)
    api.ok("PUT", f"{ACME}/secrets/ODD", {"value": "whsec_?"}, status=201)

    problem = api.refused("POST", f"{ACME}/webhooks", webhook(access_token="LINES", signing_secret="ODD"), status=422)

    assert problem.locs == [["access_token"], ["signing_secret"]]


def test_a_name_is_unique_in_the_entity_until_its_webhook_is_deleted(api: Api) -> None:
    first = create_webhook(api)
    second = create_webhook(api, webhook("second"))

    for method, path, body in (
        ("POST", f"{ACME}/webhooks", webhook()),
        ("PATCH", f"{ACME}/webhooks/{second['id']}", {"name": "deploy-hook"}),
    ):
        problem = api.refused(method, path, body, status=409)
        assert problem.locs == [["name"]]
        assert "deploy-hook" in problem.detail
    api.ok("POST", "/v1/entities/other/webhooks", webhook(), key="outsider", status=201)
    api.ok("DELETE", f"{ACME}/webhooks/{first['id']}", status=204)
    assert create_webhook(api)["id"] != first["id"]
    api.refused("GET", f"{ACME}/webhooks/{first['id']}", status=404)


def test_a_patch_merges_and_null_clears(api: Api, engine: Engine) -> None:
    put_secrets(api)
    created = create_webhook(api, full_webhook(policy={"jitter": 0.5, "timeout_seconds": 3}))
    path = f"{ACME}/webhooks/{created['id']}"

    changed = api.ok("PATCH", path, {"policy": {"jitter": 0}, "access_token": None, "paused": True})

    policy = created["policy"] | {"jitter": 0.0}
    same = ("revision", "updated_at")
    expected = created | {"policy": policy, "access_token": None, "paused": True}
    assert changed | dict.fromkeys(same, 0) == expected | dict.fromkeys(same, 0)
    assert changed["revision"] > created["revision"]
    assert api.ok("PATCH", path, {"policy": None})["policy"]["timeout_seconds"] == 15
    before = revision(engine)
    api.ok("PATCH", path, {"paused": True})
    assert revision(engine) == before


def test_enabling_again_clears_why_it_was_disabled(api: Api, engine: Engine) -> None:
    created = create_webhook(api)
    path = f"{ACME}/webhooks/{created['id']}"
    with write_transaction(engine) as connection:
        connection.execute(
            update(webhooks).values(enabled=False, disabled_reason="410", failing_since=datetime.now(UTC))
        )

    assert api.ok("PATCH", path, {"paused": True})["disabled_reason"] == "410"
    enabled = api.ok("PATCH", path, {"enabled": True})

    assert (enabled["enabled"], enabled["disabled_reason"], enabled["failing_since"]) == (True, None, None)


def test_grants_can_not_be_taken_from_under_an_automation(api: Api) -> None:
    put_secrets(api)
    created = create_webhook(api, full_webhook())
    path = f"{ACME}/webhooks/{created['id']}"
    payload = {"token": "${DEPLOY}", "own": "${ACCESS_TOKEN}"}
    user = create_automation(api, automation(action={"webhook": "deploy-hook", "payload": payload}))

    patches: list[dict[str, Any]] = [{"secrets": []}, {"secrets": None}, {"access_token": None}]
    for patch in patches:
        problem = api.refused("PATCH", path, patch, status=409)
        assert "'on-production'" in problem.detail
    assert api.ok("GET", path) == created

    api.ok("PATCH", path, {"secrets": ["DEPLOY", "TOKEN"]})
    api.ok("PATCH", f"{ACME}/automations/{user['id']}", {"action": {"webhook": "deploy-hook", "payload": {}}})
    assert api.ok("PATCH", path, {"secrets": []})["secrets"] == []


def test_a_webhook_in_use_is_kept(api: Api, engine: Engine) -> None:
    created = create_webhook(api)
    users = [create_automation(api, automation(name)) for name in ("first", "second")]

    problem = api.refused("DELETE", f"{ACME}/webhooks/{created['id']}", status=409)

    assert "'first', 'second'" in problem.detail
    for user in users:
        api.ok("DELETE", f"{ACME}/automations/{user['id']}", status=204)
    api.ok("DELETE", f"{ACME}/webhooks/{created['id']}", status=204)
    with read_transaction(engine) as connection:
        assert connection.execute(select(webhooks.c.deleted_at)).scalar_one() is not None


def test_webhooks_are_per_entity_and_for_administrators(api: Api) -> None:
    path = f"{ACME}/webhooks/{create_webhook(api)['id']}"

    for method in ("GET", "PATCH", "DELETE"):
        body = {"paused": True} if method == "PATCH" else None
        api.refused(method, path, body, key="outsider", status=404)
        api.refused(method, path.replace("acme", "other"), body, key="outsider", status=404)
        api.refused(method, path, body, key="publisher", status=403)
    api.refused("PATCH", path, {"paused": True}, key="member", status=403)
    api.refused("POST", f"{ACME}/webhooks", webhook("x"), key="member", status=403)
    api.refused("POST", f"{path}/test", key="member", status=403)
    assert api.ok("PATCH", path, {"paused": True}, key="admin")["paused"] is True


def test_a_trial_is_sent_signed_and_answered_masked(api: Api) -> None:
    put_secrets(api)
    with receiving() as receiver:
        receiver.answer = lambda request: Answer(
            status=418, body=orjson.dumps({"auth": request.headers["authorization"], "got": request.body.decode()})
        )
        created = create_webhook(api, full_webhook(url=f"{receiver.url}/hook"))
        payload = {"key": "${DEPLOY}", "by": "${event_author}", "m": "${artifact_metadata.x}", "cost": "$$5"}
        trial = api.ok("POST", f"{ACME}/webhooks/{created['id']}/test", {"payload": payload})
        default = api.ok("POST", f"{ACME}/webhooks/{created['id']}/test")

    sent, second = receiver.requests
    assert sent.json == {"key": DEPLOY, "by": "hookline", "m": "sample", "cost": "$5"}
    assert sent.headers["authorization"] == f"Bearer {TOKEN}"
    Webhook(SIGNING).verify(sent.body, sent.headers)
    assert trial["request"]["body"] == payload | {
        "key": "***DEPLOY***",
        "by": "hookline",
        "m": "sample",
        "cost": "$5",
    }
    shown = {name.lower(): value for name, value in trial["request"]["headers"].items()}
    assert shown.pop("authorization") == "Bearer ***ACCESS_TOKEN***"
    assert shown == {name: sent.headers[name] for name in shown}
    assert {"webhook-id", "webhook-signature", "x-wandb-signature", "hookline-attempt"} <= shown.keys()
    assert trial["response"]["status"] == 418
    assert "***DEPLOY***" in trial["response"]["body"]
    assert (trial["outcome"], trial["error"], trial["response"]["truncated"]) == ("4xx", None, False)
    assert second.json == default["request"]["body"]
    assert second.json["entity_name"] == "acme"
    assert not [answer for answer in api.answers for value in SECRETS.values() if value in answer]


def test_a_trial_without_an_answer_says_why(api: Api) -> None:
    with receiving() as receiver:
        url = receiver.url
    created = create_webhook(api, webhook(url=url))

    trial = api.ok("POST", f"{ACME}/webhooks/{created['id']}/test")

    assert (trial["outcome"], trial["response"]) == ("network", None)
    assert trial["error"]


def test_a_trial_takes_only_what_an_automation_could_send(api: Api) -> None:
    put_secrets(api)
    path = f"{ACME}/webhooks/{create_webhook(api)['id']}/test"

    assert api.refused("POST", path, {"payload": {"x": "${DEPLOY}"}}, status=422).locs == [["payload", "x"]]
    assert api.refused("POST", path, {"payload": [], "content_type": "text/plain"}, status=422).locs == [["payload"]]
    assert api.refused("POST", path, {"content_type": "text/plain"}, status=422).locs == [["payload"]]
    assert api.refused("POST", path, {"content_type": "text/html"}, status=422).locs == [["content_type"]]
    assert api.refused("POST", path, {"payload_types": "number"}, status=422).locs == [["payload_types"]]
    assert api.refused("POST", path, {"body": {}}, status=422).locs == [["body"]]


@pytest.mark.parametrize("step", [timedelta(hours=2), timedelta(hours=-2)])
def test_a_circuit_is_open_by_the_databases_clock(engine: Engine, step: timedelta) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no clock but the machine's")
    with read_transaction(engine) as connection:
        now = database_time(connection)
        circuits = [
            Circuit(failures=20, openings=1, opened_at=now - timedelta(hours=1), probe_at=now + timedelta(minutes=away))
            for away in (-1, 1)
        ]
        with time_machine.travel(datetime.now(UTC) + step, tick=True):
            states = [circuit_view(connection, circuit).state for circuit in circuits]
    assert states == ["half_open", "open"]


def test_a_secret_where_a_name_belongs_is_not_repeated(api: Api) -> None:
    """Refusals get into the logs of whoever sent the secret."""
    put_secrets(api)
    wrong = "ghp_16C7e42F292c6912E7"
    definitions: list[dict[str, Any]] = [
        *({member: wrong} for member in ("access_token", "signing_secret", "client_certificate")),
        {"secrets": ["DEPLOY", wrong]},
    ]
    for members in definitions:
        problem = api.refused("POST", f"{ACME}/webhooks", webhook(**members), status=422)
        assert "available: DEPLOY, SIGNING, TOKEN" in problem.errors[0]["msg"]
    create_webhook(api)
    action = {"webhook": "deploy-hook", "payload": {"token": f"${{{wrong}}}"}}
    api.refused("POST", f"{ACME}/automations", automation(action=action), status=422)
    body = {
        "query": f'mutation{{createGenericWebhookIntegration(input:{{entityName:"acme",name:"n",'
        f'urlEndpoint:"https://example.com",accessTokenRef:"{wrong}"}}){{integration{{__typename}}}}}}'
    }
    assert api.send("POST", "/graphql", body).status_code >= 400
    variables = {"query": "query($a:Int){viewer{teams(first:$a){edges{cursor}}}}", "variables": {"a": wrong}}
    assert api.send("POST", "/graphql", variables).status_code == 400
    for path in (f"/v1/keys/{wrong}", f"{ACME}/secrets/{wrong}", f"/v1/users/{wrong}"):
        api.refused("DELETE", path, status=404)
    api.refused("POST", "/v1/keys", {"name": "n", "user": wrong}, status=422)
    assert wrong not in "".join(api.answers)
