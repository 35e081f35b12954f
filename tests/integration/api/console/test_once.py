"""Forms that are sent twice take effect once, and what is refused before a page is reached is a page too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest

from dispatcher.console import once as once_module
from tests.integration.api.console.test_pages import ENTITY
from tests.integration.api.console.world import World
from tests.integration.scene import alias_event

_FIELD = re.compile(r'name="once" value="([\w-]{22})"')


@pytest.fixture(scope="module")
def admin(world: World) -> Iterator[httpx.Client]:
    """An administrator's browser without scripts."""
    with world.visitor("admin") as admin:
        yield admin


def test_a_replay_that_is_clicked_twice_is_one(world: World, admin: httpx.Client) -> None:
    world.publish(alias_event("broken", event_id="clicked twice"))
    path = f"{ENTITY}/deliveries/{world.delivery(event='clicked twice')}"
    (once,) = _FIELD.findall(admin.get(path).text)
    with ThreadPoolExecutor(2) as clicks:
        answers = list(clicks.map(lambda _: admin.post(f"{path}/replay", data={"once": once}), range(2)))
    assert len({answer.headers["location"] for answer in answers}) == 1
    found = world.call("GET", "/entities/acme/deliveries?event=clicked%20twice")["items"]
    assert len(found) == 2
    (other,) = _FIELD.findall(admin.get(path).text)
    assert admin.post(f"{path}/replay", data={"once": other}).headers["location"] != answers[0].headers["location"]
    world.scene.deliver()


def test_what_is_created_twice_is_one(world: World, admin: httpx.Client) -> None:
    for page, fields in (
        ("/automations/new", {"name": "made once", "event": "LINK_ARTIFACT", "action": "no_op"}),
        ("/settings/webhooks/new", {"name": "made once", "url": f"{world.scene.receiver.url}/once"}),
    ):
        (once,) = _FIELD.findall(admin.get(f"{ENTITY}{page}").text)
        refused = admin.post(f"{ENTITY}{page}", data={**fields, "name": "", "once": once})
        assert refused.status_code == 422
        first, second = (admin.post(f"{ENTITY}{page}", data={**fields, "once": once}) for _ in range(2))
        assert (first.status_code, second.status_code) == (303, 303)
        assert first.headers["location"] == second.headers["location"]
        path = first.headers["location"].partition("?")[0]
        admin.post(f"{path}/delete")


def test_a_form_that_is_changed_after_it_took_effect_is_another_one(world: World, admin: httpx.Client) -> None:
    """A browser's Back button shows the form with its token again."""
    fields = {"name": "before back", "url": f"{world.scene.receiver.url}/back", "once": "b" * 22}
    paths = []
    for changed in ({}, {"name": "after back"}, {"name": "after back"}, {}):
        answer = admin.post(f"{ENTITY}/settings/webhooks/new", data={**fields, **changed})
        paths.append(answer.headers["location"].partition("?")[0])
    assert paths[1] == paths[2] != paths[0] == paths[3]
    for path in paths[:2]:
        admin.post(f"{path}/delete")


def test_a_token_belongs_to_one_user(world: World, admin: httpx.Client) -> None:
    fields = {"name": "made by two", "event": "LINK_ARTIFACT", "action": "no_op", "once": "a" * 22}
    made = admin.post(f"{ENTITY}/automations/new", data=fields).headers["location"].partition("?")[0]
    with world.visitor("member") as member:
        assert member.post(f"{ENTITY}/automations/new", data=fields).status_code == 422  # the name is taken
    admin.post(f"{made}/delete")


def test_what_is_refused_before_a_page_is_a_page(world: World, admin: httpx.Client) -> None:
    large = admin.post(f"{ENTITY}/automations/new", data={"name": "x" * (1 << 20)})
    assert (large.status_code, large.headers["content-type"]) == (413, "text/html; charset=utf-8")
    assert "This is too large" in large.text and "nonce-" in large.headers["content-security-policy"]
    nul = admin.get(f"{ENTITY}/automations?text=%00")
    assert nul.status_code == 400 and "U+0000" in nul.text and "<h1>" in nul.text
    assert httpx.get(f"{world.url}/v1/me?x=%00").headers["content-type"] == "application/problem+json"


_KEY = re.compile(r"hlk-[\w-]{43}")


@pytest.mark.parametrize(
    ("role", "page", "path", "name"),
    [
        ("member", "/console/me", "/console/me/keys", "name"),
        ("admin", f"{ENTITY}/settings/keys", f"{ENTITY}/settings/keys", "name"),
        ("root", "/console/admin/users/usr_2", "/console/admin/users/usr_2/keys", "key_name"),
    ],
)
def test_a_key_that_is_asked_for_twice_is_one(world: World, role: str, page: str, path: str, name: str) -> None:
    """The browser shows the second answer, which has to have the key that there is."""
    with world.visitor(role) as visitor:
        (once,) = _FIELD.findall(visitor.get(page).text)
        fields = {name: "clicked twice", "role": "publisher", "lasts": "30", "once": once}
        refused = visitor.post(path, data={**fields, "lasts": "31"})
        assert refused.status_code == 422 and 'id="e-lasts"' in refused.text and 'value="clicked twice"' in refused.text
        with ThreadPoolExecutor(2) as clicks:
            answers = list(clicks.map(lambda _: visitor.post(path, data=fields), range(2)))
        keys = {key for answer in answers for key in _KEY.findall(answer.text)}
        assert [answer.status_code for answer in answers] == [200, 200] and len(keys) == 1
        listed = visitor.get(page).text
        assert listed.count('main-link"><bdi class="name">clicked twice<') == 1 and not _KEY.search(listed)
        for revoke in re.findall(r'href="([^"]*/revoke)">Revoke<span[^>]*> clicked twice<', listed):
            assert visitor.post(revoke).status_code == 303


def test_a_secret_that_is_generated_twice_is_one(world: World, admin: httpx.Client) -> None:
    """The value that is shown last is the one that is stored."""
    for page, path, fields in (
        ("/settings/secrets/new", "/settings/secrets", {"name": "TWICE_A", "generate": "1"}),
        (
            "/settings/webhooks/new",
            "/settings/webhooks/new",
            {"new_secret_name": "TWICE_B", "store_secret": "generate", "new_secret_use": "signing_secret"},
        ),
    ):
        (once,) = _FIELD.findall(admin.get(f"{ENTITY}{page}").text)
        shown = [admin.post(f"{ENTITY}{path}", data={**fields, "once": once}) for _ in range(2)]
        values = [re.findall(r">(whsec_[\w+/=]+)<", answer.text) for answer in shown]
        assert values[0] == values[1] and len(values[0]) == 1, page
        with pytest.MonkeyPatch.context() as later:
            later.setattr(once_module, "SHOWN_AGAIN", timedelta())
            again = admin.post(f"{ENTITY}{path}", data={**fields, "once": once})
        assert again.status_code == 422 and "shown once" in again.text and values[0][0] not in again.text
        other = {**fields, "name": "TWICE_C", "new_secret_name": "TWICE_C", "once": once}
        assert admin.post(f"{ENTITY}{path}", data=other).status_code == 200  # another one is no repeat
        kept = world.call("GET", "/entities/acme/secrets")["items"]
        for name in sorted({one["name"] for one in kept if one["name"].startswith("TWICE_")}):
            world.call("DELETE", f"/entities/acme/secrets/{name}")
        assert {one["name"] for one in kept} >= {"TWICE_C"}


def test_what_administrators_create_twice_is_one(world: World, admin: httpx.Client) -> None:
    slack = {"name": "made once", "url_secret": "SLACK_URL"}
    user, entity = {"name": "made-once"}, {"entity": "made-once", "kind": "team"}
    with world.visitor("root") as root:
        for visitor, page, path, fields in (
            (admin, f"{ENTITY}/settings/slack/new", f"{ENTITY}/settings/slack/new", slack),
            (root, "/console/admin/users", "/console/admin/users", user),
            (root, "/console/admin/entities", "/console/admin/entities", entity),
        ):
            (once,) = _FIELD.findall(visitor.get(page).text)
            first, second = (visitor.post(path, data={**fields, "once": once}) for _ in range(2))
            assert (first.status_code, second.status_code) == (303, 303), path
            assert first.headers["location"] == second.headers["location"]
            assert visitor.post(first.headers["location"].partition("?")[0] + "/delete").status_code == 303
