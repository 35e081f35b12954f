"""Signing in with a key: which keys, for how long, by which cookie; and that nothing but the console looks at it."""

from __future__ import annotations

from datetime import datetime, timedelta

import httpx
import pytest
from sqlalchemy import Connection, select, update

from shared.settings import Settings
from shared.storage.database.clock import database_time
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.schema.tables import sessions
from tests.integration.api.conftest import ACME, Api, running

OWN = {"Sec-Fetch-Site": "same-origin"}


def sign_in(api: Api, key: str, *, base: str = "http://127.0.0.1", **headers: str) -> httpx.Response:
    return api.client.request(
        "POST", f"{base}/console/sign-in", data={"key": key}, headers={**OWN, "Cookie": "", **headers}
    )


def token(answer: httpx.Response) -> str:
    assert answer.status_code == 303, answer.text
    return answer.headers["set-cookie"].partition(";")[0]


def page(api: Api, cookie: str, path: str = "/console/me", **more: str) -> httpx.Response:
    return api.client.request("GET", f"http://127.0.0.1{path}", headers={"Cookie": cookie, **more})


def test_a_key_signs_in_and_out(api: Api) -> None:
    answer = sign_in(api, api.keys["member"])
    assert answer.headers["location"] == "/console/"
    cookie = token(answer)
    assert "acme/member" in page(api, cookie).text
    out = api.client.request("POST", "http://127.0.0.1/console/sign-out", headers={**OWN, "Cookie": cookie})
    assert (out.status_code, out.headers["location"]) == (303, "/console/sign-in?out=1")
    again = page(api, cookie)
    assert (again.status_code, again.headers["location"]) == (303, "/console/sign-in?next=%2Fconsole%2Fme")


def test_keys_that_are_no_use_are_refused_in_one_sentence(api: Api) -> None:
    made = api.ok("POST", "/v1/keys", {"name": "gone", "entity": "acme", "role": "member"}, status=201)
    api.ok("DELETE", f"/v1/keys/{made['id']}", status=204)
    texts = {
        sign_in(api, key).text.count("This key is unknown, revoked or expired.") for key in (made["key"], "hlk-x", "")
    }
    assert texts == {1}
    refused = sign_in(api, api.keys["publisher"])
    assert refused.status_code == 403
    assert "This key can publish events only" in refused.text
    assert "set-cookie" not in refused.headers


def test_the_cookie_is_for_this_host_alone(api: Api) -> None:
    over_tls = sign_in(api, api.keys["admin"], base="https://hooks.example.com").headers["set-cookie"]
    name, *attributes = over_tls.split("; ")
    assert name.startswith("__Host-hookline=")
    assert {one.lower() for one in attributes} == {"httponly", "path=/", "samesite=lax", "secure"}
    local = sign_in(api, api.keys["admin"]).headers["set-cookie"]
    assert local.startswith("hookline=")
    assert "secure" not in local.lower() and "domain" not in local.lower()


@pytest.mark.parametrize("base", ["http://hooks.example.com", "http://10.0.0.7:8080", "http://127.0.0.1.evil.example"])
def test_nobody_signs_in_over_plain_http_from_elsewhere(api: Api, base: str) -> None:
    answer = sign_in(api, api.keys["admin"], base=base)
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    assert "plain http" in answer.text


def test_a_setting_lets_them_and_a_public_url_says_what_browsers_see(settings: Settings) -> None:
    with running(settings.model_copy(update={"console_insecure": True})) as client:
        key = settings.admin_api_key
        assert key is not None
        data = {"key": key.get_secret_value()}
        answer = client.request("POST", "http://10.0.0.7/console/sign-in", data=data, headers=OWN)
        assert answer.status_code == 303, answer.text
        assert answer.headers["set-cookie"].startswith("hookline=")
    with running(settings.model_copy(update={"public_url": "https://hooks.example.com"})) as client:
        answer = client.request(
            "POST", "http://10.0.0.7/console/sign-in", data=data, headers={"Origin": "https://hooks.example.com"}
        )
        assert answer.headers["set-cookie"].startswith("__Host-hookline=")
        foreign = client.request(
            "POST", "http://10.0.0.7/console/sign-in", data=data, headers={"Origin": "http://10.0.0.7"}
        )
        assert foreign.status_code == 403


def test_a_session_that_was_there_before_is_not_the_one_after(api: Api) -> None:
    planted = "hookline=" + "p" * 43
    first = token(sign_in(api, api.keys["member"], Cookie=planted))
    assert first != planted
    assert page(api, planted).status_code == 303
    second = token(sign_in(api, api.keys["member"], Cookie=first))
    assert page(api, first).status_code == 303
    assert page(api, second).status_code == 200


def test_a_session_ends_with_its_key(api: Api) -> None:
    made = api.ok("POST", "/v1/keys", {"name": "short", "entity": "acme", "role": "member"}, status=201)
    cookie, other = token(sign_in(api, made["key"])), token(sign_in(api, api.keys["member"]))
    assert page(api, cookie).status_code == 200
    api.ok("DELETE", f"/v1/keys/{made['id']}", status=204)
    assert page(api, cookie).status_code == 303
    assert page(api, other).status_code == 200


def test_a_change_of_role_is_seen_at_once(api: Api) -> None:
    cookie = token(sign_in(api, api.keys["member"]))
    members = "/console/e/acme/settings/members"
    assert page(api, cookie, members).status_code == 403
    listed = api.ok("GET", f"{ACME}/members")["items"]
    (number,) = (one["id"] for one in listed if one["name"] == "acme/member")
    api.ok("PUT", f"{ACME}/members/{number}", {"role": "admin"})
    assert page(api, cookie, members).status_code == 200
    api.ok("DELETE", f"{ACME}/members/{number}", status=204)
    assert page(api, cookie, members).status_code == 404


def end(connection: Connection) -> datetime:
    """When the only session ends."""
    ends_at: datetime = connection.execute(select(sessions.c.ends_at)).scalar_one()
    return ends_at


def test_sessions_end_by_themselves(api: Api) -> None:
    cookie = token(sign_in(api, api.keys["member"]))
    engine = api.client.app.state.resources.engine
    with write_transaction(engine) as connection:
        now = database_time(connection)
        assert timedelta(hours=11) < end(connection) - now < timedelta(hours=13)
        # Used after ten minutes: it is prolonged, but not beyond a week.
        connection.execute(update(sessions).values(seen_at=now - timedelta(hours=1), ends_at=now + timedelta(hours=1)))
    assert page(api, cookie).status_code == 200
    with write_transaction(engine) as connection:
        assert end(connection) - now > timedelta(hours=11)
        began = now - timedelta(days=7) + timedelta(minutes=1)
        connection.execute(update(sessions).values(created_at=began, seen_at=began))
    assert page(api, cookie).status_code == 200
    with write_transaction(engine) as connection:
        assert end(connection) - now < timedelta(minutes=5)
        connection.execute(update(sessions).values(ends_at=now - timedelta(seconds=1)))
    assert page(api, cookie).status_code == 303
    token(sign_in(api, api.keys["admin"]))
    with read_transaction(engine) as connection:
        assert len(connection.execute(select(sessions.c.id)).all()) == 1  # what had ended is deleted


def test_ones_own_sessions_are_listed_and_ended(api: Api) -> None:
    first = token(sign_in(api, api.keys["member"], **{"User-Agent": "first <b>browser</b>"}))
    second = token(sign_in(api, api.keys["member"]))
    foreign = token(sign_in(api, api.keys["admin"]))
    text = page(api, second).text
    assert "first &lt;b&gt;browser&lt;/b&gt;" in text
    (path,) = {part.partition('"')[0] for part in text.split('action="')[1:] if "/end" in part.partition('"')[0]}
    for cookie, status in ((foreign, 404), (second, 303)):
        answer = api.client.request("POST", f"http://127.0.0.1{path}", headers={**OWN, "Cookie": cookie})
        assert answer.status_code == status
    assert page(api, first).status_code == 303
    assert page(api, second).status_code == 200


@pytest.mark.parametrize(
    "onward",
    ["//evil.example", "/console/\\evil.example", "https://evil.example", "javascript:alert(1)", "/v1/keys"],
)
def test_signing_in_leads_to_the_console_only(api: Api, onward: str) -> None:
    answer = api.client.request(
        "POST", "http://127.0.0.1/console/sign-in", data={"key": api.keys["admin"], "next": onward}, headers=OWN
    )
    assert answer.headers["location"] == "/console/"


@pytest.mark.parametrize("onward", ["", "/console//evil.example", "/console/\u2028x", "/consolex"])
def test_signing_in_leads_to_no_address_that_only_looks_like_it(api: Api, onward: str) -> None:
    test_signing_in_leads_to_the_console_only(api, onward)


def test_it_leads_to_the_page_that_was_asked_for(api: Api) -> None:
    onward = "/console/e/acme/deliveries?status=dead&automation=a%20b"
    answer = api.client.request(
        "POST", "http://127.0.0.1/console/sign-in", data={"key": api.keys["admin"], "next": onward}, headers=OWN
    )
    assert answer.headers["location"] == onward


def test_rest_and_graphql_ignore_the_cookie(api: Api) -> None:
    cookie = token(sign_in(api, api.keys["root"]))
    for method, path in (("GET", f"{ACME}/webhooks"), ("POST", "/graphql"), ("GET", "/v1/users"), ("POST", "/v1/keys")):
        answer = api.client.request(method, f"http://127.0.0.1{path}", headers={"Cookie": cookie, **OWN}, json={})
        assert answer.status_code == 401, path


def test_signing_in_and_out_is_in_the_audit_log(api: Api) -> None:
    cookie = token(sign_in(api, api.keys["admin"]))
    api.client.request("POST", "http://127.0.0.1/console/sign-out", headers={**OWN, "Cookie": cookie})
    did = [(one["action"], one["by"]) for one in api.ok("GET", "/v1/audit")["items"]]
    assert did[:2] == [("session.delete", "acme/admin"), ("session.create", "acme/admin")]


def test_no_log_and_no_row_has_the_token(api: Api, capfd: pytest.CaptureFixture[str]) -> None:
    cookie = token(sign_in(api, api.keys["admin"]))
    secret = cookie.partition("=")[2]
    with read_transaction(api.client.app.state.resources.engine) as connection:
        assert secret not in str(connection.execute(select(sessions)).all())
    captured = capfd.readouterr()
    assert secret not in captured.out + captured.err
