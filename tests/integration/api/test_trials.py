"""The test button against real endpoints: it goes the way of a delivery, and says in plain words what is wrong."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from shared.settings import Settings
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
    running,
    webhook,
)
from tests.integration.receiver import Answer, receiving


def trial(api: Api, definition: dict[str, Any]) -> Any:
    """What a test of this webhook is answered."""
    hook = create_webhook(api, definition)
    answer = api.ok("POST", f"{ACME}/webhooks/{hook['id']}/test")
    api.ok("DELETE", f"{ACME}/webhooks/{hook['id']}", status=204)
    return answer


CODES = {
    200: "accepted",
    302: "redirected",
    401: "token_refused",
    403: "token_refused",
    404: "path_not_found",
    405: "post_not_allowed",
    410: "gone",
    413: "too_large",
    415: "media_type_refused",
    429: "too_many_requests",
    500: "endpoint_failed",
}
STATUSES = {
    200: "It works",
    302: "use the URL that it redirects to",
    401: "does not accept the webhook's access token",
    403: "does not accept the webhook's access token",
    404: "check the path",
    405: "accepts no POST",
    410: "permanently gone",
    413: "too large",
    415: "application/json",
    429: "too many requests",
    500: "failed (500)",
}


def test_each_answer_is_explained(api: Api) -> None:
    put_secrets(api)
    with receiving() as receiver:
        for status, words in STATUSES.items():
            headers = {"Location": "https://elsewhere.example/"}
            receiver.answer = lambda _request, status=status, headers=headers: Answer(status, headers)  # type: ignore[misc]
            answered = trial(api, full_webhook(url=receiver.url))
            assert words in answered["diagnosis"], status
            assert "was signed" in answered["diagnosis"]
            assert answered["code"] == CODES[status]
            assert answered["response"]["status"] == status
        receiver.answer = lambda _request: Answer(401)
        unauthenticated = trial(api, webhook(url=receiver.url))["diagnosis"]
        receiver.answer = lambda request: Answer(204, {"X-Echo": request.headers["authorization"]}, b"")
        shown = trial(api, full_webhook(url=receiver.url))
    assert {"name": "X-Echo", "value": "Bearer ***ACCESS_TOKEN***"} in shown["response"]["headers"]
    assert shown["request"]["headers"]["Authorization"] == "Bearer ***ACCESS_TOKEN***"
    assert shown["request"]["bytes"] > len(receiver.requests[-1].body) > 0
    assert shown["response"]["bytes"] > 0
    assert receiver.url.endswith(shown["connection"]["remote_address"])
    assert shown["timings"]["first_byte_ms"] > 0
    assert "has no access token" in unauthenticated
    assert "No signing secret" in unauthenticated
    assert len(receiver.requests) == len(STATUSES) + 2


@contextmanager
def listening(*, accept: bool) -> Iterator[int]:
    """The port of a server that never answers; without `accept` its queue is full, and nobody can connect."""
    with socket.create_server(("127.0.0.1", 0), backlog=0 if not accept else 5) as server:
        port = server.getsockname()[1]
        fillers = []
        if not accept:
            for _ in range(8):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
                fillers.append(filler)
        yield port
        for filler in fillers:
            filler.close()


def test_who_does_not_answer_is_told_from_who_is_not_there(api: Api) -> None:
    brief = {"timeout_seconds": 0.5, "connect_timeout_seconds": 0.2}
    with receiving() as receiver:
        gone = receiver.url
    answered = trial(api, webhook(url=gone))
    assert "nothing listens" in answered["diagnosis"]
    assert answered["code"] == "connection_refused"
    assert (answered["response"], answered["request"]["bytes"]) == (None, 0)
    assert gone.endswith(answered["connection"]["remote_address"])
    assert "not found in DNS" in trial(api, webhook(url="https://no-such-host.invalid/"))["diagnosis"]
    with listening(accept=True) as port:
        slow = trial(api, webhook(url=f"http://127.0.0.1:{port}/", policy=brief))
    assert "did not answer in time" in slow["diagnosis"]
    assert slow["outcome"] == "timeout"
    with listening(accept=False) as port:
        full = trial(api, webhook(url=f"http://127.0.0.1:{port}/", policy=brief))
    assert "did not accept the connection in time" in full["diagnosis"]


def test_what_the_guard_blocks_is_not_sent(api: Api, settings: Settings) -> None:
    with receiving() as receiver:
        port = receiver.url.rpartition(":")[2]
        hook = create_webhook(api, webhook(url=f"https://localhost:{port}/"))
        with running(settings.model_copy(update={"allowed_networks": ()})) as client:
            strict = Api(client)
            answered = strict.ok("POST", f"{ACME}/webhooks/{hook['id']}/test")
    assert answered["outcome"] == "blocked"
    assert "HOOKLINE_ALLOWED_NETWORKS" in answered["diagnosis"]
    assert receiver.requests == []


def certificate(folder: Path, *, name: str, expired: bool = False, signer: Any = None) -> Path:
    """A PEM file with a key and a certificate for `name`, self-signed or by a signer."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    alternative: list[x509.GeneralName] = [x509.DNSName(name)]
    if name == "127.0.0.1":
        alternative = [x509.IPAddress(IPv4Address(name))]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=-1 if expired else 30))
        .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(signer or key, SHA256())
    )
    path = folder / f"{name}-{expired}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    return path


@contextmanager
def tls_server(pem: Path) -> Iterator[int]:
    """The port of a server that shakes hands with this certificate and goes no further."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_shake_hands, args=(server, context), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def _shake_hands(server: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return  # the test is over
        with connection:
            try:
                context.wrap_socket(connection, server_side=True).close()
            except OSError:
                continue  # the client refused, which is what the test is about


def test_bad_certificates_are_told_apart(
    api: Api, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired = certificate(tmp_path, name="127.0.0.1", expired=True)
    elsewhere = certificate(tmp_path, name="elsewhere.example")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(expired.read_bytes() + elsewhere.read_bytes())

    with tls_server(certificate(tmp_path, name="127.0.0.1")) as port:
        answered = trial(api, webhook(url=f"https://127.0.0.1:{port}/"))
        assert "self-signed" in answered["diagnosis"]
        assert answered["outcome"] == "network"
    # The other two are trusted as such, so that what is wrong with them comes to light.
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with running(settings) as client:
        trusting = Api(client)
        for pem, words in ((expired, "has expired"), (elsewhere, "another host name")):
            with tls_server(pem) as port:
                assert words in trial(trusting, webhook(url=f"https://127.0.0.1:{port}/"))["diagnosis"]
    with receiving() as receiver:
        plain = receiver.url.replace("http:", "https:")
        assert "does not speak TLS" in trial(api, webhook(url=plain))["diagnosis"]


def test_a_secret_whose_key_is_lost_is_named(api: Api, settings: Settings) -> None:
    put_secrets(api)
    hook = create_webhook(api, full_webhook())
    path = f"{ACME}/webhooks/{hook['id']}"
    assert api.ok("GET", path, key="member")["unreadable_secrets"] == []
    other = settings.model_copy(update={"secret_keys": SecretStr(Fernet.generate_key().decode())})
    with running(other) as client:
        api = Api(client, api.keys)
        assert api.ok("GET", path, key="member")["unreadable_secrets"] == ["DEPLOY", "SIGNING", "TOKEN"]
        listed = api.ok("GET", f"{ACME}/webhooks")["items"]
        assert listed == [hook | {"unreadable_secrets": ["DEPLOY", "SIGNING", "TOKEN"]}]
        problem = api.refused("POST", f"{path}/test", {}, status=409)
        assert "HOOKLINE_SECRET_KEYS lacks the key" in problem.detail
        api.ok("PUT", f"{ACME}/secrets/TOKEN", {"value": "another-token"})
        assert api.ok("GET", path)["unreadable_secrets"] == ["DEPLOY", "SIGNING"]
        api.ok("PATCH", path, {"signing_secret": None, "secrets": []})
        assert api.ok("GET", path)["unreadable_secrets"] == []


def test_links_to_the_console_are_shown_where_its_address_is_known(api: Api, settings: Settings) -> None:
    payload = {"see": "${automation_url}", "of": "${delivery_url:-none}"}
    known = settings.model_copy(update={"public_url": "https://hooks.example.com", "root_path": "/hookline"})
    hidden = known.model_copy(update={"console": False})
    with receiving() as receiver:
        create_webhook(api, webhook(url=receiver.url))
        saved = create_automation(api, automation(action={"webhook": "deploy-hook", "payload": payload}))
        page = f"https://hooks.example.com/hookline/console/e/acme/automations/{saved['id']}"
        for used, of_automation in ((settings, None), (hidden, None), (known, page)):
            with running(used) as client:
                there = Api(client, api.keys)
                for body in ({}, {"event": event("e-1")}):
                    told = there.ok("POST", f"{ACME}/automations/{saved['id']}/test", body)
                    assert told["request"]["body"] == {"see": of_automation, "of": "none"}
                    assert ("automation_url" in str(told["notes"])) == (not of_automation)
                tried = {"automation": saved["id"], "event": event("e-1")}
                [result] = there.ok("POST", f"{ACME}/automations/dry-run", tried)["results"]
                delivery = page.partition("/automations/")[0] + "/deliveries/dlv_" if of_automation else "none"
                assert result["payload"]["see"] == of_automation
                assert result["payload"]["of"].startswith(delivery)
    assert page in str(receiver.requests[-1].json)


def test_a_webhook_is_tested_before_it_is_saved(api: Api) -> None:
    put_secrets(api)
    with receiving() as receiver:
        draft = full_webhook(url=receiver.url)
        body = {"webhook": draft, "payload": {"token": "${DEPLOY}", "alias": "${alias}"}}
        answered = api.ok("POST", f"{ACME}/webhooks/test", body)
    sent = receiver.requests[0]
    assert json.loads(sent.body) == {"token": DEPLOY, "alias": "production"}
    assert "webhook-signature" in {name.lower() for name in sent.headers}
    assert answered["request"]["body"] == {"token": "***DEPLOY***", "alias": "production"}
    assert (answered["outcome"], answered["code"]) == ("2xx", "accepted")
    assert api.ok("GET", f"{ACME}/webhooks")["items"] == []
    bad = {"webhook": draft | {"access_token": "NOBODY", "url": "ftp://x"}}
    assert api.refused("POST", f"{ACME}/webhooks/test", bad, status=422).locs == [
        ["webhook", "url"],
        ["webhook", "access_token"],
    ]
    api.refused("POST", f"{ACME}/webhooks/test", {"webhook": draft}, status=403, key="member")
    assert api.refused("POST", f"{ACME}/webhooks/test", {}, status=422).locs == [["webhook"]]


def test_a_slack_integration_is_tested(api: Api) -> None:
    with receiving() as receiver:
        receiver.answer = lambda _request: Answer(404)
        api.ok("PUT", f"{ACME}/secrets/SLACK_URL", {"value": receiver.url}, status=201)
        made = api.ok(
            "POST",
            f"{ACME}/slack",
            {"name": "ops", "url_secret": "SLACK_URL", "team": "T", "channel": "#ops"},
            status=201,
        )
        answered = api.ok("POST", f"{ACME}/slack/{made['id']}/test")
    assert "A test of Hookline" in receiver.requests[0].body.decode()
    assert (answered["response"]["status"], answered["code"]) == (404, "path_not_found")
    assert receiver.url not in json.dumps(answered)
    api.refused("POST", f"{ACME}/slack/{made['id']}/test", status=403, key="member")
    api.refused("POST", f"{ACME}/slack/slk_99/test", status=404)


METRIC_EVENT = {
    "specversion": "1.0",
    "id": "m1",
    "source": "/test",
    "type": "RUN_METRIC",
    "data": {"entity": "acme", "project": "p", "run": {"id": "r"}, "step": 1, "metrics": {"loss": 0.25}},
}


def test_an_automation_is_tested_with_its_own_payload(api: Api) -> None:
    put_secrets(api)
    with receiving() as receiver:
        create_webhook(api, full_webhook(url=receiver.url))
        action = {"webhook": "deploy-hook", "payload": {"alias": "${alias}", "key": "${DEPLOY}", "run": "${run_id}"}}
        made = create_automation(api, automation(action=action))
        path = f"{ACME}/automations/{made['id']}/test"
        sampled = api.ok("POST", path)
        staging = event(alias="staging")
        given = api.ok("POST", path, {"event": staging})
        for body, loc in (
            ({"event": staging | {"type": "CREATE_ARTIFACT"}}, ["event", "type"]),
            ({"event": event(entity="other")}, ["event", "data", "entity"]),
            ({"event": {}}, ["event", "type"]),
        ):
            assert api.refused("POST", path, body, status=422).locs == [loc]
        metric = automation(
            "metric",
            event="RUN_METRIC",
            filter={},
            scope={},
            conditions=[{"metric": "loss", "op": "$gt", "threshold": 0.5}],
            action={"webhook": "deploy-hook", "payload": {"m": "${metric_name} ${metric_value} ${metric_threshold}"}},
        )
        path = f"{ACME}/automations/{create_automation(api, metric)['id']}/test"
        api.ok("POST", path, {"event": METRIC_EVENT})
    bodies = [json.loads(request.body) for request in receiver.requests]
    assert [(body["alias"], body["run"]) for body in bodies[:2]] == [("production", None), ("staging", None)]
    assert bodies[0]["key"] == DEPLOY
    assert bodies[2] == {"m": "loss 0.25 0.5"}
    assert sampled["request"]["body"] == {"alias": "production", "key": "***DEPLOY***", "run": None}
    (note,) = given["notes"]
    assert "${run_id}" in note
    assert "alias" not in note
    assert given["code"] == "accepted"
    assert api.ok("GET", f"{ACME}/deliveries")["items"] == []
    idle = create_automation(api, automation("idle", action={"no_op": True}))
    api.refused("POST", f"{ACME}/automations/{idle['id']}/test", status=409)
    api.refused("POST", path, status=403, key="member")
