"""Pages for instance administrators without scripts: entities with quotas, users, keys, health and what went wrong."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import httpx
import pytest

from shared.domain.quotas import Quota
from tests.integration.api.console.world import World

ADMIN = "/console/admin"


@pytest.fixture(scope="module")
def root(world: World) -> Iterator[httpx.Client]:
    with world.visitor("root") as visitor:
        yield visitor


def test_an_entity_is_made_bounded_and_deleted(root: httpx.Client) -> None:
    made = root.post(f"{ADMIN}/entities", data={"entity": "made-here", "kind": "team", "parent": ""})
    assert made.headers["location"] == f"{ADMIN}/entities/made-here?done=created"
    again = root.post(f"{ADMIN}/entities", data={"entity": "made-here", "kind": "organization"})
    assert again.status_code == 422 and "must be a new name" in again.text and 'value="made-here"' in again.text
    address = f"{ADMIN}/entities/made-here"
    fields = {"kind": "team", "quotas.automations": "7", "quotas.webhooks": "", "answers_hidden": "1"}
    assert root.post(address, data=fields).headers["location"].endswith("?done=saved")
    page = root.get(address).text
    assert 'name="quotas.automations" type="text" value="7"' in page and 'value="1" checked' in page
    assert all(f'name="quotas.{quota}"' in page for quota in Quota), "a quota without a field is set back when saving"
    for value in ("-1", "seven", "99999999999999999999", "٣"):
        refused = root.post(address, data={**fields, "quotas.automations": value})
        assert refused.status_code == 422 and 'id="e-quotas.automations"' in refused.text, value
    assert root.post(address, data={**fields, "parent": "acme"}).status_code == 422
    assert 'value="7"' in root.get(address).text
    assert "Delete the entity" in root.get(f"{address}/delete").text
    assert root.post(f"{address}/delete").headers["location"].endswith("?done=deleted")
    assert root.get(address).status_code == 404 == root.post(address, data=fields).status_code
    used = root.post(f"{ADMIN}/entities/acme/delete")
    assert used.status_code == 409 and "cannot be deleted" in used.text


def test_a_user_is_made_given_roles_and_keys_and_deleted(root: httpx.Client) -> None:
    made = root.post(f"{ADMIN}/users", data={"name": "vera", "email": "vera@example.com"})
    address = made.headers["location"].partition("?")[0]
    taken = root.post(f"{ADMIN}/users", data={"name": "vera"})
    assert taken.status_code == 422 and 'id="e-name"' in taken.text
    roles = {
        "email": "vera@example.com",
        "role.entity": ["acme", "", "other"],
        "role.role": ["member", "admin", "admin"],
    }
    assert root.post(address, data=roles).headers["location"].endswith("?done=saved")
    page = root.get(address).text
    assert [*re.findall(r'name="role.entity" value="([^"]*)"', page)] == ["acme", "other", "", ""]
    refused = root.post(address, data={**roles, "role.entity": ["nowhere"]})
    assert refused.status_code == 422 and 'value="nowhere"' in refused.text and 'id="e-roles"' in refused.text
    key = root.post(f"{address}/keys", data={"key_name": "first"})
    (text,) = re.findall(r"hlk-[\w-]{43}", key.text)
    page = root.get(address).text
    assert text not in page and "first" in page
    (revoke,) = re.findall(r'href="(/console/admin/keys/key_\d+/revoke)"', page)
    assert root.post(revoke).headers["location"] == f"{ADMIN}/keys?done=revoked"
    assert root.get(f"{ADMIN}/users?name=vera").headers["location"] == address
    assert root.get(f"{ADMIN}/users?name=acme%2Fadmin").status_code == 303
    assert "Delete the user" in root.get(f"{address}/delete").text
    assert root.post(f"{address}/delete").headers["location"].endswith("?done=deleted")
    assert root.get(address).status_code == 404


def test_an_entity_s_rate_of_events_is_set_and_taken_away(world: World, root: httpx.Client) -> None:
    world.call("PUT", "/entities/paced", {}, key="root")
    address = f"{ADMIN}/entities/paced"
    for typed, stored in (("50", 50), ("", None)):
        saved = root.post(address, data={"kind": "team", "quotas.events_per_second": typed})
        assert saved.headers["location"].endswith("?done=saved"), saved.text
        assert f'name="quotas.events_per_second" type="text" value="{typed}"' in root.get(address).text
        assert world.call("GET", "/entities/paced", key="root")["events_per_second"] == stored
    for odd in ("0", "fast", "-1", "9" * 15):
        refused = root.post(address, data={"kind": "team", "quotas.events_per_second": odd})
        assert refused.status_code == 422 and 'id="e-quotas.events_per_second"' in refused.text, odd


def test_the_last_administrator_stays(world: World, root: httpx.Client) -> None:
    me = root.get(f"{ADMIN}/users?name=admin").headers["location"]
    kept = root.post(me, data={"email": ""})
    assert kept.status_code == 422 and "no instance administrator" in kept.text
    assert root.post(f"{me}/delete").status_code == 409
    assert root.get(f"{ADMIN}/health").status_code == 200


def test_what_is_wrong_is_told(world: World, root: httpx.Client) -> None:
    health = html.unescape(root.get(f"{ADMIN}/health").text)
    assert "dead letters" in health and "HooklineDeadLetters.md" in health
    letters = root.get(f"{ADMIN}/dead-letters").text
    assert f'/settings/webhooks/{world.ids["broken-hook"]}"' in letters and "status=dead" in letters
    entry = html.unescape(root.get(f"{ADMIN}/poison/3/1-1").text)
    assert "\\u202e" in entry and "The same bytes in base64" in entry
    assert root.get(f"{ADMIN}/poison/3/9-9").status_code == 404
    assert root.get(f"{ADMIN}/poison/x/9-9").status_code == 422
    assert root.get(f"{ADMIN}/poison?cursor=x").status_code == 422
    assert root.get(ADMIN).headers["location"] == f"{ADMIN}/health"
