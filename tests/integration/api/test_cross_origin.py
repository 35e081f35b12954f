"""Pages of other sites in browsers: those that are named may use the API with a key, and no other page anything."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.integration.api.conftest import ACME, Api

DASH, OTHER = "https://dash.example.com", "https://dash.example.com.evil.example"


@pytest.fixture
def allowing(api: Api) -> Iterator[Api]:
    """The API with one other origin."""
    state = api.client.app.state
    before = state.settings
    state.settings = before.model_copy(update={"cors_origins": (DASH,)})
    yield api
    state.settings = before


def preflight(api: Api, origin: str, path: str = f"{ACME}/webhooks") -> httpx.Response:
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    return api.client.request("OPTIONS", path, headers={"Origin": origin, **wanted})


def test_nothing_is_allowed_by_default(api: Api) -> None:
    assert not [name for name in preflight(api, DASH).headers if name.startswith("access-control")]
    got = api.send("GET", f"{ACME}/webhooks", headers={"Origin": DASH})
    assert not [name for name in got.headers if name.startswith("access-control")]


def test_a_named_origin_may_use_a_key(allowing: Api) -> None:
    asked = preflight(allowing, DASH)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == DASH
    assert "access-control-allow-credentials" not in asked.headers
    browser = {"Origin": DASH, "Sec-Fetch-Site": "cross-site"}
    made = allowing.send("PUT", f"{ACME}/secrets/FROM_A_PAGE", {"value": "tok-12345678"}, headers=browser)
    assert made.is_success
    assert made.headers["access-control-allow-origin"] == DASH
    assert "etag" in made.headers["access-control-expose-headers"].lower()
    refused = allowing.client.request("GET", f"{ACME}/webhooks", headers=browser)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, DASH), "a page can read why"


def test_others_and_remembered_keys_and_the_console_are_left_out(allowing: Api) -> None:
    assert "access-control-allow-origin" not in preflight(allowing, OTHER).headers
    assert "access-control-allow-origin" not in preflight(allowing, "null").headers
    got = allowing.send("GET", f"{ACME}/webhooks", headers={"Origin": OTHER})
    assert "access-control-allow-origin" not in got.headers
    basic = httpx.BasicAuth("x", allowing.keys["root"])
    browser = {"Origin": DASH, "Sec-Fetch-Site": "cross-site"}
    sent = allowing.client.request("DELETE", f"{ACME}/secrets/X", headers=browser, auth=basic)
    assert sent.status_code == 403
    for path in ("/console/sign-in", "/metrics", "/docs"):
        assert "access-control-allow-origin" not in preflight(allowing, DASH, path).headers
        assert "access-control-allow-origin" not in allowing.client.request("GET", path, headers=browser).headers
