"""Keys, users, roles and the catalog: who may see and do what."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from sqlalchemy import Engine, select

from dispatcher.api import caller_cache
from shared.storage.database.transactions import read_transaction
from shared.storage.schema.tables import api_keys
from tests.integration.api.conftest import ACME, Api, problem_of


def test_a_key_is_shown_once_and_stored_as_a_digest(api: Api, engine: Engine) -> None:
    made = api.ok("POST", "/v1/keys", {"name": "laptop"}, status=201)

    assert made["key"].startswith("hlk-")
    assert len(made["key"]) == 47
    assert made["hint"] == made["key"][:8]
    assert made["user"] == "admin"
    listed = api.ok("GET", "/v1/keys")["items"]
    assert {key: value for key, value in made.items() if key != "key"} in listed
    assert made["key"] not in "".join(api.answers[-1:])
    with read_transaction(engine) as connection:
        assert made["key"] not in repr(connection.execute(select(api_keys)).all())


def test_a_revoked_key_is_refused(api: Api) -> None:
    api.key("leaked", entity="acme", role="member")
    api.ok("GET", f"{ACME}/webhooks", key="leaked")
    key_id = next(key["id"] for key in api.ok("GET", "/v1/keys")["items"] if key["name"] == "leaked")

    api.refused("DELETE", f"/v1/keys/{key_id}", key="outsider", status=404)
    api.refused("DELETE", f"/v1/keys/{key_id}", key="member", status=404)
    api.ok("DELETE", f"/v1/keys/{key_id}", key="admin", status=204)

    api.refused("GET", f"{ACME}/webhooks", key="leaked", status=401)
    api.refused("DELETE", f"/v1/keys/{key_id}", status=404)
    api.refused("DELETE", "/v1/keys/nonsense", status=404)


def test_a_key_revoked_elsewhere_is_honoured_for_a_moment_only(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("dispatcher.api.caller_cache.monotonic", lambda: now)
    api.key("leaked", entity="acme", role="member")
    api.ok("GET", f"{ACME}/webhooks", key="leaked")
    monkeypatch.setattr(caller_cache.CallerCache, "clear", lambda self: None)
    key_id = next(key["id"] for key in api.ok("GET", "/v1/keys")["items"] if key["name"] == "leaked")
    api.ok("DELETE", f"/v1/keys/{key_id}", status=204)

    api.ok("GET", f"{ACME}/webhooks", key="leaked")
    now += caller_cache.REMEMBERED_SECONDS
    api.refused("GET", f"{ACME}/webhooks", key="leaked", status=401)


def test_the_use_of_a_key_is_noted(api: Api) -> None:
    used = {key["name"]: key["last_used_at"] for key in api.ok("GET", "/v1/keys")["items"]}

    assert used["HOOKLINE_ADMIN_API_KEY"] is not None
    assert used["member"] is None


def test_administrators_of_an_entity_make_keys_for_it_alone(api: Api) -> None:
    api.key("ci", entity="acme", role="publisher")
    made = api.ok("POST", "/v1/keys", {"name": "ci2", "entity": "acme", "role": "admin"}, key="admin", status=201)

    assert made["user"] == "acme/ci2"
    names = [key["name"] for key in api.ok("GET", "/v1/keys", key="admin")["items"]]
    assert names == ["admin", "member", "publisher", "ci", "ci2"]
    assert [key["name"] for key in api.ok("GET", "/v1/keys", key="member")["items"]] == ["member"]
    assert [key["name"] for key in api.ok("GET", "/v1/keys", key="outsider")["items"]] == ["outsider"]
    refused: list[tuple[str, dict[str, Any], int]] = [
        ("admin", {"entity": "other", "role": "member"}, 404),
        ("member", {"entity": "acme", "role": "member"}, 403),
        ("admin", {"user": "admin"}, 403),
        ("admin", {"user": "other/outsider", "entity": "acme", "role": "member"}, 403),
        ("publisher", {}, 403),
    ]
    for key, members, status in refused:
        api.refused("POST", "/v1/keys", {"name": "x", **members}, key=key, status=status)


def test_a_user_with_roles_elsewhere_is_not_managed_by_one_entity(api: Api) -> None:
    roles = [{"entity": "acme", "role": "member"}, {"entity": "other", "role": "member"}]
    api.ok("POST", "/v1/users", {"name": "alice", "email": "alice@example.com", "roles": roles}, status=201)
    api.key("alice", user="alice")

    api.ok("GET", f"{ACME}/webhooks", key="alice")
    api.ok("GET", "/v1/entities/other/webhooks", key="alice")
    for key in ("admin", "outsider"):
        assert "alice" not in [found["name"] for found in api.ok("GET", "/v1/keys", key=key)["items"]]
    assert "alice" in [found["name"] for found in api.ok("GET", "/v1/keys")["items"]]


def test_bad_keys_are_refused(api: Api) -> None:
    before = api.ok("GET", "/v1/keys")
    bad: list[tuple[dict[str, Any], int, list[list[str]]]] = [
        ({}, 422, [["name"]]),
        ({"name": ""}, 422, [["name"]]),
        ({"name": "x", "role": "member"}, 422, [["entity"]]),
        ({"name": "x", "entity": "acme"}, 422, [["role"]]),
        ({"name": "x", "entity": "acme", "role": "owner"}, 422, [["role"]]),
        ({"name": "x", "user": "nobody"}, 422, [["user"]]),
        ({"name": "x", "entity": "nowhere", "role": "member"}, 404, []),
        ({"name": "member", "entity": "acme", "role": "member"}, 409, [["name"]]),
    ]
    for body, status, locs in bad:
        assert api.refused("POST", "/v1/keys", body, status=status).locs == locs, body
    assert api.ok("GET", "/v1/keys") == before


def test_users_are_made_and_seen_by_instance_administrators(api: Api) -> None:
    made = api.ok("POST", "/v1/users", {"name": "bob", "roles": [{"entity": "acme", "role": "admin"}]}, status=201)

    assert made["id"].startswith("usr_")
    assert (made["name"], made["email"], made["is_admin"]) == ("bob", None, False)
    assert made["roles"] == [{"entity": "acme", "role": "admin"}]
    assert made in api.ok("GET", "/v1/users")["items"]
    assert [user["name"] for user in api.ok("GET", "/v1/users", key="member")["items"]] == ["acme/member"]
    api.refused("POST", "/v1/users", {"name": "eve"}, key="admin", status=403)
    bad: list[tuple[dict[str, Any], int, list[list[Any]]]] = [
        ({"name": "bob"}, 409, [["name"]]),
        ({"name": "a b"}, 422, [["name"]]),
        ({"name": "acme/x"}, 422, [["name"]]),
        ({"name": "eve", "email": "nowhere"}, 422, [["email"]]),
        ({"name": "eve", "roles": [{"entity": "nowhere", "role": "member"}]}, 422, [["roles", 0, "entity"]]),
        ({"name": "eve", "roles": [{"entity": "acme"}]}, 422, [["roles", 0, "role"]]),
        ({"name": "eve", "is_admin": "yes"}, 422, [["is_admin"]]),
    ]
    for body, status, locs in bad:
        assert api.refused("POST", "/v1/users", body, status=status).locs == locs, body
    assert "eve" not in [user["name"] for user in api.ok("GET", "/v1/users")["items"]]


def test_who_has_no_key_gets_nothing(api: Api) -> None:
    basic = base64.b64encode(f"api:{api.keys['member']}".encode()).decode()
    for header in ("", "Bearer", "Bearer wrong", "Basic !", "Digest x", f"Bearer {api.keys['member']}x"):
        response = api.client.request("GET", f"{ACME}/webhooks", headers={"Authorization": header})
        assert problem_of(response, 401).headers["www-authenticate"]
    problem_of(api.client.request("GET", f"{ACME}/webhooks"), 401)
    problem_of(api.client.request("PUT", f"{ACME}/secrets/X", content=b"not json"), 401)
    response = api.client.request("GET", f"{ACME}/webhooks", headers={"Authorization": f"Basic {basic}"})
    assert response.status_code == 200


def test_entities_are_made_by_instance_administrators_and_seen_by_their_own(api: Api) -> None:
    organization = api.ok("PUT", "/v1/entities/big-org", {"kind": "organization"}, status=201)
    team = api.ok("PUT", "/v1/entities/team-1", {"parent": "big-org"}, status=201)

    assert (organization["kind"], team["kind"], team["parent"]) == ("organization", "team", "big-org")
    assert api.ok("PUT", "/v1/entities/team-1", {}) == team | {"parent": None}
    assert api.ok("GET", "/v1/entities/team-1")["parent"] is None
    names = [entity["name"] for entity in api.ok("GET", "/v1/entities")["items"]]
    assert names == ["acme", "other", "big-org", "team-1"]
    for key in ("admin", "publisher"):
        assert [entity["name"] for entity in api.ok("GET", "/v1/entities", key=key)["items"]] == ["acme"]
        assert api.ok("GET", "/v1/entities/acme", key=key)["name"] == "acme"
        api.refused("GET", "/v1/entities/other", key=key, status=404)
        api.refused("PUT", "/v1/entities/mine", {}, key=key, status=403)
    for name, body, loc in (
        ("-x", {}, "entity"),
        ("a" * 129, {}, "entity"),
        ("a b", {}, "entity"),
        ("x", {"kind": "user"}, "kind"),
        ("x", {"parent": "acme"}, "parent"),
        ("x", {"parent": "nowhere"}, "parent"),
        ("x", {"colour": "red"}, "colour"),
    ):
        assert api.refused("PUT", f"/v1/entities/{name}", body, status=422).locs == [[loc]], (name, body)
    assert len(api.ok("GET", "/v1/entities")["items"]) == 4


def test_projects_and_collections_are_registered_once(api: Api) -> None:
    project = api.ok("PUT", f"{ACME}/projects/digits", {"description": "numbers"}, key="member")
    assert (project["name"], project["description"]) == ("digits", "numbers")
    assert api.ok("PUT", f"{ACME}/projects/digits", {}) == project
    assert api.ok("PUT", f"{ACME}/projects/digits", {"description": None})["description"] is None
    model = api.ok("PUT", f"{ACME}/projects/digits/collections/mlp", {}, key="member")
    assert (model["project"], model["name"], model["type"]) == ("digits", "mlp", "")
    assert api.ok("PUT", f"{ACME}/projects/digits/collections/mlp", {"type": "model"})["type"] == "model"
    assert api.ok("PUT", f"{ACME}/projects/digits/collections/mlp", {})["type"] == "model"
    api.ok("PUT", f"{ACME}/projects/else%20where/collections/data", {})

    assert [found["name"] for found in api.ok("GET", f"{ACME}/projects")["items"]] == ["digits", "else where"]
    assert [found["name"] for found in api.ok("GET", f"{ACME}/collections")["items"]] == ["mlp", "data"]
    only = api.ok("GET", f"{ACME}/projects/digits/collections", key="member")["items"]
    assert [found["name"] for found in only] == ["mlp"]
    api.refused("GET", f"{ACME}/projects/unknown/collections", status=404)
    assert api.refused("PUT", f"{ACME}/projects/{'p' * 513}", {}, status=422).locs == [["project"]]
    assert api.refused("PUT", f"{ACME}/projects/p/collections/a%0Ab", {}, status=422).locs == [["collection"]]
    assert api.refused("PUT", f"{ACME}/projects/p", {"description": 1}, status=422).locs == [["description"]]
    for key, status in (("publisher", 403), ("outsider", 404)):
        api.refused("GET", f"{ACME}/projects", key=key, status=status)
        api.refused("GET", f"{ACME}/collections", key=key, status=status)
        api.refused("PUT", f"{ACME}/projects/x", {}, key=key, status=status)
    assert api.ok("GET", "/v1/entities/other/projects", key="outsider")["items"] == []


def test_a_key_can_ask_whose_it_is(api: Api) -> None:
    for name in api.keys:
        shown = api.ok("GET", "/v1/me", key=name)
        assert shown == api.ok("GET", f"/v1/users/{shown['id']}", key=name)
    assert api.ok("GET", "/v1/me")["is_admin"] is True
    assert api.client.request("GET", "/v1/me").status_code == 401
