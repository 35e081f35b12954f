"""Signing in with an identity provider: whose account it is, what is refused, and how it ends."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from dispatcher.api.identity_provider import open_identity_provider
from shared.config.setting_types import InvalidSetting
from shared.settings import load_settings
from tests.integration.api.console.world import PATIENCE_SECONDS, World, served
from tests.integration.oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider, providing

OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with providing() as provider:
        yield provider


@pytest.fixture(scope="module")
def url(world: World, provider: Provider) -> Iterator[str]:
    """The console of the world, with the provider."""
    more = {"oidc_issuer": provider.issuer, "oidc_client_id": CLIENT_ID, "oidc_name": "Example <SSO>"}
    settings = load_settings(
        **world.settings.model_dump(exclude={"oidc_client_secret"}, exclude_unset=True),
        **more,
        oidc_client_secret=CLIENT_SECRET,
        oidc_claim="login",
    )
    with served(settings) as address:
        yield address


@pytest.fixture(autouse=True)
def honest(provider: Provider) -> Iterator[None]:
    """The provider without faults before and after each test."""
    yield
    provider.wrong, provider.algorithm, provider.metadata, provider.published = {}, "RS256", {}, None


@contextmanager
def browser(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, headers=OWN, timeout=PATIENCE_SECONDS) as client:
        yield client


def user(world: World, name: str, **more: object) -> None:
    roles = [{"entity": "acme", "role": "member"}]
    world.call("POST", "/users", {"name": name, "roles": roles, **more}, key="root")


def go_there(client: httpx.Client, onward: str = "/console/e/acme/automations") -> str:
    """Begin, and return the address with which the provider sends the browser back."""
    begun = client.get("/console/oidc/start", params={"next": onward})
    assert begun.status_code == 303, begun.text
    sent = httpx.get(begun.headers["location"], timeout=PATIENCE_SECONDS)
    assert sent.status_code == 302, sent.text
    return sent.headers["location"]


def told(answer: httpx.Response) -> str:
    assert answer.status_code == 403, answer.status_code
    assert "hookline=" not in answer.headers.get("set-cookie", "").replace("hookline-oidc=", "")
    return html.unescape(answer.text)


def test_an_account_signs_its_user_in_and_stays_theirs(world: World, url: str, provider: Provider) -> None:
    user(world, "nina")
    provider.claims = {"sub": "sub-nina", "login": "nina"}
    with browser(url) as client:
        page = client.get("/console/sign-in?next=/console/me").text
        assert "Sign in with Example &lt;SSO&gt;" in page and 'href="/console/oidc/start?next=%2Fconsole%2Fme"' in page
        back = go_there(client)
        answer = client.get(back)
        assert answer.headers["location"] == "/console/e/acme/automations"
        assert client.get(answer.headers["location"]).status_code == 200
        me = client.get("/console/me").text
        assert "nina" in me and "Example &lt;SSO&gt;" in me
        assert client.get("/console/e/acme/settings/keys").status_code == 403
        again = client.get(back)  # the code is used up, and what was kept of the beginning is gone
        assert "was not begun in this browser" in told(again)
        provider.claims = {"sub": "sub-nina", "login": "somebody-else"}
        assert client.get(go_there(client)).status_code == 303
        assert "nina" in client.get("/console/me").text
    assert CLIENT_SECRET not in page + me
    # Somebody else who gets the old name at the provider is not let in by it.
    provider.claims = {"sub": "sub-other", "login": "nina"}
    with browser(url) as client:
        assert "belongs to another account" in told(client.get(go_there(client)))
        assert client.get("/console/me").status_code == 303


def test_signing_out_ends_the_session_and_leads_to_the_provider(world: World, url: str, provider: Provider) -> None:
    user(world, "otto")
    provider.claims = {"sub": "sub-otto", "login": "otto"}
    with browser(url) as client:
        client.get(go_there(client))
        cookie = client.cookies["hookline"]
        out = client.post("/console/sign-out")
        page = client.get(out.headers["location"]).text
        assert "Sign out there too" in page
        client.cookies.set("hookline", cookie)
        assert client.get("/console/me").status_code == 303
        there = client.get("/console/oidc/sign-out")
        ended = httpx.get(there.headers["location"], timeout=PATIENCE_SECONDS)
        assert ended.headers["location"].startswith(f"{url}/console/sign-in?out=1")
        assert f"end {CLIENT_ID}" in provider.asked


def test_a_session_ends_when_its_account_is_taken_away(world: World, url: str, provider: Provider) -> None:
    user(world, "paula")
    provider.claims = {"sub": "sub-paula", "login": "paula"}
    with browser(url) as client, world.visitor("root") as root:
        client.get(go_there(client))
        assert client.get("/console/me").status_code == 200
        address = root.get("/console/admin/users?name=paula").headers["location"]
        assert "sub-paula" in root.get(address).text
        assert root.post(f"{address}/unlink").headers["location"].endswith("?done=unlinked")
        assert client.get("/console/me").status_code == 303
        provider.claims = {"sub": "sub-paula-2", "login": "paula"}
        client.get(go_there(client))
        assert client.get("/console/me").status_code == 200
        root.post(f"{address}/delete")
        assert client.get("/console/me").status_code == 303
    actions = [one["action"] for one in world.call("GET", "/audit?target=paula", key="root")["items"]]
    assert actions == ["user.delete", "user.link", "user.unlink", "user.link", "user.create"]


WRONG: dict[str, dict[str, object]] = {
    "audience": {"aud": "another-client"},
    "audience with azp": {"aud": "another-client", "azp": CLIENT_ID},
    "audiences without azp": {"aud": ["another-client", "third"]},
    "no audience": {"aud": None},
    "issuer": {"iss": "https://evil.example"},
    "expired": {"exp": 1_700_000_000, "iat": 1_699_999_000},
    "no expiry": {"exp": None},
    "nonce": {"nonce": "another"},
    "no nonce": {"nonce": None},
    "no subject": {"sub": None},
    "from the future": {"iat": 4_000_000_000},
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_token_that_is_not_right_signs_nobody_in(world: World, url: str, provider: Provider, fault: str) -> None:
    provider.claims, provider.wrong = {"sub": "sub-nina", "login": "nina"}, WRONG[fault]
    with browser(url) as client:
        assert "is not valid" in told(client.get(go_there(client)))
        assert client.get("/console/me").status_code == 303


def test_a_token_that_another_key_or_none_signed_is_refused(url: str, provider: Provider) -> None:
    provider.claims = {"sub": "sub-nina", "login": "nina"}
    with browser(url) as client:
        provider.algorithm = "none"
        assert "is not valid" in told(client.get(go_there(client)))
        provider.algorithm, old = "RS256", provider.keys
        provider.rotate()
        provider.published = old
        assert "is not valid" in told(client.get(go_there(client)))


def test_a_new_key_of_the_provider_is_fetched(world: World, url: str, provider: Provider) -> None:
    user(world, "quentin")
    provider.claims = {"sub": "sub-quentin", "login": "quentin"}
    with browser(url) as client:
        assert client.get(go_there(client)).status_code == 303
        provider.rotate()
        count = provider.asked.count("jwks")
        assert client.get(go_there(client)).status_code == 303
        assert provider.asked.count("jwks") == count + 1


def test_what_comes_back_must_have_been_begun_here(url: str, provider: Provider) -> None:
    provider.claims = {"sub": "sub-nina", "login": "nina"}
    with browser(url) as mine, browser(url) as other:
        back = go_there(mine)
        assert "was not begun in this browser" in told(other.get(back))
        go_there(other)
        assert "was not begun in this browser" in told(other.get(back))
        other.cookies.set("hookline-oidc", "x", path="/console/oidc")
        assert "was not begun in this browser" in told(other.get(back))
        query = parse_qs(urlsplit(back).query)
        mixed = mine.get("/console/oidc/callback", params={**query, "iss": "https://evil.example"})
        assert "another identity provider" in told(mixed)
        denied = go_there(mine)
        state = parse_qs(urlsplit(denied).query)["state"][0]
        said = {"error": "access_denied", "error_description": "<script>no</script>" * 40, "state": state}
        refused = mine.get("/console/oidc/callback", params=said)
        assert "refused: <script>no" in told(refused) and "<script>no" not in refused.text
        for odd in ({}, {"code": "x"}, {"state": "x"}, {"code": ["a", "b"], "state": "\x00"}):
            assert mine.get("/console/oidc/callback", params=odd).status_code in (400, 403)


def test_an_address_counts_once_the_provider_has_verified_it(world: World, provider: Provider) -> None:
    user(world, "rosa", email="Rosa@example.com")
    user(world, "sam", email="sam@example.com")
    user(world, "samuel", email="SAM@example.com")
    settings = load_settings(
        **world.settings.model_dump(exclude_unset=True),
        oidc_issuer=provider.issuer,
        oidc_client_id=CLIENT_ID,
        oidc_client_secret=CLIENT_SECRET,
        oidc_claim="email",
    )
    with served(settings) as address, browser(address) as client:
        for claims, words in (
            ({"sub": "s1"}, "does not tell the claim 'email'"),
            ({"sub": "s1", "email": "rosa@example.com"}, "has not verified"),
            ({"sub": "s1", "email": "rosa@example.com", "email_verified": "true"}, "has not verified"),
            ({"sub": "s1", "email": "nobody@example.com", "email_verified": True}, "no user here"),
            ({"sub": "s1", "email": "sam@example.com", "email_verified": True}, "several users"),
        ):
            provider.claims = claims
            assert words.lower() in told(client.get(go_there(client))).lower(), claims
        provider.claims = {"sub": "s1", "email": "rosa@example.com", "email_verified": True}
        assert client.get(go_there(client)).status_code == 303


def test_service_users_and_publishers_are_not_signed_in(world: World, url: str, provider: Provider) -> None:
    world.call("POST", "/users", {"name": "only-pub", "roles": [{"entity": "acme", "role": "publisher"}]}, key="root")
    with browser(url) as client:
        for name, words in (
            ("acme/admin", "there is no user"),
            ("only-pub", "no role that may look"),
            ("x\0", "claim"),
        ):
            provider.claims = {"sub": f"sub {name}".replace("\0", ""), "login": name}
            assert words.lower() in told(client.get(go_there(client))).lower(), name


def test_a_provider_that_is_away_or_another_one_is_told(world: World, provider: Provider) -> None:
    base = world.settings.model_dump(exclude_unset=True)
    away = load_settings(**base, oidc_issuer="http://127.0.0.1:1", oidc_client_id="x")
    with served(away) as address, browser(address) as client:
        answer = client.get("/console/oidc/start?next=//evil.example")
        assert answer.status_code == 502 and "can't be reached" in html.unescape(answer.text)
        assert client.get("/console/oidc/sign-out").headers["location"] == "/console/sign-in?out=1"
    provider.metadata = {"issuer": "https://evil.example"}
    other = load_settings(**base, oidc_issuer=provider.issuer, oidc_client_id="x")
    with served(other) as address, browser(address) as client:
        assert client.get("/console/oidc/start").status_code == 502


def test_without_a_provider_there_is_no_way_to_one(world: World) -> None:
    with world.visitor(None) as visitor:
        assert "single sign-on" not in visitor.get("/console/sign-in").text
        for path in ("start", "callback", "sign-out"):
            assert visitor.get(f"/console/oidc/{path}").status_code == 404


def test_half_a_configuration_is_refused(tmp_path: Path) -> None:
    for members, words in (
        ({"oidc_issuer": "https://id.example"}, "HOOKLINE_OIDC_CLIENT_ID"),
        ({"oidc_issuer": "http://id.example", "oidc_client_id": "x"}, "https://"),
    ):
        with pytest.raises(InvalidSetting, match=words):
            open_identity_provider(load_settings(data_dir=tmp_path, **members))
    assert open_identity_provider(load_settings(data_dir=tmp_path)) is None
