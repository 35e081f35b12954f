"""Forms that are sent twice take effect once, and what is refused before a page is reached is a page too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

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
