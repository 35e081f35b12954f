"""Bodies of every content type, and values with their types: fired, sent, signed, masked and replayed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from standardwebhooks.webhooks import Webhook

from shared.storage.database.transactions import write_transaction
from shared.storage.delivery.replay import replay
from tests.integration.receiver import Answer, Received
from tests.integration.scene import Scene, alias_event, metric_event

SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TOKEN = 'tok&en="5e6f"+%2b é'
HOSTILE = "prod&admin=1\n{'x': \"${TOKEN}\"}"
FORM = "application/x-www-form-urlencoded"


def hook(scene: Scene, name: str) -> int:
    if not scene.secret_ids:
        scene.secret("SIGNING", SIGNING)
        scene.secret("TOKEN", TOKEN)
    return scene.webhook(name, signing_secret="SIGNING", secrets=("TOKEN",))


def sending(scene: Scene, name: str, payload: Any, **action: Any) -> None:
    """An automation that sends this payload to a webhook of its own."""
    number = hook(scene, name)
    named = {"webhook": f"wh_{number}", "payload": payload, **action}
    scene.automation(number, secrets=["TOKEN"], action=named)


def echo(request: Received) -> Answer:
    return Answer(400, body=b"got " + request.body)


def test_each_body_is_sent_signed_and_masked_as_what_it_is(scene: Scene) -> None:
    scene.receiver.answer = echo
    sending(
        scene, "form", {"alias": "$alias", "token": "$TOKEN", "j": {"a": "$alias", "t": "$TOKEN"}}, content_type=FORM
    )
    sending(scene, "plain", "alias=$alias\ntoken=${TOKEN}", content_type="text/plain")
    sending(scene, "json", {"v": "${version_index}", "m": "${artifact_metadata}", "t": "$TOKEN"}, payload_types="json")
    sending(scene, "text", {"v": "${version_index}", "$schema": "${artifact_metadata}"})
    sending(scene, "list", ["$alias"], content_type="application/vnd.example+json")
    scene.publish(alias_event(HOSTILE.replace("\n", " "), author="a\u2028b"))
    scene.evaluate()
    scene.deliver()

    requests = {request.path.strip("/"): request for request in scene.receiver.requests}
    alias = HOSTILE.replace("\n", " ")
    assert {name: request.headers["content-type"] for name, request in requests.items()} == {
        "form": FORM,
        "plain": "text/plain; charset=utf-8",
        "json": "application/json",
        "text": "application/json",
        "list": "application/vnd.example+json",
    }
    *fields, (name, nested) = parse_qsl(requests["form"].body.decode(), strict_parsing=True)
    assert fields == [("alias", alias), ("token", TOKEN)]
    assert (name, json.loads(nested)) == ("j", {"a": alias, "t": TOKEN})
    assert requests["plain"].body.decode() == f"alias={alias}\ntoken={TOKEN}"
    assert requests["json"].json == {"v": 3, "m": {"type": "llm"}, "t": TOKEN}
    assert requests["text"].json == {"v": "3", "$schema": '{"type":"llm"}'}
    assert requests["list"].json == [alias]
    for request in requests.values():
        # The library decodes JSON once it is content with the signature.
        verified = Webhook(SIGNING).sign(
            request.headers["webhook-id"],
            datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC),
            request.body.decode(),
        )
        assert verified == request.headers["webhook-signature"]
    stored = str([scene.rows(), scene.attempts()])
    assert "***TOKEN***" in stored
    for secret in (TOKEN, json.dumps(TOKEN), "tok%26en", "5e6f"):
        assert secret not in stored

    scene.receiver.requests.clear()
    with write_transaction(scene.process.engine) as connection:
        replay(connection, [row.seq for row in scene.rows()], datetime.now(UTC), interval=timedelta())
    scene.deliver()
    again = {request.path.strip("/"): request for request in scene.receiver.requests}
    assert {name: (r.body, r.headers["content-type"]) for name, r in again.items()} == {
        name: (r.body, r.headers["content-type"]) for name, r in requests.items()
    }


def test_a_metric_arrives_as_it_was_logged(scene: Scene) -> None:
    payload = {
        "value": "${metric_value}",
        "of": "${metric_threshold}",
        "before": "${metric_previous}",
        "change": "${metric_change}",
        "compared": "${metric_aggregate}",
        "step": "${metric_step}",
        "why": "${metric_condition}",
        "text": "${metric_value} > ${metric_threshold}",
    }
    number = hook(scene, "metric")
    conditions = [{"metric": "loss", "aggregate": "AVERAGE", "window": 2, "op": "$gt", "threshold": 3}]
    scene.automation(
        number,
        event="RUN_METRIC",
        conditions=conditions,
        cooldown=None,
        action={"webhook": f"wh_{number}", "payload": payload, "payload_types": "json"},
    )
    scene.publish(metric_event(1, loss=2), metric_event(2, loss=5), metric_event(3, loss=6))
    scene.evaluate()
    scene.deliver()
    (request,) = scene.receiver.requests
    assert request.body.decode() == json.dumps(
        {
            "value": 5,
            "of": 3,
            "before": 2,
            "change": 3,
            "compared": 3.5,
            "step": 2,
            "why": "AVERAGE of loss over 2 $gt 3",
            "text": "5 > 3",
        },
        separators=(",", ":"),
    )
