"""An endpoint that sends back what it gets: no secret of it in the history, the answers or the logs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from shared.storage.definitions.webhook_fields import WebhookKind
from shared.storage.maintenance import first_start
from tests.integration.api.conftest import Api, running
from tests.integration.receiver import Answer, Received
from tests.integration.scene import Scene, alias_event

SECRETS = {
    "TOKEN": "tok-5e6f2b7c",
    "SIGNING": "whsec_c2lnbmluZy1rZXktb2YtMjQtYnl0ZXMh",
    "DEPLOY": 'dep"loy\\7c1d <é>',
    "SLACK_URL": "/services/T0001/B0002/s3cr3tS3cr3t",
}


def echo(request: Received) -> Answer:
    """All of the request, as JSON inside JSON, once plain and once in the way of a debug page."""
    said = {"path": request.path, "headers": request.headers, "body": request.body.decode()}
    headers = {"X-Token": request.headers.get("authorization", ""), "X-Path": request.path}
    return Answer(500, headers, body=(json.dumps(said) + "\n" + repr(said)).encode())


@pytest.fixture
def echoing(scene: Scene) -> Iterator[Scene]:
    """A scene with a webhook that uses every secret, one Slack integration, and a receiver that echoes."""
    scene.receiver.answer = echo
    for name, value in SECRETS.items():
        scene.secret(name, scene.receiver.url + value if name == "SLACK_URL" else value)
    hook = scene.webhook(access_token="TOKEN", signing_secret="SIGNING", secrets=("DEPLOY", "SIGNING"))
    payload = {"key": "${DEPLOY}", "token": "${ACCESS_TOKEN}", "sign": "$SIGNING"}
    scene.automation(hook, secrets=["DEPLOY", "SIGNING"], payload=payload)
    chat = scene.webhook("chat", url="", kind=WebhookKind.SLACK, url_secret="SLACK_URL")
    scene.automation(chat, action={"slack": f"slk_{chat}"})
    scene.publish(alias_event())
    scene.evaluate()
    yield scene


def traces(text: str) -> list[str]:
    """The secrets that can be read out of a text."""
    readable = [text, text.replace("\\\\", "\\").replace('\\"', '"'), json.dumps(text)]
    parts = [*SECRETS.values(), 'dep"loy', "dep\\", "s3cr3tS3cr3t"]
    return [part for part in parts for one in readable if part in one]


def test_an_echo_leaves_no_secret_anywhere(echoing: Scene) -> None:
    with capture_logs() as logs:
        echoing.deliver()

    assert len(echoing.receiver.requests) == 2
    assert any(SECRETS["TOKEN"] in str(request.headers) for request in echoing.receiver.requests)
    assert not traces(str(logs))
    for attempt in echoing.attempts():
        assert not traces(attempt.response_body), attempt.response_body
        assert "***" in attempt.response_body
        assert not traces(attempt.request_url + attempt.exchange), attempt.exchange
        assert "X-Path" in attempt.exchange
    assert not traces(str(echoing.rows()))

    first_start.prepare(echoing.settings)
    with running(echoing.settings) as client:
        api = Api(client)
        page = api.ok("GET", "/v1/entities/acme/deliveries")
        for delivery in page["items"]:
            api.ok("GET", f"/v1/entities/acme/deliveries/{delivery['id']}")
    assert {delivery["webhook"]["id"].partition("_")[0] for delivery in page["items"]} == {"wh", "slk"}
    assert {delivery["webhook"]["name"] for delivery in page["items"]} == {"hook", "chat"}
    assert not traces("".join(api.answers))


def test_a_secret_that_the_kept_part_of_an_answer_cuts_in_two_leaves_no_beginning(scene: Scene) -> None:
    scene.secret("TOKEN", SECRETS["TOKEN"])
    scene.automation(scene.webhook(access_token="TOKEN"))
    scene.receiver.answer = lambda _request: Answer(body=b"x" * (4096 - 8) + SECRETS["TOKEN"].encode() * 9)
    scene.publish(alias_event())
    scene.evaluate()
    scene.deliver()
    [attempt] = scene.attempts()
    assert attempt.response_truncated
    assert SECRETS["TOKEN"][:4] not in attempt.response_body
