"""What another site's page can have a browser do with a key that it remembers, and what it does with answers."""

from __future__ import annotations

import base64
import hashlib
import re

import orjson
import pytest

from tests.integration.api.conftest import ACME, Api, problem_of, webhook

EVIL = "https://evil.example"
CROSS_SITE: list[dict[str, str]] = [
    {"Origin": EVIL},
    {"Origin": EVIL, "Content-Type": "text/plain"},
    {"Origin": EVIL, "Content-Type": "application/json"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://hookline"},
]


@pytest.mark.parametrize("headers", CROSS_SITE, ids=str)
def test_a_page_of_another_site_changes_nothing(api: Api, headers: dict[str, str]) -> None:
    """A browser adds the Basic key that it remembers to requests of any page."""
    body = orjson.dumps(webhook())
    path = f"{ACME}/webhooks"
    for url in (path, f"{ACME}/deliveries/replay", "/graphql"):
        answer = api.client.request("POST", url, content=body, headers=headers, auth=("api", api.keys["admin"]))
        problem_of(answer, 403)
    assert api.ok("GET", path)["items"] == []


def test_a_basic_key_takes_no_body_without_a_type(api: Api) -> None:
    body, basic = orjson.dumps(webhook()), ("api", api.keys["admin"])
    problem_of(api.client.request("POST", f"{ACME}/webhooks", content=body, auth=basic), 415)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = api.client.request(
            "POST", f"{ACME}/webhooks", content=body, auth=basic, headers={"Content-Type": kind}
        )
        problem_of(answer, 415)
    assert api.ok("GET", f"{ACME}/webhooks")["items"] == []


def test_programs_and_own_pages_are_served(api: Api) -> None:
    basic = ("api", api.keys["admin"])
    own = {"Origin": "http://hookline", "Sec-Fetch-Site": "same-origin"}
    for number, headers in enumerate(({}, own, {"Origin": "http://hookline"})):
        answer = api.client.request("POST", f"{ACME}/webhooks", json=webhook(f"w{number}"), auth=basic, headers=headers)
        assert answer.status_code == 201, answer.text
    bearer = {"Authorization": f"Bearer {api.keys['admin']}"}
    answer = api.client.request(
        "POST", f"{ACME}/webhooks", content=orjson.dumps(webhook("w9")), headers=bearer | {"Origin": EVIL}
    )
    assert answer.status_code == 201, answer.text
    assert api.client.request("GET", f"{ACME}/webhooks", auth=basic, headers={"Origin": EVIL}).status_code == 200


def test_no_answer_makes_a_browser_ask_for_a_password(api: Api) -> None:
    for authorization in ("Basic @@@", "Basic", "Basic Og==", "Bearer x", "Digest x", ""):
        answer = api.client.request("GET", f"{ACME}/webhooks", headers={"Authorization": authorization})
        problem_of(answer, 401)
        assert answer.headers["www-authenticate"] == 'Bearer realm="hookline"', authorization


def test_every_answer_confines_browsers(api: Api) -> None:
    answers = {
        path: api.send("GET", path)
        for path in ("/docs", "/redoc", "/openapi.json", "/", "/healthz", "/metrics", f"{ACME}/webhooks", "/nothing")
    }
    answers["a key"] = api.send("POST", "/v1/keys", {"name": "laptop"})
    answers["GraphQL"] = api.send("POST", "/graphql", {"query": "{viewer{name}}"})
    answers["refused"] = api.send("POST", "/v1/keys", {"nam": "laptop"})
    answers["not allowed"] = api.send("TRACE", f"{ACME}/webhooks")
    for what, answer in answers.items():
        headers = answer.headers
        assert headers["x-content-type-options"] == "nosniff", what
        assert headers["x-frame-options"] == "DENY", what
        assert headers["referrer-policy"] == "no-referrer", what
        assert headers["cache-control"] == "no-store", what
        assert "frame-ancestors 'none'" in headers["content-security-policy"], what
        assert headers["content-security-policy"].startswith("default-src 'none'"), what
    asset = api.client.request("GET", "/docs/assets/swagger-ui.css")
    assert "cache-control" not in asset.headers
    assert asset.headers["x-content-type-options"] == "nosniff"


def test_the_page_runs_its_own_scripts_and_keeps_no_key(api: Api) -> None:
    answer = api.client.request("GET", "/docs")
    (inline,) = [script for script in re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL) if script.strip()]
    digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy["script-src"] == f"'self' 'sha256-{digest}'"
    assert policy["connect-src"] == "'self'"
    assert '"persistAuthorization": false' in answer.text
