"""How a webhook authenticates beyond a token: headers, Basic, secrets in its URL, two signing keys; and masking."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from standardwebhooks import Webhook
from structlog.testing import capture_logs

from shared.domain.delivery.signing import WandbSignature
from shared.domain.errors import EndpointUnusable
from shared.messaging.celery_app import DELIVER_QUEUE, SLOW_QUEUE
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.revisions import next_revision
from shared.storage.definitions.webhooks import WebhookEdit, find_webhook, update_webhooks
from shared.storage.delivery.webhook_snapshots import load_endpoint
from tests.integration.processes import wait_until
from tests.integration.receiver import Answer, Received
from tests.integration.scene import Scene, alias_event

KEY = "key-canary-7f3a~1"
PASSWORD = "päss-canary-92c1:x"
URL_TOKEN = "url/canary?&#5b1e"
SIGNING = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
NEXT = "whsec_" + base64.b64encode(b"another key of thirty-two bytes!").decode()


def deliver(scene: Scene, hook: int) -> Received:
    """Fire once, and the request that came."""
    scene.automation(hook)
    scene.publish(alias_event())
    scene.evaluate()
    scene.receiver.requests.clear()
    scene.deliver()
    [request] = scene.receiver.requests
    return request


def edit(scene: Scene, hook: int, **fields: Any) -> None:
    """Change fields of a webhook, as the API does."""
    with read_transaction(scene.process.engine) as connection:
        stored = find_webhook(connection, scene.entity_id, webhook_id=hook)
    assert stored is not None
    with write_transaction(scene.process.engine) as connection:
        one = WebhookEdit(
            stored=stored,
            after=replace(stored.fields, **fields),
            revision=next_revision(connection),
            clear_failures=False,
        )
        update_webhooks(connection, [one], secret_ids=scene.secret_ids, now=datetime.now(UTC))


def test_headers_carry_granted_secrets(scene: Scene) -> None:
    scene.secret("KEY", KEY)
    headers = {"Authorization": "GenieKey ${KEY}", "X-Api-Key": "${KEY}", "X-Team": "ml"}
    request = deliver(scene, scene.webhook(headers=headers, secrets=("KEY",)))
    assert request.headers["authorization"] == f"GenieKey {KEY}"
    assert (request.headers["x-api-key"], request.headers["x-team"]) == (KEY, "ml")


def test_basic_is_sent_as_the_rfc_has_it(scene: Scene) -> None:
    scene.secret("PASSWORD", PASSWORD)
    request = deliver(scene, scene.webhook(basic_user="ci", basic_password="PASSWORD"))
    scheme, _, encoded = request.headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(encoded).decode()) == ("Basic", f"ci:{PASSWORD}")


def test_secrets_stand_percent_encoded_in_path_and_query(scene: Scene) -> None:
    scene.secret("TOKEN", URL_TOKEN)
    url = f"{scene.receiver.url}/hooks/${{TOKEN}}/run?sig=${{TOKEN}}&ref=main"
    request = deliver(scene, scene.webhook(url=url, secrets=("TOKEN",)))
    spelled = quote(URL_TOKEN, safe="")
    assert request.path == f"/hooks/{spelled}/run?sig={spelled}&ref=main"


def test_a_url_may_be_a_secret_as_a_whole(scene: Scene) -> None:
    scene.secret("URL", f"{scene.receiver.url}/api/webhooks/1/the-token-in-the-path?sig=s1g-in-the-query")
    request = deliver(scene, scene.webhook(url="", url_secret="URL"))
    assert request.path == "/api/webhooks/1/the-token-in-the-path?sig=s1g-in-the-query"


@pytest.mark.parametrize("way", ["drain", "fast path"])
def test_another_value_or_edit_counts_at_once(scene: Scene, way: str) -> None:
    """Endpoints are kept open from request to request: each new kind of secret has to be noticed."""
    if way == "fast path":
        scene.consumed |= {DELIVER_QUEUE, SLOW_QUEUE}
    for name in ("KEY", "TOKEN"):
        scene.secret(name, f"first-{name}")
    scene.secret("PASSWORD", "first-PASSWORD")
    keyed = scene.webhook(
        "keyed",
        url=f"{scene.receiver.url}/keyed/${{TOKEN}}",
        headers={"X-Api-Key": "${KEY}"},
        secrets=("KEY", "TOKEN"),
        basic_user="ci",
        basic_password="PASSWORD",
    )
    scene.automation(keyed)

    def fire() -> Received:
        before = len(scene.receiver.requests)
        scene.publish(alias_event())
        scene.evaluate()
        scene.deliver()
        wait_until(lambda: len(scene.receiver.requests) > before, "the request")
        scene.settle()
        return scene.receiver.requests[-1]

    def seen(request: Received) -> tuple[str, str, str]:
        password = base64.b64decode(request.headers["authorization"].split()[1]).decode().partition(":")[2]
        return request.path.rpartition("/")[2], request.headers["x-api-key"], password

    assert seen(fire()) == ("first-TOKEN", "first-KEY", "first-PASSWORD")
    for name in ("KEY", "TOKEN", "PASSWORD"):
        scene.new_value(name, f"second-{name}")
    assert seen(fire()) == ("second-TOKEN", "second-KEY", "second-PASSWORD")
    edit(scene, keyed, headers={"X-Api-Key": "<${KEY}>"})
    assert seen(fire())[1] == "<second-KEY>"


def test_a_signing_secret_is_changed_without_a_gap(scene: Scene) -> None:
    """The receiver has the old key, then both, then the new one; nothing is ever refused."""
    keys = [SIGNING]

    def answer(request: Received) -> Answer:
        sent, at = request.headers, datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)
        expected = {Webhook(key).sign(sent["webhook-id"], at, request.body.decode()) for key in keys}
        return Answer(200 if expected & set(sent["webhook-signature"].split()) else 401)

    scene.receiver.answer = answer
    scene.secret("SIGNING", SIGNING)
    scene.secret("NEXT", NEXT)
    hook = scene.webhook(signing_secret="SIGNING")
    scene.automation(hook)

    def fire() -> str:
        scene.publish(alias_event())
        scene.evaluate()
        scene.process.webhooks.drain(hook)
        scene.settle()
        return str(scene.rows()[-1].status)

    assert fire() == "delivered"
    until = scene.clock.now() + timedelta(hours=1)
    edit(scene, hook, signing_secret="NEXT", former_signing_secret="SIGNING", former_signing_until=until)
    assert fire() == "delivered"
    keys[:] = [NEXT]
    assert fire() == "delivered"
    scene.clock.advance(3600)
    assert fire() == "delivered"
    assert scene.receiver.requests[-1].headers["webhook-signature"].count("v1,") == 1
    keys[:] = [SIGNING]
    assert fire() == "refused", "the former key's time is over"


def test_a_receiver_may_read_the_wandb_signature_as_hex(scene: Scene) -> None:
    scene.secret("SIGNING", "0123456789abcdef0123456789abcdef")
    request = deliver(scene, scene.webhook(signing_secret="SIGNING", wandb_signature=WandbSignature.HEX))
    expected = hmac.new(b"0123456789abcdef0123456789abcdef", request.body, hashlib.sha256).hexdigest()
    assert request.headers["x-wandb-signature"] == expected


def test_an_echo_leaves_none_of_them_anywhere(scene: Scene) -> None:
    def echo(request: Received) -> Answer:
        said = {"path": request.path, "headers": request.headers}
        decoded = base64.b64decode(request.headers.get("authorization", "Basic ").split()[-1] + "==").decode(
            "utf-8", "replace"
        )
        return Answer(500, body=(json.dumps(said) + repr(said) + decoded).encode())

    scene.receiver.answer = echo
    secret_url = f"{scene.receiver.url}/api/webhooks/a-long-first-segment/the-token-in-the-path?sig=s1g-in-the-query"
    for name, value in {"KEY": KEY, "PASSWORD": PASSWORD, "TOKEN": URL_TOKEN, "URL": secret_url}.items():
        scene.secret(name, value)
    hooks = [
        scene.webhook(
            "parts",
            url=f"{scene.receiver.url}/${{TOKEN}}",
            headers={"X-Api-Key": "k ${KEY}"},
            secrets=("KEY", "TOKEN"),
            basic_user="ci",
            basic_password="PASSWORD",
        ),
        scene.webhook("whole", url="", url_secret="URL"),
    ]
    for hook in hooks:
        scene.automation(hook)
    scene.publish(alias_event())
    scene.evaluate()
    with capture_logs() as logs:
        scene.deliver()
    shown = str(logs) + str([tuple(row) for row in [*scene.rows(), *scene.attempts()]])
    assert "***KEY***" in shown
    canaries = [KEY, PASSWORD, URL_TOKEN, quote(URL_TOKEN, safe=""), json.dumps(PASSWORD)[1:-1]]
    canaries += [base64.b64encode(f"ci:{PASSWORD}".encode()).decode()]
    canaries += ["a-long-first-segment", "the-token-in-the-path", "s1g-in-the-query"]
    assert [one for one in canaries if one in shown] == []


def test_an_endpoint_says_what_may_be_shown_of_a_request(scene: Scene) -> None:
    """One place, for all who show requests."""
    scene.secret("KEY", KEY)
    scene.secret("TOKEN", "tok-canary-11")
    hook = scene.webhook(
        url=f"{scene.receiver.url}/${{KEY}}", headers={"X-Key": "${KEY}"}, secrets=("KEY",), access_token="TOKEN"
    )
    with read_transaction(scene.process.engine) as connection:
        snapshot = load_endpoint(connection, hook)
        assert snapshot is not None
        endpoint = scene.process.endpoints.open(connection, snapshot)
    assert endpoint.shown_url == f"{scene.receiver.url}/***KEY***"
    shown = endpoint.mask_headers({**endpoint.headers, "webhook-id": "dlv_1"})
    assert shown["Authorization"] == "Bearer ***ACCESS_TOKEN***"
    assert (shown["X-Key"], shown["webhook-id"]) == ("***KEY***", "dlv_1")
    assert KEY not in repr(endpoint)


def test_a_header_whose_grant_is_gone_makes_the_endpoint_unusable(scene: Scene) -> None:
    """It can't be saved so; somebody wrote to the database. Nothing goes out with half of its headers."""
    hook = scene.webhook(headers={"X-Key": "${KEY}"})
    with read_transaction(scene.process.engine) as connection:
        snapshot = load_endpoint(connection, hook)
        assert snapshot is not None
        with pytest.raises(EndpointUnusable, match="not granted"):
            scene.process.endpoints.open(connection, snapshot)
