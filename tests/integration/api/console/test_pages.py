"""Each page and action: who may, what it does without a script, and what it never shows."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import Engine, event, update

from dispatcher.console.app import ROUTERS
from dispatcher.console.charts import BARS
from dispatcher.console.pages import why
from shared.storage.database.transactions import write_transaction
from shared.storage.schema.tables import deliveries
from tests.integration.api.console.world import CANARY, HOSTILE, SECRETS, World
from tests.integration.scene import alias_event

ENTITY = "/console/e/acme"
READ, ADMIN, ROOT = {"member", "admin", "root"}, {"admin", "root"}, {"root"}
ANYBODY = {*READ, "pub", "outsider"}
"""Whoever is signed in."""
PAGES: dict[str, set[str]] = {
    "": READ,
    "/automations": READ,
    "/automations/{record}": READ,
    "/automations/{hostile}": READ,
    "/automations/{record}/delete": READ,
    "/automations/{record}/revisions": READ,
    "/automations/{hostile}/revisions/{first:hostile}": READ,
    "/automations/{accuracy}/series": READ,
    "/automations/{accuracy}/series?project=digits&run=r1": READ,
    "/automations/new": READ,
    "/automations/new?event=RUN_METRIC&project=digits&metric=accuracy&threshold=0.9": READ,
    "/automations/{deploy-on-production}/edit": READ,
    "/automations/{hostile}/edit": READ,
    "/automations/{accuracy}/edit": READ,
    "/why": READ,
    "/why?automation={gone}": READ,
    "/why?automation={accuracy}&event=step-1": READ,
    "/deliveries": READ,
    "/deliveries?status=skipped": READ,
    "/deliveries/{dead}": READ,
    "/deliveries/{refused}": READ,
    "/events": READ,
    "/events?type=ADD_ARTIFACT_ALIAS&project=wandb-registry-model": READ,
    "/events?author=nobody": READ,
    "/events/one?id=promote-1": READ,
    "/events/one?id={hostile-event}": READ,
    "/projects": READ,
    "/projects?kind=registry&text=MODEL": READ,
    "/project?name=wandb-registry-model": READ,
    "/project?name=wandb-registry-model&tab=collections": READ,
    "/collection?project=wandb-registry-model&name=llm": READ,
    "/collection?project=wandb-registry-model&name={hostile-collection}": READ,
    "/metrics?project=digits": READ,
    "/metrics?project=digits&metric=accuracy": READ,
    "/project?name={hostile-project}": READ,
    "/metrics?project={hostile-project}": READ,
    "/metrics?project={hostile-project}&metric={hostile-metric}": READ,
    "/settings/webhooks/{gone-hook}/revisions": READ,
    "/settings/webhooks/{gone-hook}/revisions/{first:gone-hook}": READ,
    "/settings/webhooks": READ,
    "/settings/webhooks/{gone-hook}": READ,
    "/settings/webhooks/{deploy-hook}": READ,
    "/settings/webhooks/new": ADMIN,
    "/settings/webhooks/{gone-hook}/edit": ADMIN,
    "/settings/webhooks/{gone-hook}/test": ADMIN,
    "/settings/webhooks/{gone-hook}/delete": ADMIN,
    "/settings/secrets": READ,
    "/settings/secrets/new": ADMIN,
    "/settings/secrets/SIGNING/delete": ADMIN,
    "/settings/slack": READ,
    "/settings/slack/{alerts}": READ,
    "/settings/slack/{alerts}/revisions": READ,
    "/settings/slack/{alerts}/revisions/{first:alerts}": READ,
    "/settings/slack/new": ADMIN,
    "/settings/slack/{alerts}/edit": ADMIN,
    "/settings/slack/{alerts}/delete": ADMIN,
    "/settings/sources": READ,
    "/settings/sources/{comet}": READ,
    "/settings/sources/{comet}/test": READ,
    "/settings/sources/new": ADMIN,
    "/settings/sources/{comet}/edit": ADMIN,
    "/settings/sources/{comet}/delete": ADMIN,
    "/settings/members": ADMIN,
    "/settings/members/usr_2/remove": ADMIN,
    "/settings/keys": ADMIN,
    "/settings/keys/{member-key}/revoke": ADMIN,
    "/settings/audit": ADMIN,
    "/settings/audit?action=webhook&since=24h": ADMIN,
    "/settings/manifest": READ,
    "/settings/manifest/export": READ,
    "/deliveries/replay": ADMIN,
    "/deliveries/replay?status=dead": ADMIN,
    "/deliveries/replays/{replay}": READ,
    "/deliveries/replays/{replay}/stop": ADMIN,
    "/deliveries/export?status=refused&format=jsonl": READ,
    "/deliveries/news?event=none": READ,
    "/alerts": READ,
    "/console/me": ANYBODY,
    "/console/me/entities/acme/leave": ANYBODY,
    "/console/admin/health": ROOT,
    "/console/admin/dead-letters": ROOT,
    "/console/admin/poison": ROOT,
    "/console/admin/poison/3/1-1": ROOT,
    "/console/admin/entities": ROOT,
    "/console/admin/entities/acme": ROOT,
    "/console/admin/entities/acme/delete": ROOT,
    "/console/admin/users": ROOT,
    "/console/admin/users/usr_2": ROOT,
    "/console/admin/users/usr_2/delete": ROOT,
    "/console/admin/users/usr_2/unlink": ROOT,
    "/console/admin/keys": ROOT,
    "/console/admin/keys/{member-key}/revoke": ROOT,
    "/console/admin/audit": ROOT,
    "/console/admin/audit?action=member": ROOT,
}
"""Every page, and which keys of the world may see it. Those that are no entity's have their whole address."""
DOWNLOADS = {"/settings/manifest/export", "/deliveries/export?status=refused&format=jsonl"}
"""Those that a browser saves instead of showing them."""
ACTIONS: dict[str, set[str]] = {
    "/automations/{record}/enable": READ,
    "/automations/aut_999/delete": READ,
    "/automations/{record}/revisions/999/restore": READ,
    "/automations/new": READ,
    "/automations/{record}/edit": READ,
    "/automations/preview": READ,
    "/deliveries/{dead}/replay": ADMIN,
    "/deliveries/replay": ADMIN,
    "/deliveries/replays/{replay}/stop": ADMIN,
    "/settings/webhooks/{paused-hook}/pause": ADMIN,
    "/settings/webhooks/{paused-hook}/revisions/999/restore": ADMIN,
    "/settings/webhooks/new": ADMIN,
    "/settings/webhooks/{paused-hook}/edit": ADMIN,
    "/settings/webhooks/{paused-hook}/test": ADMIN,
    "/settings/webhooks/{gone-hook}/delete": ADMIN,
    "/settings/secrets": ADMIN,
    "/settings/secrets/SIGNING/delete": ADMIN,
    "/settings/slack/new": ADMIN,
    "/settings/slack/{alerts}/edit": ADMIN,
    "/settings/slack/{alerts}/test": ADMIN,
    "/settings/slack/{alerts}/resume": ADMIN,
    "/settings/slack/{alerts}/revisions/999/restore": ADMIN,
    "/settings/slack/slk_999/delete": ADMIN,
    "/settings/sources/new": ADMIN,
    "/settings/sources/{comet}/edit": ADMIN,
    "/settings/sources/{comet}/test": READ,
    "/settings/sources/{comet}/enable": ADMIN,
    "/settings/sources/src_999/delete": ADMIN,
    "/settings/manifest": READ,
    "/settings/members": ADMIN,
    "/settings/members/usr_999/remove": ADMIN,
    "/settings/members/invitations/nobody/withdraw": ADMIN,
    "/settings/keys": ADMIN,
    "/settings/keys/key_999/revoke": ADMIN,
    "/console/me/keys": ANYBODY,
    "/console/me/keys/key_999/revoke": ANYBODY,
    "/console/me/default-entity": ANYBODY,
    "/console/me/entities/none/leave": ANYBODY,
    "/console/me/invitations/none/accept": ANYBODY,
    "/console/me/invitations/none/decline": ANYBODY,
    "/console/me/sessions/ses_999/end": ANYBODY,
    "/console/alerts/hide": ANYBODY,
    "/console/admin/entities": ROOT,
    "/console/admin/entities/none": ROOT,
    "/console/admin/entities/acme/delete": ROOT,
    "/console/admin/users": ROOT,
    "/console/admin/users/usr_999": ROOT,
    "/console/admin/users/usr_2/keys": ROOT,
    "/console/admin/users/usr_999/delete": ROOT,
    "/console/admin/users/usr_999/unlink": ROOT,
    "/console/admin/keys/key_999/revoke": ROOT,
}
"""Every action, sent so that it changes nothing: what it names is not there, or is so already, or is in use."""
WORDS = {
    "hostile-event": HOSTILE[:200],
    "hostile-collection": HOSTILE[:300],
    "hostile-project": HOSTILE[:300],
    "hostile-metric": HOSTILE[:200],
}
"""What stands in paths for names that events gave."""


ACCOUNTS = {"/oidc/start", "/oidc/callback", "/oidc/sign-out"}
OPEN = {
    "/",
    "/sign-in",
    "/sign-out",
    "/preferences",
    "/admin",
    "/e/{entity}/find",
    "/me/keys/{key_id}/revoke",
    *ACCOUNTS,
}
"""Routes that are no pages of their own, or for nobody yet: they are tried where they are expected."""


def test_every_route_says_who_may_use_it() -> None:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    named = {route.path for route in routes}
    assert named >= OPEN
    used: set[tuple[str, str]] = set()
    for table, method in ((PAGES, "GET"), (ACTIONS, "POST")):
        for key in table:
            path = (key if key.startswith("/console") else f"{ENTITY}{key}").removeprefix("/console").partition("?")[0]
            fitting = (one for one in routes if method in (one.methods or ()) and one.path_regex.match(path))
            first = next(fitting)
            used.add((method, first.path))
    known = {(method, route.path) for route in routes for method in route.methods or () if route.path not in OPEN}
    assert known == {one for one in used if one[1] not in OPEN}


def expected_refusal(key: str, path: str) -> int:
    """With what somebody is refused who may not."""
    if key == "nobody":
        return 303
    return 404 if key == "outsider" and not path.startswith("/console") else 403


def filled(world: World, path: str) -> str:
    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in WORDS:
            return quote(WORDS[name], safe="")
        if name.startswith("first:"):
            return str(world.first_revision(name.removeprefix("first:")))
        return world.delivery(status=name) if name in ("dead", "refused", "skipped") else world.ids[name]

    return ("" if path.startswith("/console") else ENTITY) + re.sub(r"{([\w:-]+)}", value, path)


@pytest.fixture(scope="module")
def visitors(world: World) -> Iterator[dict[str, httpx.Client]]:
    """A browser for each key that may sign in, and one for nobody."""
    with (
        world.visitor(None) as nobody,
        world.visitor("member") as member,
        world.visitor("admin") as admin,
        world.visitor("outsider") as outsider,
        world.visitor("root") as root,
        world.visitor("pub") as pub,
    ):
        yield {"nobody": nobody, "pub": pub, "member": member, "admin": admin, "outsider": outsider, "root": root}


@pytest.mark.parametrize("path", PAGES)
def test_who_may_see_a_page(world: World, visitors: dict[str, httpx.Client], path: str) -> None:
    address, may = filled(world, path), PAGES[path]
    for key, visitor in visitors.items():
        answer = visitor.get(address)
        assert answer.status_code == (200 if key in may else expected_refusal(key, path)), (key, path)
        if key == "nobody":
            assert answer.headers["location"].startswith("/console/sign-in?next=")
        if answer.status_code == 404:
            told = answer.text.count(html.escape(address)) + answer.text.count("There is no entity")
            assert answer.text.count("acme") == told


@pytest.mark.parametrize("path", ACTIONS)
def test_who_may_act(world: World, visitors: dict[str, httpx.Client], path: str) -> None:
    address, may = filled(world, path), ACTIONS[path]
    for key, visitor in visitors.items():
        if key in may and path.endswith("/replay"):
            continue  # tried where it is expected
        answer = visitor.post(address, data={"name": "not a name!", "role": "none", "payload": "{"})
        if key in may:
            assert answer.status_code in (200, 303, 404, 409, 422), (key, path)
            assert "/sign-in" not in answer.headers.get("location", "")
        else:
            assert answer.status_code == expected_refusal(key, path), (key, path)
            if key == "nobody":
                assert answer.headers["location"] == "/console/sign-in?lost=1"


def test_what_is_another_entity_s_is_not_there(world: World, visitors: dict[str, httpx.Client]) -> None:
    outsider = visitors["outsider"]
    for path in ("/automations/{record}", "/deliveries/{dead}", "/settings/webhooks/{gone-hook}"):
        there = outsider.get(filled(world, path).replace("/acme", "/other"))
        never = outsider.get(re.sub(r"\w+_\w+$", "aut_9999", filled(world, path)).replace("/acme", "/other"))
        assert (there.status_code, never.status_code) == (404, 404)


class _Elements(HTMLParser):
    """The elements of a page as a browser finds them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


@pytest.mark.parametrize("path", PAGES)
def test_what_others_wrote_is_text(world: World, visitors: dict[str, httpx.Client], path: str) -> None:
    answer = visitors["root" if PAGES[path] == ROOT else "admin"].get(filled(world, path))
    text = answer.text
    if path in DOWNLOADS:
        assert answer.headers["content-disposition"].startswith("attachment")
        return
    for tag, attributes in _Elements(text).elements:
        assert tag not in ("iframe", "base", "img", "object", "embed", "style"), tag
        assert "data-canary" not in attributes and "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")], attributes
        assert tag != "script" or (attributes.get("nonce") and (attributes["src"] or "").startswith("/console/static/"))
        for name in ("href", "src", "action"):
            assert (attributes.get(name) or "/").startswith(("/", "#")), attributes
    assert "\u202e" not in re.sub(r'value="[^"]*"', "", text)  # a field must give back what it was given
    assert f'"{CANARY}' not in text


def test_every_page_has_a_title_of_its_own(world: World, visitors: dict[str, httpx.Client]) -> None:
    """What tells windows and bookmarks apart; a filter or a tab leads to no other page."""
    titles: dict[str, set[str]] = {}
    for path, may in PAGES.items():
        if path in DOWNLOADS or path.startswith(("/deliveries/news", "/alerts")):
            continue
        text = visitors["root" if may == ROOT else "admin"].get(filled(world, path)).text
        title = re.findall(r"<title>(.*?)</title>", text, re.DOTALL)[0]  # charts have titles, too
        assert title.endswith(" \u2013 Hookline") and not title.startswith(" \u2013"), path
        titles.setdefault(html.unescape(title), set()).add(path.partition("?")[0])
    assert not {title: paths for title, paths in titles.items() if len(paths) > 1}


def test_probes_are_shown(world: World, visitors: dict[str, httpx.Client]) -> None:
    text = visitors["admin"].get(filled(world, "/automations/{hostile}")).text
    assert html.escape(HOSTILE[:60], quote=False).replace('"', "&#34;") in text
    assert "\\u202e" in text and "{{7*7}}" in text and "49" not in re.sub(r"[\w-]*49[\w-]*", "", text[:0])
    answer = visitors["admin"].get(filled(world, "/deliveries/{refused}")).text
    assert "&lt;h1&gt;&lt;script&gt;" in answer


@pytest.mark.parametrize("path", ["/deliveries?", "/find?id=", "/automations?done=", "/nothing?x="])
def test_what_is_echoed_of_a_url_is_text(visitors: dict[str, httpx.Client], path: str) -> None:
    names = ("status", "automation", "webhook", "event", "since", "until", "cursor")
    query: dict[str, Any] = dict.fromkeys(names, HOSTILE) if path == "/deliveries?" else {}
    answer = visitors["admin"].get(f"{ENTITY}{path}" + ("" if query else "%3Cscript%3Ex%22"), params=query or None)
    assert "<script>window" not in answer.text and "<script>x" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/events?project={}&author={}&id={}&source={}&since={}&type={}",
        "/events?run={}",
        "/events/one?id={}",
        "/projects?text={}&kind={}",
        "/project?name={}",
        "/collection?project={}&name={}",
        "/metrics?project=digits&metric={}&run={}&since={}",
        "/automations/new?event={}&project={}&alias={}&metric={}&threshold={}&webhook={}&state={}",
        "/automations/{{accuracy}}/series?run={}&project={}&since={}",
    ],
)
def test_names_in_a_url_are_text(world: World, visitors: dict[str, httpx.Client], path: str) -> None:
    probe = quote(HOSTILE[:400], safe="")
    answer = visitors["admin"].get(filled(world, path.replace("{}", probe).replace("{{", "{").replace("}}", "}")))
    assert answer.status_code in (200, 404, 422), answer.text
    assert "<script>window" not in answer.text and "<img" not in answer.text
    assert not [tag for tag, attributes in _Elements(answer.text).elements if "data-canary" in attributes]


def test_secrets_and_keys_are_on_no_page(world: World, visitors: dict[str, httpx.Client]) -> None:
    admin = visitors["admin"]
    kept = [*SECRETS.values(), *world.keys.values(), *admin.cookies.values()]
    pages = [visitors["root" if may == ROOT else "admin"].get(filled(world, path)) for path, may in PAGES.items()]
    shown = [admin.post(filled(world, f"/settings/webhooks/{{{name}}}/test")) for name in ("deploy-hook", "gone-hook")]
    shown.append(admin.post(f"{ENTITY}/settings/secrets", data={"name": "1bad", "value": SECRETS["SIGNING"]}))
    shown.append(admin.post("/console/sign-in", data={"key": world.keys["publisher"]}))
    headers = [str(one.headers) for one in (*pages, *shown)]
    for text in (*(one.text for one in (*pages, *shown)), *headers):
        assert not [one for one in kept if one in text]
    assert [one.status_code for one in shown] == [200, 200, 422, 403]


def test_a_webhook_s_test_shows_what_was_sent_with_secrets_masked(
    world: World, visitors: dict[str, httpx.Client]
) -> None:
    address = filled(world, "/settings/webhooks/{deploy-hook}/test")
    answer = visitors["admin"].post(address, data={"payload": '{"token": "${DEPLOY_TOKEN}"}'})
    text = html.unescape(answer.text)
    assert "The endpoint answered 204" in text
    assert "Authorization: Bearer ***ACCESS_TOKEN***" in text and '"token": "***DEPLOY_TOKEN***"' in text
    assert not [value for value in SECRETS.values() if value in text]
    refused = visitors["admin"].post(address, data={"payload": '{"x": "${NOTHING}"}'})
    assert refused.status_code == 422
    assert "not available" in refused.text and "${NOTHING}" in html.unescape(refused.text)


@pytest.mark.parametrize(("types", "sent"), [("", '"n": 1'), ("json", '"n": 1'), ("text", '"n": "1')])
def test_a_test_keeps_types_or_sends_text(
    world: World, visitors: dict[str, httpx.Client], types: str, sent: str
) -> None:
    fields = {"payload": '{"n": "${metric_step}"}', "payload_types": types}
    form = {**fields, "url": f"{world.scene.receiver.url}/draft", "name": "x", "test": "1"}
    for path, given in (("/{deploy-hook}/test", fields), ("/new", form)):
        answer = html.unescape(visitors["admin"].post(filled(world, f"/settings/webhooks{path}"), data=given).text)
        assert sent in answer and f'value="{types or "json"}" selected' in answer, path
    odd = visitors["admin"].post(filled(world, "/settings/webhooks/{deploy-hook}/test"), data={"payload_types": "x"})
    assert odd.status_code == 422 and 'id="e-payload_types"' in odd.text


def test_a_list_is_exported_as_it_is_filtered(world: World, visitors: dict[str, httpx.Client]) -> None:
    page = visitors["member"].get(f"{ENTITY}/deliveries?status=refused").text
    addresses = [html.unescape(one) for one in re.findall(r'href="([^"]+/deliveries/export[^"]*)"', page)]
    assert [one.partition("?")[2] for one in addresses] == ["status=refused&format=csv", "status=refused&format=jsonl"]
    table, lines = (visitors["member"].get(one) for one in addresses)
    assert table.text.startswith("id,status,") and table.headers["content-type"].startswith("text/csv")
    listed = world.call("GET", "/entities/acme/deliveries?status=refused&limit=500")["items"]
    assert lines.text.count("\n") == len(listed) == table.text.count(",refused,")
    for wrong in ("format=xls", "since=soon", "automation=none"):
        assert visitors["member"].get(f"{ENTITY}/deliveries/export?{wrong}").status_code == 422


def test_a_test_in_the_form_saves_nothing(world: World, visitors: dict[str, httpx.Client]) -> None:
    admin, before = visitors["admin"], world.call("GET", "/entities/acme/webhooks")
    count = len(world.scene.receiver.requests)
    fields = {"url": f"{world.scene.receiver.url}/draft", "access_token": "DEPLOY_TOKEN", "test": "1", "name": ""}
    answer = admin.post(f"{ENTITY}/settings/webhooks/new", data=fields)
    assert "The endpoint answered 204" in answer.text and 'value="DEPLOY_TOKEN" selected' in answer.text
    (sent,) = world.scene.receiver.requests[count:]
    assert sent.path == "/draft"
    edited = admin.post(filled(world, "/settings/webhooks/{gone-hook}/edit"), data={**fields, "name": "gone-hook"})
    assert "The endpoint answered 204" in edited.text
    assert world.call("GET", "/entities/acme/webhooks") == before


def test_a_webhook_is_made_changed_and_deleted(world: World, visitors: dict[str, httpx.Client]) -> None:
    admin = visitors["admin"]
    fields = {"name": "made here", "url": f"{world.scene.receiver.url}/made", "signing_secret": "SIGNING"}
    refused = admin.post(f"{ENTITY}/settings/webhooks/new", data={**fields, "url": "ftp://x"})
    assert refused.status_code == 422
    assert 'id="e-url"' in refused.text and 'value="made here"' in refused.text
    made = admin.post(f"{ENTITY}/settings/webhooks/new", data=fields)
    assert made.status_code == 303, made.text
    path = made.headers["location"].partition("?")[0]
    number = path.rpartition("/")[2]
    form = admin.get(f"{path}/edit").text
    (revision,) = re.findall(r'name="revision" value="(\d+)"', form)
    policy = '{"timeout_seconds": 3}'
    changed = admin.post(
        f"{path}/edit", data={**fields, "name": "renamed", "secrets": "SIGNING", "policy": policy, "revision": revision}
    )
    assert changed.status_code == 303, changed.text
    stored = world.call("GET", f"/entities/acme/webhooks/{number}")
    assert (stored["name"], stored["secrets"], stored["policy"]["timeout_seconds"]) == ("renamed", ["SIGNING"], 3)
    late = admin.post(f"{path}/edit", data={**fields, "revision": revision})
    assert late.status_code == 422 and "somebody else changed" in late.text and 'value="made here"' in late.text
    assert "Delete the webhook" in admin.get(f"{path}/delete").text
    assert admin.post(f"{path}/delete").headers["location"].endswith("?done=deleted")
    assert admin.get(path).status_code == 404


def test_headers_passwords_and_rotation_are_made_and_taken_out_in_the_form(
    world: World, visitors: dict[str, httpx.Client]
) -> None:
    admin = visitors["admin"]
    fields = {
        "name": "credentials",
        "url": "https://example.com/${DEPLOY_TOKEN}",
        "headers": "X-Api-Key: ${DEPLOY_TOKEN}\r\n\r\nX-Team : ml: ops\r\n",
        "basic.user": "ci",
        "basic.password_secret": "DEPLOY_TOKEN",
        "secrets": "DEPLOY_TOKEN",
        "wandb_signature": "hex",
        "policy": '{"success": {"body": {"ok": true, "error": {"$exists": false}}}, "retried_statuses": [404]}',
    }
    for wrong, words in (
        ({"headers": "X-Api-Key ${DEPLOY_TOKEN}"}, "line 1 must be a name, a colon and a value"),
        ({"headers": "Host: x"}, "Hookline sets itself"),
        ({"basic.user": "a:b"}, "without a colon"),
        ({"basic.password_secret": ""}, "must be the name of a secret"),
        ({"url": ""}, "is required, or url_secret"),
        ({"former_signing_secret": "SIGNING"}, "is required: a former signing secret and its end go together"),
    ):
        refused = admin.post(f"{ENTITY}/settings/webhooks/new", data={**fields, **wrong})
        assert (refused.status_code, words in html.unescape(refused.text)) == (422, True), (wrong, refused.text)
    made = admin.post(f"{ENTITY}/settings/webhooks/new", data=fields)
    assert made.status_code == 303, made.text
    path = made.headers["location"].partition("?")[0]
    number = path.rpartition("/")[2]
    stored = world.call("GET", f"/entities/acme/webhooks/{number}")
    assert stored["headers"] == {"X-Api-Key": "${DEPLOY_TOKEN}", "X-Team": "ml: ops"}
    assert stored["basic"] == {"user": "ci", "password_secret": "DEPLOY_TOKEN"}
    shown = html.unescape(admin.get(path).text)
    assert "X-Api-Key: ${DEPLOY_TOKEN}" in shown and "Authorization: Basic" in shown

    form = html.unescape(admin.get(f"{path}/edit").text)
    assert "X-Team: ml: ops" in form and 'value="ci"' in form
    (revision,) = re.findall(r'name="revision" value="(\d+)"', form)
    changed = {
        "name": "credentials",
        "url_secret": "",
        "url": "https://example.com/",
        "headers": "X-Team: ml",
        "signing_secret": "SIGNING",
        "policy": '{"success": {"body": {"done": true, "error": null}}}',
        "revision": revision,
    }
    saved = admin.post(f"{path}/edit", data=changed)
    assert saved.status_code == 303, saved.text
    stored = world.call("GET", f"/entities/acme/webhooks/{number}")
    assert (stored["headers"], stored["basic"], stored["secrets"]) == ({"X-Team": "ml"}, None, [])
    assert stored["policy"]["success"]["body"] == {"done": True, "error": None}
    assert stored["policy"]["retried_statuses"] == [408, 425, 429, "5xx"]
    kept = world.call("GET", f"/entities/acme/webhooks/{number}/revisions")["items"]
    assert len(kept) == 2, "one edit is one revision"
    assert admin.post(f"{path}/delete").headers["location"].endswith("?done=deleted")


def test_a_webhook_in_use_stays(world: World, visitors: dict[str, httpx.Client]) -> None:
    answer = visitors["admin"].post(filled(world, "/settings/webhooks/{deploy-hook}/delete"))
    assert answer.status_code == 409
    assert "in use by the automations" in answer.text


def test_webhooks_are_paused_and_resumed(world: World, visitors: dict[str, httpx.Client]) -> None:
    address = filled(world, "/settings/webhooks/{retried-hook}")
    for change, words in (("pause", "Paused"), ("resume", "Failing"), ("disable", "Disabled"), ("enable", "enabled")):
        done = visitors["admin"].post(f"{address}/{change}", follow_redirects=True)
        assert words in done.text, change


def test_a_secret_is_stored_and_deleted(world: World, visitors: dict[str, httpx.Client]) -> None:
    admin, value = visitors["admin"], "value-" + "s" * 20
    for done in ("created", "replaced"):
        answer = admin.post(f"{ENTITY}/settings/secrets", data={"name": "MADE_HERE", "value": value})
        assert answer.headers["location"].endswith(f"?done={done}")
    assert value not in admin.get(f"{ENTITY}/settings/secrets").text
    generated = admin.post(f"{ENTITY}/settings/secrets", data={"name": "MADE_HERE", "generate": "1"})
    (shown,) = re.findall(r"whsec_[\w+/=]{44}", html.unescape(generated.text))
    assert shown not in admin.get(f"{ENTITY}/settings/secrets").text
    assert generated.headers["cache-control"] == "no-store"
    assert admin.post(f"{ENTITY}/settings/secrets/MADE_HERE/delete").status_code == 303
    assert admin.post(f"{ENTITY}/settings/secrets/SIGNING/delete").status_code == 409


def test_a_key_is_shown_once_and_revoked(world: World, visitors: dict[str, httpx.Client]) -> None:
    admin = visitors["admin"]
    made = admin.post(f"{ENTITY}/settings/keys", data={"name": "made-here", "role": "publisher", "lasts": "90"})
    assert ("and ends" in made.text and "in 90 days" in made.text) or "in 89 days" in made.text
    (key,) = re.findall(r"hlk-[\w-]{43}", made.text)
    page = admin.get(f"{ENTITY}/settings/keys").text
    assert key not in page and "acme/made-here" in page
    (address,) = re.findall(r'href="([^"]+/revoke)">Revoke<[^>]*> made-here<', page)
    asked = admin.get(address).text
    assert "Revoke the key" in asked and key[:8] in asked and "acme/made-here" in asked
    assert admin.post(address).headers["location"].endswith("?done=revoked")
    assert "acme/made-here" not in admin.get(f"{ENTITY}/settings/keys").text
    refused = admin.post(f"{ENTITY}/settings/keys", data={"name": "made-here", "role": "publisher"})
    assert refused.status_code == 422 and "no other key of the entity had" in refused.text


def test_members_are_invited_changed_and_removed(world: World, visitors: dict[str, httpx.Client]) -> None:
    admin, address = visitors["admin"], f"{ENTITY}/settings/members"
    assert admin.post(address, data={"user": "carol", "role": "member"}).headers["location"].endswith("?done=invited")
    assert "carol" in admin.get(address).text
    world.call("POST", "/keys", {"name": "temp", "entity": "acme", "role": "member"})
    assert admin.post(address, data={"user": "acme/temp", "role": "publisher"}).status_code == 303
    page = admin.get(address).text
    (remove,) = re.findall(r'href="([^"]+/remove)">Remove<[^>]*> acme/temp<', page)
    assert "The role publisher in acme is lost at once" in admin.get(remove).text
    assert admin.post(remove).headers["location"].endswith("?done=removed")
    assert "acme/temp" not in admin.get(address).text
    assert admin.post(address, data={"user": "acme/temp", "role": "king"}).status_code == 422


def test_a_delivery_shows_what_was_sent_and_what_came_back(world: World, visitors: dict[str, httpx.Client]) -> None:
    made = world.delivery(status="dead")
    shown = world.call("GET", f"/entities/acme/deliveries/{made}")["attempt_log"][0]
    page = visitors["admin"].get(f"{ENTITY}/deliveries/{made}").text
    for told in (f"POST {shown['request']['url']}", "webhook-id: dlv_", f"{shown['request']['bytes']} bytes sent"):
        assert told in page


def test_a_delivery_that_waits_says_for_what(world: World, visitors: dict[str, httpx.Client]) -> None:
    waiting = world.delivery(status="pending")
    for path in (f"{ENTITY}/deliveries?status=pending", f"{ENTITY}/deliveries/{waiting}"):
        assert "Waits for: the next attempt is not due yet, until" in visitors["member"].get(path).text


def test_a_delivery_is_replayed(world: World, visitors: dict[str, httpx.Client]) -> None:
    old = world.delivery(status="dead")
    answer = visitors["admin"].post(f"{ENTITY}/deliveries/{old}/replay")
    assert answer.status_code == 303
    page = visitors["admin"].get(answer.headers["location"]).text
    assert "This is the new delivery" in page and old in page
    world.scene.deliver()


def test_an_automation_is_turned_off_and_on_and_deleted(world: World, visitors: dict[str, httpx.Client]) -> None:
    made = world.call(
        "POST",
        "/entities/acme/automations",
        {"name": "to go", "event": "LINK_ARTIFACT", "action": {"no_op": True}},
    )
    address, member = f"{ENTITY}/automations/{made['id']}", visitors["member"]
    assert "The automation is off" in member.post(f"{address}/disable", follow_redirects=True).text
    assert "The automation is on" in member.post(f"{address}/enable", follow_redirects=True).text
    assert "Delete the automation" in member.get(f"{address}/delete").text
    assert member.post(f"{address}/delete").headers["location"].endswith("?done=deleted")
    assert member.get(address).status_code == 404


def test_things_are_found_by_their_ids(world: World, visitors: dict[str, httpx.Client]) -> None:
    dead = world.delivery(status="dead")
    for text, target in {
        world.ids["record"]: f"/automations/{world.ids['record']}",
        world.ids["gone-hook"]: f"/settings/webhooks/{world.ids['gone-hook']}",
        f" {dead} ": f"/deliveries/{dead}",
        "promote-0": "/deliveries?event=promote-0",
        "dlv_../../x": "/deliveries?event=dlv_..%2F..%2Fx",
        "//evil.example": "/deliveries?event=%2F%2Fevil.example",
    }.items():
        answer = visitors["member"].get(f"{ENTITY}/find", params={"id": text})
        assert answer.headers["location"] == ENTITY + target


def test_filters_stand_in_the_url(world: World, visitors: dict[str, httpx.Client]) -> None:
    text = visitors["member"].get(f"{ENTITY}/deliveries?automation=gone&status=refused").text
    assert 'value="gone"' in text and "Clear" in text
    assert 'href="/console/e/acme/deliveries?status=skipped&amp;automation=gone"' in text
    none = visitors["member"].get(f"{ENTITY}/deliveries?event=nothing").text
    assert "No delivery matches these filters" in none
    wrong = visitors["member"].get(f"{ENTITY}/deliveries?since=yesterday")
    assert wrong.status_code == 422 and "RFC 3339" in wrong.text


def test_what_waits_is_no_success(world: World, visitors: dict[str, httpx.Client]) -> None:
    for page, name in (("/automations", "retried"), ("/settings/webhooks", "retried-hook")):
        text = visitors["member"].get(f"{ENTITY}{page}").text
        row = text[text.index(f'<bdi class="name">{name}</bdi>') :].partition("</tr>")[0]
        assert re.search(r"\d+ of \d+ waiting", row) and "without a failure" not in row, page


def test_an_empty_entity_says_what_to_do_first(world: World, visitors: dict[str, httpx.Client]) -> None:
    text = visitors["outsider"].get("/console/e/other").text
    assert "First steps" in text and "Add a webhook" in text
    for path, words in {"automations": "No automation yet", "deliveries": "Nothing has fired yet"}.items():
        assert words in visitors["outsider"].get(f"/console/e/other/{path}").text


def test_nothing_is_lost_by_one_click(world: World, visitors: dict[str, httpx.Client]) -> None:
    """Each button that looks dangerous is on a page that asks; elsewhere links lead to such a page."""
    for path, may in PAGES.items():
        if path in DOWNLOADS:
            continue
        text = visitors["root" if may == ROOT else "admin"].get(filled(world, path)).text
        buttons = re.findall(r'<button class="[^"]*danger[^"]*"', text)
        assert len(buttons) == ("danger sure" in text), path
        for address in re.findall(r'<a class="[^"]*danger[^"]*" href="([^"]+)"', text):
            asked = visitors["root" if may == ROOT else "admin"].get(html.unescape(address)).text
            assert asked.count('class="danger sure"') == 1 or "in use by" in asked, address
    mine = visitors["member"].get("/console/me").text
    (address,) = re.findall(r'href="(/console/me/keys/\w+/revoke)">Revoke<[^>]*> member<', mine)
    assert "Revoke the key" in visitors["member"].get(address).text
    assert visitors["outsider"].get(address).status_code == 404


MOST_QUERIES = 12
"""That a page may make, whatever it lists: beside those for the rows of the event log, of which there are none here."""
MOST_BYTES = 80 << 10
"""Of a page, however many bars its strips have."""
CROWD = 60
CROWDED = ("", "/automations", "/settings/webhooks", "/why", "/automations/new", "/settings/secrets")
"""Pages that are looked at with many rows, too."""


def fill_strips(world: World) -> None:
    """Give each automation of the crowd as many deliveries as a strip shows, of statuses that alternate."""
    fired = [alias_event(event_id=f"crowd-{number}", entity="crowd") for number in range(BARS)]
    world.call("POST", "/events", fired, key="root")
    world.scene.evaluate()
    with write_transaction(world.scene.process.engine) as connection:
        for status, rest in (("delivered", 0), ("dead", 1)):
            ids = [f"crowd-{number}" for number in range(rest, BARS, 2)]
            changed = update(deliveries).where(deliveries.c.event_id.in_(ids)).values(status=status)
            assert connection.execute(changed).rowcount == CROWD * len(ids)


def test_no_page_makes_many_queries(world: World, visitors: dict[str, httpx.Client]) -> None:
    hooks = [{"name": f"hook {number}", "url": "http://127.0.0.1:1999/x"} for number in range(CROWD)]
    rules = [
        {
            "name": f"rule {number}",
            "event": "ADD_ARTIFACT_ALIAS",
            "action": {"webhook": f"hook {number}", "payload": {}},
        }
        for number in range(CROWD)
    ]
    world.call("PUT", "/entities/crowd", {}, key="root")
    world.call("POST", "/entities/crowd/apply", {"webhooks": hooks, "automations": rules}, key="root")
    counted: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA", "SAVEPOINT")):
            counted.append(statement)

    weighed: dict[str, int] = {}
    looks = [("root" if may == ROOT else "admin", filled(world, path)) for path, may in PAGES.items()]
    looks += [("root", f"/console/e/crowd{path}") for path in CROWDED]
    event.listen(Engine, "before_cursor_execute", count)
    try:
        for key, address in looks:
            if address == "/console/e/crowd":
                fill_strips(world)
            counted.clear()
            answer = visitors[key].get(address)
            assert answer.status_code == 200
            assert 0 < len(counted) <= MOST_QUERIES, (address, "\n".join(counted))
            weighed[address] = len(answer.content)
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    heavy = {one: weight for one, weight in weighed.items() if weight > MOST_BYTES}
    assert not heavy, "pages are too large"


def test_of_many_automations_one_is_chosen_by_its_name(
    world: World, visitors: dict[str, httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(why, "MAX_CHOICES", 2)
    page = visitors["member"].get(f"{ENTITY}/why?automation=gone&event=promote-1").text
    assert '<input id="f-automation" name="automation" value="gone"' in page and "No. The filter says no." in page
    assert visitors["member"].get(f"{ENTITY}/why?automation=none").status_code == 404


def test_the_overview_counts_what_was_not_delivered_of_late(world: World, visitors: dict[str, httpx.Client]) -> None:
    page = visitors["member"].get(ENTITY).text
    refused = page[page.index(">Refused</a>") :].partition("</li>")[0]
    assert re.search(r'class="number">[1-9]\d*</p><p class="faint">in 24 h, newest <time', refused), refused
    assert 'href="/console/e/acme/deliveries?status=refused&amp;since=24h"' in page
    (troubled,) = re.findall(r"\d+ need a look", page)
    rows = page[page.index('id="trouble"') :].partition("</table>")[0].count("<tr>") - 1
    assert troubled == f"{rows} need a look"


def test_the_script_of_a_delivery_names_secrets_and_says_its_content_type(
    world: World, visitors: dict[str, httpx.Client]
) -> None:
    """The URL is a secret as a whole, and one stands in the body."""
    address = f"{world.scene.receiver.url}/gone/secret-way"
    world.call("PUT", "/entities/acme/secrets/SECRET_WAY", {"value": address})
    hook = {"name": "secret-way", "url_secret": "SECRET_WAY", "secrets": ["DEPLOY_TOKEN"]}
    world.call("POST", "/entities/acme/webhooks", hook)
    sent = {"payload": {"t": "${DEPLOY_TOKEN}"}, "content_type": "application/cloudevents+json"}
    scope = {"project": "wandb-registry-model", "collection": "secret-way"}
    rule = {"name": "secret-way", "event": "ADD_ARTIFACT_ALIAS", "scope": scope}
    rule |= {"action": {"webhook": "secret-way", **sent}}
    number = world.call("POST", "/entities/acme/automations", rule)["id"]
    world.publish(alias_event("secret-way", collection="secret-way", event_id="secret-way"))
    path = f"{ENTITY}/deliveries/{world.delivery(automation=number)}"
    text = html.unescape(visitors["member"].get(path).text)
    assert "-H 'Content-Type: application/cloudevents+json'" in text
    assert "API_ENDPOINT='***URL***'" in text and 'PAYLOAD=\'{"t": "***DEPLOY_TOKEN***"}\'' in text
    assert "in the URL are named only" in text
    assert address not in text and SECRETS["DEPLOY_TOKEN"] not in text
