"""Types of payload values: new definitions have `json`, what was there and what the client makes keeps `text`."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_plus

import pytest
import yaml
from sqlalchemy import Engine, select, update

from shared.storage.database.transactions import write_transaction
from shared.storage.schema.tables import automations
from tests.integration.api.conftest import (
    ACME,
    DEPLOY,
    Api,
    automation,
    create_automation,
    create_webhook,
    event,
    full_webhook,
    put_secrets,
)
from tests.integration.receiver import receiving

PAYLOAD = {"accuracy": "${artifact_metadata.accuracy}", "by": "${event_author}"}
CARD = {
    "type": "message",
    "attachments": [
        {
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "body": [{"type": "TextBlock", "text": "${event_author} promoted ${artifact_version_string}"}],
            },
        }
    ],
}
ARTIFACT = {"id": "a", "version": "v3", "metadata": {"accuracy": 0.9312}}


def with_action(name: str = "on-production", **action: Any) -> dict[str, Any]:
    return automation(name, action={"webhook": "deploy-hook", "payload": PAYLOAD, **action})


def of_an_older_version(engine: Engine, name: str) -> None:
    """Let an automation be as versions stored it that knew of no types."""
    with write_transaction(engine) as connection:
        query = select(automations.c.definition).where(automations.c.name == name)
        definition = connection.execute(query).scalar_one()
        del definition["action"]["payload_types"]
        connection.execute(update(automations).where(automations.c.name == name).values(definition=definition))


def tried(api: Api, body: dict[str, Any], artifact: dict[str, Any] | None = None) -> Any:
    """The only result of a dry run on one event."""
    body = {"event": event(artifact=artifact or ARTIFACT, author="alice"), **body}
    (result,) = api.ok("POST", f"{ACME}/automations/dry-run", body)["results"]
    return result


def test_a_new_automation_sends_values_with_their_types(api: Api) -> None:
    create_webhook(api)
    assert tried(api, {"definition": with_action()})["payload"]["accuracy"] == 0.9312
    made = create_automation(api, with_action())
    assert made["action"]["payload_types"] == "json"
    assert tried(api, {"automation": made["id"]})["payload"] == {"accuracy": 0.9312, "by": "alice"}
    text = create_automation(api, with_action("text", payload_types="text"))
    assert tried(api, {"automation": text["id"]})["payload"]["accuracy"] == "0.9312"


def test_what_an_older_version_stored_stays_text_through_every_edit(api: Api, engine: Engine) -> None:
    create_webhook(api)
    made = create_automation(api, with_action())
    of_an_older_version(engine, made["name"])
    path = f"{ACME}/automations/{made['id']}"
    first = api.ok("GET", path)
    assert first["action"]["payload_types"] == "text"

    changes = api.ok("POST", f"{ACME}/apply", {"automations": [with_action()]})["changes"]
    assert [change["change"] for change in changes] == ["unchanged"]
    assert tried(api, {"definition": with_action()})["payload"]["accuracy"] == "0.9312"
    api.ok("PATCH", path, {"action": {"webhook": "deploy-hook", "payload": {**PAYLOAD, "more": 1}}})
    api.ok("PATCH", path, {"description": "edited"})
    assert api.ok("GET", path)["action"]["payload_types"] == "text"

    api.ok("PATCH", path, {"action": {"webhook": "deploy-hook", "payload": PAYLOAD, "payload_types": "json"}})
    assert api.ok("GET", path)["action"]["payload_types"] == "json"
    oldest = api.ok("GET", f"{path}/revisions")["items"][-2]["number"]
    restored = api.ok("POST", f"{path}/revisions/{oldest}/restore")
    assert restored["action"]["payload_types"] == "text"


def test_an_export_says_the_types_and_is_applied_elsewhere_as_it_was(api: Api, engine: Engine) -> None:
    create_webhook(api)
    create_automation(api, with_action("old"))
    of_an_older_version(engine, "old")
    create_automation(api, with_action("new"))
    create_automation(api, with_action("form", content_type="application/x-www-form-urlencoded"))

    exported = api.ok("GET", f"{ACME}/export")
    exported = yaml.safe_load(exported) if isinstance(exported, str) else exported
    actions = {one["name"]: one["action"] for one in exported["automations"]}
    assert {name: action["payload_types"] for name, action in actions.items()} == {
        "old": "text",
        "new": "json",
        "form": "json",
    }
    assert actions["form"]["content_type"] == "application/x-www-form-urlencoded"
    api.ok("PUT", "/v1/entities/elsewhere", status=201)
    applied = {"webhooks": exported["webhooks"], "automations": exported["automations"]}
    api.ok("POST", "/v1/entities/elsewhere/apply", applied)
    again = api.ok("GET", "/v1/entities/elsewhere/export")
    assert again["automations"] == exported["automations"]
    assert {one["change"] for one in api.ok("POST", f"{ACME}/apply", applied)["changes"]} == {"unchanged"}


def test_a_card_as_it_is_pasted_is_sent_as_it_is(api: Api) -> None:
    create_webhook(api)
    made = create_automation(api, with_action(payload=CARD))
    sent = tried(api, {"automation": made["id"]})["payload"]["attachments"][0]["content"]
    assert sent["$schema"] == CARD["attachments"][0]["content"]["$schema"]  # type: ignore[index]
    assert sent["body"][0]["text"].startswith("alice promoted acme/")


def test_what_an_event_leaves_blank_is_told_by_the_dry_run(api: Api) -> None:
    create_webhook(api)
    payload = {"lr": "${artifact_metadata.params.lr}", "note": "${artifact_metadata.note:-none}"}
    result = tried(api, {"definition": with_action(payload=payload)})
    assert result["payload"] == {"lr": None, "note": "none"}
    assert ["${artifact_metadata.params.lr}" in note for note in result["notes"]] == [True]
    assert "note}" not in result["notes"][0]


@pytest.mark.parametrize(
    ("content_type", "payload", "header", "sent"),
    [
        ("text/plain", "by ${event_author} ${DEPLOY}", "text/plain; charset=utf-8", f"by hookline {DEPLOY}"),
        (
            "application/x-www-form-urlencoded",
            {"a": "${alias}", "k": "$DEPLOY"},
            None,
            "a=production&k=" + quote_plus(DEPLOY),
        ),
        ("application/cloudevents+json", {"id": "${event_id}"}, None, '{"id":"sample-event"}'),
        (None, ["${alias}", "${metric_value}"], "application/json", '["production",0.97]'),
    ],
)
def test_a_test_request_has_the_content_type_and_shows_what_it_sent(
    api: Api, content_type: str | None, payload: Any, header: str | None, sent: str
) -> None:
    put_secrets(api)
    with receiving() as receiver:
        hook = create_webhook(api, full_webhook(url=receiver.url))
        body = {"payload": payload} | ({} if content_type is None else {"content_type": content_type})
        shown = api.ok("POST", f"{ACME}/webhooks/{hook['id']}/test", body)
        api.ok("POST", f"{ACME}/webhooks/test", {"webhook": full_webhook(url=receiver.url), **body})
    for request in receiver.requests:
        assert request.headers["content-type"] == (header or content_type)
        assert request.body.decode() == sent
    assert len(receiver.requests) == 2
    masked = sent.replace(DEPLOY, "***DEPLOY***").replace(quote_plus(DEPLOY), "***DEPLOY***")
    is_json = content_type is None or content_type.endswith("json")
    assert shown["request"]["body"] == (json.loads(masked) if is_json else masked)
    assert shown["request"]["headers"]["Content-Type"] == (header or content_type)
    assert DEPLOY not in json.dumps(shown)


def test_a_refusal_names_what_is_near_and_what_the_event_has(api: Api) -> None:
    create_webhook(api)
    refused = api.refused("POST", f"{ACME}/automations", with_action(payload=["${artifact_versoin}"]), status=422)
    assert refused.locs == [["action", "payload", 0]]
    message = refused.errors[0]["msg"]
    assert "did you mean" in message
    assert "${artifact_version}" in message
    assert "metric_value" not in message
