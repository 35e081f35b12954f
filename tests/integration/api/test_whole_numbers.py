"""Numbers beyond 64 bits over REST: definitions, manifests, events, dry runs and what is exported."""

from __future__ import annotations

import json
from typing import Any

import pytest
from redis import Redis

from shared.messaging.streams import FIELD, stream_key
from tests.integration.api.conftest import ACME, Api, automation, create_webhook, event

NUMBERS = [2**63, 2**64 - 1, 2**64, 2**64 + 1, -(2**63) - 1, 10**30, 10**400 + 7, 10**4000 - 1]


def definition(**members: Any) -> dict[str, Any]:
    action = {"webhook": "deploy-hook", "payload": {"numbers": NUMBERS}}
    return automation("big", action=action, filter={"metadata.n": {"$in": NUMBERS}}, **members)


def check(shown: Any) -> None:
    assert shown["action"]["payload"] == {"numbers": NUMBERS}
    assert shown["filter"] == {"metadata.n": {"$in": NUMBERS}}


def test_a_definition_is_shown_as_it_was_written(api: Api) -> None:
    create_webhook(api)
    made = api.ok("POST", f"{ACME}/automations", definition(), status=201)
    check(made)
    path = f"{ACME}/automations/{made['id']}"
    check(api.ok("GET", path))
    check(api.ok("GET", f"{ACME}/automations")["items"][0])
    more = {"action": {"webhook": "deploy-hook", "payload": {"n": 2**70}}}
    assert api.ok("PATCH", path, more)["action"]["payload"] == {"n": 2**70}
    too_long = b'{"filter": {"alias": {"$in": [1, 1' + b"0" * 4500 + b"]}}}"
    fault = api.refused("PATCH", path, content=too_long, headers={"Content-Type": "application/json"}, status=400)
    assert "a whole number has more than 4000 digits" in fault.errors[0]["msg"]
    assert api.ok("GET", path)["action"]["payload"] == {"n": 2**70}


def test_a_manifest_is_exported_as_it_was_applied(api: Api) -> None:
    create_webhook(api)
    manifest = {"automations": [definition()]}
    assert api.ok("POST", f"{ACME}/apply", manifest)["changes"][0]["change"] == "created"
    assert api.ok("POST", f"{ACME}/apply", manifest)["changes"][0]["change"] == "unchanged"
    manifest["automations"][0]["action"] = {"webhook": "deploy-hook", "payload": {"numbers": [*NUMBERS[:-1], 1]}}
    assert api.ok("POST", f"{ACME}/apply?dry_run=true", manifest)["changes"][0]["change"] == "updated"
    exported = api.ok("GET", f"{ACME}/export")
    check(exported["automations"][0])


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{len(str(number))} digits")
def test_an_event_is_kept_as_it_was_sent_and_tried_as_such(api: Api, redis: Redis, number: int) -> None:
    create_webhook(api)
    artifact = {"id": "a", "version": "v1", "metadata": {"n": number}}
    sent = [event(artifact=artifact), event(artifact=artifact)]
    slow = event(artifact=artifact) | {"time": "2026-11-23T10:00:00+01:00"}  # read by the models
    api.ok("POST", "/v1/events", sent[0], key="publisher", status=202)
    api.ok("POST", "/v1/events", [sent[1], slow], key="publisher", status=202)
    streams: list[Any] = [redis.xrange(stream_key(partition)) for partition in range(4)]
    kept = [json.loads(fields[FIELD]) for entries in streams for _, fields in entries]
    assert [one["data"]["artifact"]["metadata"] for one in kept] == [{"n": number}] * 3

    body: dict[str, Any] = {"definition": definition(), "events": [sent[0], slow]}
    answer = api.ok("POST", f"{ACME}/automations/dry-run", body)
    assert answer["summary"]["matched"] == 2
    for result in answer["results"]:
        assert result["payload"] == {"numbers": NUMBERS}
    body["definition"]["filter"] = {"metadata.n": {"$gt": number}}
    answer = api.ok("POST", f"{ACME}/automations/dry-run", body)
    assert answer["summary"]["matched"] == 0
