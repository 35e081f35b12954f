"""Users, members and entities: changed by whom they belong to, and never left without anybody to administer them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import Engine, select

from shared.storage.database.transactions import read_transaction
from shared.storage.schema.tables import api_keys, users
from tests.integration.api.conftest import ACME, Api, create_webhook

MEMBERS = f"{ACME}/members"


def user(api: Api, name: str = "alice", **members: Any) -> Any:
    """A new user with a key of the same name."""
    made = api.ok("POST", "/v1/users", {"name": name, **members}, status=201)
    api.key(name, user=name)
    return made


def test_a_user_is_seen_changed_and_deleted(api: Api, engine: Engine) -> None:
    made = user(api, email="alice@example.com", roles=[{"entity": "acme", "role": "member"}])
    path = f"/v1/users/{made['id']}"

    assert api.ok("GET", path) == api.ok("GET", "/v1/users/alice") == made
    assert api.ok("GET", path, key="alice") == made
    for key in ("admin", "member", "outsider"):
        api.refused("GET", path, key=key, status=404)
        api.refused("PATCH", path, {"is_admin": True}, key=key, status=403)
        api.refused("DELETE", path, key=key, status=403)
    changed = api.ok("PATCH", path, {"email": None, "roles": [{"entity": "other", "role": "publisher"}]})
    assert changed == made | {
        "email": None,
        "roles": [{"entity": "other", "role": "publisher"}],
        "default_entity": None,  # it was acme
    }
    api.refused("GET", f"{ACME}/webhooks", key="alice", status=404)
    assert api.ok("PATCH", path, {}) == changed
    assert api.ok("PATCH", path, {"is_admin": True})["is_admin"]
    api.ok("GET", f"{ACME}/webhooks", key="alice")
    api.ok("DELETE", path, status=204)
    api.refused("GET", f"{ACME}/webhooks", key="alice", status=401)
    api.refused("GET", path, status=404)
    api.refused("DELETE", path, status=404)
    with read_transaction(engine) as connection:
        kept = select(api_keys.c.id).join(users).where(users.c.name == "alice")
        assert connection.execute(kept).all() == []


def test_bad_changes_of_users_change_nothing(api: Api) -> None:
    made = user(api)
    bad: list[tuple[Any, list[list[Any]]]] = [
        ({"name": "bob"}, [["name"]]),
        ({"email": "nowhere"}, [["email"]]),
        ({"is_admin": 1}, [["is_admin"]]),
        ({"is_admin": True, "roles": [{"entity": "nowhere", "role": "member"}]}, [["roles", 0, "entity"]]),
        ({"roles": [{"entity": "acme", "role": "owner"}]}, [["roles", 0, "role"]]),
        ([], [[]]),
    ]
    for body, locs in bad:
        assert api.refused("PATCH", f"/v1/users/{made['id']}", body, status=422).locs == locs, body
    assert api.ok("GET", "/v1/users/alice") == made
    assert api.refused("POST", "/v1/users", {"name": "usr_5"}, status=422).locs == [["name"]]


def test_somebody_stays_to_administer_the_instance(api: Api) -> None:
    root_key = next(k for k in api.ok("GET", "/v1/keys")["items"] if k["user"] == "admin")["id"]
    api.ok("POST", "/v1/users", {"name": "keyless", "is_admin": True}, status=201)

    api.refused("PATCH", "/v1/users/admin", {"is_admin": False}, status=409)
    api.refused("DELETE", "/v1/users/admin", status=409)
    api.refused("DELETE", f"/v1/keys/{root_key}", status=409)
    api.key("spare", user="keyless")
    api.ok("DELETE", f"/v1/keys/{root_key}", status=204)
    api.refused("GET", "/v1/users", status=401)
    api.refused("DELETE", "/v1/users/keyless", key="spare", status=409)
    api.ok("DELETE", "/v1/users/admin", key="spare", status=204)


def test_members_are_listed_added_changed_and_removed(api: Api) -> None:
    made = user(api)
    path = f"{MEMBERS}/{made['id']}"
    api.refused("GET", f"{ACME}/webhooks", key="alice", status=404)

    added = api.ok("PUT", f"{MEMBERS}/alice", {"role": "member"}, status=201)

    assert added == {"id": made["id"], "name": "alice", "role": "member"}
    assert api.ok("GET", path, key="admin") == added
    assert [(m["name"], m["role"]) for m in api.ok("GET", MEMBERS, key="admin")["items"]] == [
        ("acme/admin", "admin"),
        ("acme/member", "member"),
        ("acme/publisher", "publisher"),
        ("alice", "member"),
    ]
    api.refused("POST", f"{ACME}/webhooks", {}, key="alice", status=403)
    assert api.ok("PUT", path, {"role": "admin"}, key="admin")["role"] == "admin"
    create_webhook(api)
    api.ok("GET", f"{ACME}/members", key="alice")
    api.ok("DELETE", path, key="admin", status=204)
    api.refused("GET", f"{ACME}/webhooks", key="alice", status=404)
    api.refused("DELETE", path, key="admin", status=404)
    api.refused("GET", path, key="admin", status=404)


def test_members_are_for_administrators_of_the_entity(api: Api) -> None:
    made = user(api)
    for key, status in (("member", 403), ("publisher", 403), ("outsider", 404), ("alice", 404)):
        api.refused("GET", MEMBERS, key=key, status=status)
        api.refused("GET", f"{MEMBERS}/{made['id']}", key=key, status=status)
        api.refused("PUT", f"{MEMBERS}/{made['id']}", {"role": "admin"}, key=key, status=status)
        api.refused("DELETE", f"{MEMBERS}/{made['id']}", key=key, status=status)
    assert api.refused("PUT", f"{MEMBERS}/alice", {"role": "owner"}, key="admin", status=422).locs == [["role"]]
    api.refused("PUT", f"{MEMBERS}/nobody", {"role": "member"}, status=404)
    api.refused("PUT", f"{MEMBERS}/usr_999", {"role": "member"}, status=404)
    assert len(api.ok("GET", MEMBERS)["items"]) == 3


def test_somebody_stays_to_administer_an_entity(api: Api) -> None:
    mine = next(m for m in api.ok("GET", MEMBERS)["items"] if m["name"] == "acme/admin")
    path = f"{MEMBERS}/{mine['id']}"
    api.ok("POST", "/v1/users", {"name": "keyless"}, status=201)
    api.ok("PUT", f"{MEMBERS}/keyless", {"role": "admin"}, status=201)

    api.refused("DELETE", path, key="admin", status=409)
    api.refused("PUT", path, {"role": "member"}, key="admin", status=409)
    assert api.ok("GET", path, key="admin")["role"] == "admin"
    api.key("keyless", user="keyless")
    api.ok("PUT", path, {"role": "member"}, key="admin")
    api.refused("DELETE", f"{MEMBERS}/keyless", key="admin", status=403)
    api.ok("DELETE", f"{MEMBERS}/keyless", status=204)


def test_two_administrators_can_not_both_step_down(api: Api) -> None:
    ids = {m["name"]: m["id"] for m in api.ok("GET", MEMBERS)["items"]}
    for _ in range(4):
        api.ok("PUT", f"{MEMBERS}/{ids['acme/admin']}", {"role": "admin"})
        api.ok("PUT", f"{MEMBERS}/{ids['acme/member']}", {"role": "admin"})
        steps = [("admin", ids["acme/admin"]), ("member", ids["acme/member"])]
        with ThreadPoolExecutor(2) as pool:
            answers = list(
                pool.map(lambda s: api.send("PUT", f"{MEMBERS}/{s[1]}", {"role": "member"}, key=s[0]), steps)
            )
        assert sorted(answer.status_code for answer in answers) in ([200, 403], [200, 409])
        assert "admin" in [m["role"] for m in api.ok("GET", MEMBERS)["items"]]


def test_a_service_users_key_is_rotated_by_its_entity(api: Api) -> None:
    old = next(key for key in api.ok("GET", "/v1/keys")["items"] if key["name"] == "publisher")
    new = api.ok("POST", "/v1/keys", {"name": "new", "user": "acme/publisher"}, key="admin", status=201)

    assert new["user"] == "acme/publisher"
    api.ok("DELETE", f"/v1/keys/{old['id']}", key="admin", status=204)
    api.refused("GET", "/v1/keys", key="publisher", status=401)
    api.keys["new"] = new["key"]
    api.refused("GET", f"{ACME}/webhooks", key="new", status=403)
    for key, of in (("admin", "other/outsider"), ("outsider", "acme/publisher"), ("member", "acme/publisher")):
        api.refused("POST", "/v1/keys", {"name": "x", "user": of}, key=key, status=403)
    api.refused("POST", "/v1/keys", {"name": "x", "user": "nobody"}, key="admin", status=403)


def test_who_gives_a_role_gains_no_power_over_the_user(api: Api) -> None:
    user(api)
    user(api, "bob", roles=[{"entity": "other", "role": "member"}])
    api.ok("PUT", f"{MEMBERS}/alice", {"role": "member"}, key="admin", status=202)
    api.ok("POST", "/v1/invitations/acme/accept", key="alice")
    service = next(m for m in api.ok("GET", "/v1/entities/other/members")["items"] if m["name"] == "other/outsider")
    api.ok("PUT", f"{MEMBERS}/{service['id']}", {"role": "member"}, status=201)

    seen = {key["user"] for key in api.ok("GET", "/v1/keys", key="admin")["items"]}
    assert seen == {"acme/admin", "acme/member", "acme/publisher"}
    alice = next(key for key in api.ok("GET", "/v1/keys")["items"] if key["user"] == "alice")
    api.refused("DELETE", f"/v1/keys/{alice['id']}", key="admin", status=404)
    api.refused("POST", "/v1/keys", {"name": "x", "user": "alice"}, key="admin", status=403)
    # other/outsider has a role in acme now, and stays under its own entity's administrators.
    assert "other/outsider" in {key["user"] for key in api.ok("GET", "/v1/keys", key="outsider")["items"]}


def test_an_entity_that_was_never_used_can_be_deleted(api: Api) -> None:
    api.ok("PUT", "/v1/entities/org", {"kind": "organization"}, status=201)
    api.ok("PUT", "/v1/entities/mistake", {"parent": "org"}, status=201)
    api.key("mistaken", entity="mistake", role="admin")
    api.ok("PUT", "/v1/entities/mistake/projects/p/collections/c", {}, key="mistaken")

    api.refused("DELETE", "/v1/entities/mistake", key="mistaken", status=403)
    assert "mistake" in api.refused("DELETE", "/v1/entities/org", status=409).detail
    api.ok("DELETE", "/v1/entities/mistake", status=204)
    api.refused("GET", "/v1/entities/mistake", status=404)
    api.refused("DELETE", "/v1/entities/mistake", status=404)
    api.refused("GET", "/v1/entities", key="mistaken", status=401)
    api.ok("DELETE", "/v1/entities/org", status=204)
    again = api.ok("PUT", "/v1/entities/mistake", {}, status=201)
    assert again["parent"] is None
    assert api.ok("GET", "/v1/entities/mistake/projects")["items"] == []
    assert [change["action"] for change in api.ok("GET", "/v1/entities/mistake/audit")["items"]] == ["entity.create"]


def test_an_entity_with_a_history_stays(api: Api) -> None:
    hook = create_webhook(api)
    api.ok("DELETE", f"{ACME}/webhooks/{hook['id']}", status=204)
    assert "webhooks" in api.refused("DELETE", ACME, status=409).detail
    api.ok("PUT", "/v1/entities/other/secrets/X", {"value": "x"}, status=201)
    assert "secrets" in api.refused("DELETE", "/v1/entities/other", status=409).detail
