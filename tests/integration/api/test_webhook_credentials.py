"""Headers, Basic, secret URLs and two signing keys, on every way on which a webhook is written and shown."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.integration.api.conftest import ACME, Api, create_webhook, webhook
from tests.integration.receiver import Answer, Received, receiving

RAW = "0123456789abcdef0123456789abcdef"
WHSEC = "whsec_" + base64.b64encode(RAW.encode()).decode()
NEXT = "whsec_" + base64.b64encode(b"another key of thirty-two bytes!").decode()
TOKEN_URL = "https://discord.com/api/webhooks/1/THE-TOKEN-IN-THE-PATH"
VALUES = {
    "GENIE": "k-1-canary-genie",
    "APIKEY": "k-2-canary-apikey",
    "PASSWORD": "pässword-canary",
    "URL": TOKEN_URL,
    "SIGNING": WHSEC,
    "NEXT": NEXT,
    "LINES": "two\nlines",
}
FULL: dict[str, Any] = {
    "name": "full",
    "url": "https://example.com/${APIKEY}?sig=${GENIE}",
    "basic": {"user": "ci", "password_secret": "PASSWORD"},
    "headers": {"X-Api-Key": "${APIKEY}", "X-Team": "ml"},
    "signing_secret": "NEXT",
    "former_signing_secret": "SIGNING",
    "former_signing_until": "2026-12-08T00:00:00Z",
    "wandb_signature": "hex",
    "secrets": ["APIKEY", "GENIE"],
}
SECRET_URL = {"name": "discord", "url_secret": "URL"}


@pytest.fixture
def kept(api: Api) -> Api:
    """An API whose entity has the secrets."""
    for name, value in VALUES.items():
        api.ok("PUT", f"{ACME}/secrets/{name}", {"value": value}, status=201)
    return api


def test_they_are_kept_shown_exported_and_restored(kept: Api) -> None:
    made = create_webhook(kept, FULL)
    assert made | FULL == made
    path = f"{ACME}/webhooks/{made['id']}"
    assert kept.ok("GET", path, key="member") == made
    discord = create_webhook(kept, SECRET_URL)
    assert (discord["url"], discord["url_secret"]) == (None, "URL")

    exported = kept.ok("GET", f"{ACME}/export")
    assert exported["webhooks"] == [FULL, SECRET_URL]
    assert {one["change"] for one in kept.ok("POST", f"{ACME}/apply", exported)["changes"]} == {"unchanged"}

    plain = {"headers": {"X-Api-Key": None}, "basic": None, "url": "https://example.com/", "wandb_signature": None}
    changed = kept.ok("PATCH", path, plain)
    assert (changed["headers"], changed["basic"]) == ({"X-Team": "ml"}, None)
    [first, second] = reversed(kept.ok("GET", f"{path}/revisions")["items"])
    assert second["changed"] == ["basic", "headers", "url", "wandb_signature"]
    shown = kept.ok("GET", f"{path}/revisions/{first['number']}")["definition"]
    assert shown | FULL == shown
    restored = kept.ok("POST", f"{path}/revisions/{first['number']}/restore")
    assert restored | FULL == restored

    assert not [value for value in VALUES.values() if value in "".join(kept.answers)]
    for name in ("APIKEY", "GENIE", "PASSWORD", "SIGNING", "NEXT"):
        assert kept.ok("GET", f"{ACME}/secrets/{name}")["used_by"] == ["full"]
        kept.refused("DELETE", f"{ACME}/secrets/{name}", status=409)


def test_members_read_the_password_in_a_url_nowhere(kept: Api) -> None:
    create_webhook(kept, SECRET_URL)
    create_webhook(kept, {"name": "path", "url": "https://example.com/${GENIE}", "secrets": ["GENIE"]})
    kept.ok("GET", f"{ACME}/webhooks", key="member")
    kept.ok("GET", f"{ACME}/export", key="member")
    query = '{entity(name:"acme"){integrations{edges{node{... on GenericWebhookIntegration{name urlEndpoint}}}}}}'
    shown = kept.ok("POST", "/graphql", {"query": query}, key="member")
    nodes = [edge["node"] for edge in shown["data"]["entity"]["integrations"]["edges"]]
    assert nodes == [
        {"name": "discord", "urlEndpoint": "***URL***"},
        {"name": "path", "urlEndpoint": "https://example.com/${GENIE}"},
    ]
    text = "".join(kept.answers)
    assert "THE-TOKEN" not in text
    assert VALUES["GENIE"] not in text


BAD: list[tuple[dict[str, Any], list[Any], str]] = [
    ({"url": None}, ["url"], "is required, or url_secret"),
    ({"url_secret": "URL"}, ["url"], "must be left out"),
    ({"url": None, "url_secret": "NONE"}, ["url_secret"], "must be the name of a secret"),
    ({"url": None, "url_secret": "GENIE"}, ["url_secret"], "must be an absolute URL"),
    ({"url": "https://${GENIE}/", "secrets": ["GENIE"]}, ["url"], "path and query only"),
    ({"url": "https://example.com/${GENIE}"}, ["url"], "granted"),
    ({"url": "https://10.0.0.1/${GENIE}", "secrets": ["GENIE"]}, ["url"], "not a public address"),
    ({"url": "https://example.com/${LINES}", "secrets": ["LINES"]}, ["url"], "as a part of a URL"),
    ({"url": "https://ci:${GENIE}@example.com/", "secrets": ["GENIE"]}, ["url"], "path and query only"),
    ({"headers": {"X-Key": "${APIKEY}"}}, ["headers", "X-Key"], "granted"),
    ({"headers": {"X-Key": "${LINES}"}, "secrets": ["LINES"]}, ["headers", "X-Key"], "as a part of a header"),
    ({"headers": {"Content-Length": "5"}}, ["headers", "Content-Length"], "Hookline sets itself"),
    ({"headers": {"X": "a\r\nB: c"}}, ["headers", "X"], "printable ASCII"),
    ({"headers": {"X": 5}}, ["headers", "X"], "text"),
    ({"headers": ["X: y"]}, ["headers"], "object"),
    ({"headers": {"Authorization": "x"}, "access_token": "GENIE"}, ["access_token"], "the only one"),
    ({"basic": {"user": "a", "password_secret": "PASSWORD"}, "access_token": "GENIE"}, ["access_token"], "only one"),
    (
        {"basic": {"user": "a", "password_secret": "PASSWORD"}, "headers": {"authorization": "x"}},
        ["basic"],
        "the only one",
    ),
    ({"basic": {"user": "a:b", "password_secret": "PASSWORD"}}, ["basic", "user"], "without a colon"),
    ({"basic": {"user": "a", "password_secret": "LINES"}}, ["basic", "password_secret"], "as a password"),
    ({"basic": {"user": "a", "password_secret": "NONE"}}, ["basic", "password_secret"], "must be the name of a secret"),
    ({"basic": {"user": "a"}}, ["basic", "password_secret"], "is required"),
    ({"basic": {"user": "a", "password": "p"}}, ["basic", "password_secret"], "is required"),
    ({"signing_secret": "NEXT", "former_signing_secret": "SIGNING"}, ["former_signing_until"], "is required"),
    ({"signing_secret": "NEXT", "former_signing_until": "2026-12-08T00:00:00Z"}, ["former_signing_secret"], "required"),
    (
        {"former_signing_secret": "SIGNING", "former_signing_until": "2026-12-08T00:00:00Z"},
        ["signing_secret"],
        "is required",
    ),
    (
        {"signing_secret": "NEXT", "former_signing_secret": "NEXT", "former_signing_until": "2026-12-08T00:00:00Z"},
        ["former_signing_secret"],
        "another secret",
    ),
    (
        {"signing_secret": "NEXT", "former_signing_secret": "SIGNING", "former_signing_until": "tomorrow"},
        ["former_signing_until"],
        "RFC 3339",
    ),
    ({"wandb_signature": "base32"}, ["wandb_signature"], "'base64' or 'hex'"),
]


def test_what_can_not_be_is_refused_with_one_clear_error(kept: Api) -> None:
    for members, loc, words in BAD:
        body = {**webhook(), **members}
        problem = kept.refused("POST", f"{ACME}/webhooks", body, status=422)
        assert loc in problem.locs, (members, problem.locs)
        assert words in str(problem.errors), (members, problem.errors)
        assert not [value for value in VALUES.values() if value in str(problem.errors)]
        applied = kept.refused("POST", f"{ACME}/apply", {"webhooks": [body]}, status=422)
        assert ["webhooks", 0, *loc] in applied.locs
    assert kept.ok("GET", f"{ACME}/webhooks")["items"] == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (f"{RAW}\n", "white space or a line break"),
        (f"v1,{WHSEC}", "'v1,'"),
        (f" {WHSEC}", "white space or a line break"),
        ("whsk_" + base64.b64encode(b"x" * 64).decode(), "ed25519"),
        ("x", "at least 24 bytes"),
    ],
)
def test_a_signing_secret_that_is_nearly_one_is_refused_on_every_way(kept: Api, value: str, words: str) -> None:
    stored = kept.ok("PUT", f"{ACME}/secrets/ODD", {"value": value}, status=201)
    assert (stored["warning"] is not None) is (value != value.strip() or len(value) < 8)
    problem = kept.refused("POST", f"{ACME}/webhooks", webhook(signing_secret="ODD"), status=422)
    assert (problem.locs, words in str(problem.errors)) == ([["signing_secret"]], True)
    made = create_webhook(kept, webhook(signing_secret="SIGNING"))
    refused = kept.refused("PATCH", f"{ACME}/webhooks/{made['id']}", {"signing_secret": "ODD"}, status=422)
    assert refused.locs == [["signing_secret"]]
    replaced = kept.refused("PUT", f"{ACME}/secrets/SIGNING", {"value": value}, status=422)
    assert (replaced.locs, words in str(replaced.errors)) == ([["value"]], True)
    assert value.strip()[6:] not in str(replaced.errors) or len(value) < 8


def test_a_webhook_that_signs_with_an_old_short_key_can_still_be_edited(kept: Api, monkeypatch: Any) -> None:
    """It was stored when that was accepted: an edit of something else must not fail for it."""
    kept.ok("PUT", f"{ACME}/secrets/OLD", {"value": "short key"}, status=201)
    with monkeypatch.context() as patch:
        patch.setattr("dispatcher.control.secrets.check_new_signing_secret", lambda _value: None)
        made = create_webhook(kept, webhook(signing_secret="OLD"))
    path = f"{ACME}/webhooks/{made['id']}"
    assert kept.ok("PATCH", path, {"paused": True})["paused"]
    document = kept.ok("GET", f"{ACME}/export")
    assert kept.ok("POST", f"{ACME}/apply", document)["changes"][0]["change"] == "unchanged"
    until = "2026-12-08T00:00:00Z"
    rotated = {"signing_secret": "NEXT", "former_signing_secret": "OLD", "former_signing_until": until}
    assert kept.ok("PATCH", path, rotated)["former_signing_secret"] == "OLD"
    kept.refused("POST", f"{ACME}/webhooks", webhook("other", signing_secret="OLD"), status=422)
    replaced = kept.refused("PUT", f"{ACME}/secrets/OLD", {"value": "another short key"}, status=422)
    assert (replaced.locs, "at least 24 bytes" in str(replaced.errors)) == ([["value"]], True)


def test_a_new_value_must_fit_every_use(kept: Api) -> None:
    create_webhook(kept, FULL)
    create_webhook(kept, SECRET_URL)
    for name, value, words in (
        ("APIKEY", "two\nlines", "as a part of a header"),
        ("GENIE", "..", "as a part of a URL"),
        ("PASSWORD", "two\nlines", "as a password"),
        ("URL", "no url", "as a webhook's URL"),
        ("URL", "https://10.0.0.1/", "as a webhook's URL"),
        ("SIGNING", "whsec_!", "as a signing secret"),
    ):
        problem = kept.refused("PUT", f"{ACME}/secrets/{name}", {"value": value}, status=422)
        assert (problem.locs, words in str(problem.errors)) == ([["value"]], True), (name, problem.errors)


@pytest.mark.parametrize("saved", [True, False])
def test_a_test_sends_them_and_shows_them_masked(kept: Api, saved: bool) -> None:
    with receiving() as receiver:

        def echo(request: Received) -> Answer:
            return Answer(401, body=f"{request.path} {request.headers}".encode())

        receiver.answer = echo
        until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {**FULL, "url": f"{receiver.url}/${{APIKEY}}?sig=${{GENIE}}", "former_signing_until": until}
        if saved:
            told = kept.ok("POST", f"{ACME}/webhooks/{create_webhook(kept, body)['id']}/test", {})
        else:
            told = kept.ok("POST", f"{ACME}/webhooks/test", {"webhook": body})
        [request] = receiver.requests
        assert request.path == f"/{VALUES['APIKEY']}?sig={VALUES['GENIE']}"
        assert request.headers["x-api-key"] == VALUES["APIKEY"]
        for key in (WHSEC, NEXT):
            Webhook(key).verify(request.body, request.headers)

        kept.ok("PUT", f"{ACME}/secrets/WHOLE", {"value": f"{receiver.url}/the-token-in-the-path"}, status=201)
        whole = {"name": "whole", "url_secret": "WHOLE"}
        if saved:
            shown = kept.ok("POST", f"{ACME}/webhooks/{create_webhook(kept, whole)['id']}/test", {})
        else:
            shown = kept.ok("POST", f"{ACME}/webhooks/test", {"webhook": whole})
        assert receiver.requests[-1].path == "/the-token-in-the-path"

    assert told["request"]["url"] == f"{receiver.url}/***APIKEY***?sig=***GENIE***"
    assert told["request"]["headers"]["X-Api-Key"] == "***APIKEY***"
    assert told["request"]["headers"]["Authorization"] == "Basic ***BASIC***"
    assert told["code"] == "token_refused"
    assert "user and password (401)" in told["diagnosis"]
    assert "***APIKEY***" in told["response"]["body"]
    assert shown["request"]["url"] == "***URL***"
    text = "".join(kept.answers)
    basic = base64.b64encode(f"ci:{VALUES['PASSWORD']}".encode()).decode()
    assert not [value for value in (*VALUES.values(), basic, "the-token-in-the-path") if value in text]


def test_a_webhook_without_them_is_what_it_was(kept: Api) -> None:
    """A webhook without the new members is stored, exported and shown as before, beside their defaults."""
    made = create_webhook(kept, webhook())
    assert kept.ok("GET", f"{ACME}/export")["webhooks"] == [webhook()]
    defaults: dict[str, object] = {
        "url_secret": None,
        "basic": None,
        "headers": {},
        "former_signing_secret": None,
        "former_signing_until": None,
        "wandb_signature": "base64",
    }
    assert made | defaults == made
