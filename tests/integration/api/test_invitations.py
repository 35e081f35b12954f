"""An entity's administrator reaches other tenants' users by invitations only, and learns nothing about who exists."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.api.conftest import ACME, Api

MEMBERS = f"{ACME}/members"
INVITATIONS = f"{ACME}/invitations"


def user(api: Api, name: str, **members: Any) -> Any:
    """A new user with a key of the same name."""
    made = api.ok("POST", "/v1/users", {"name": name, **members}, status=201)
    api.key(name, user=name)
    return made


def viewer_entity(api: Api, key: str) -> Any:
    answer = api.ok("POST", "/graphql", {"query": "{viewer{entity}}"}, key=key)
    return answer["data"]["viewer"]["entity"]


def test_an_invitation_does_nothing_until_it_is_accepted(api: Api) -> None:
    made = user(api, "alice", roles=[{"entity": "other", "role": "member"}])
    before = api.ok("GET", "/v1/users/alice")

    invited = api.ok("PUT", f"{MEMBERS}/alice", {"role": "admin"}, key="admin", status=202)

    assert {**invited, "created_at": None} == {
        "entity": "acme",
        "user": "alice",
        "role": "admin",
        "invited_by": "acme/admin",
        "created_at": None,
    }
    assert api.ok("GET", "/v1/users/alice") == before
    api.refused("GET", f"{ACME}/webhooks", key="alice", status=404)
    api.refused("GET", f"{MEMBERS}/alice", key="admin", status=404)
    assert viewer_entity(api, "alice") == "other"
    assert api.ok("GET", INVITATIONS, key="admin")["items"] == [invited]
    assert api.ok("GET", "/v1/invitations", key="alice")["items"] == [invited]
    assert api.ok("GET", "/v1/invitations", key="outsider")["items"] == []
    api.refused("POST", "/v1/invitations/acme/accept", key="outsider", status=404)

    assert api.ok("PUT", f"{MEMBERS}/alice", {"role": "member"}, key="admin", status=202)["role"] == "member"
    assert api.ok("POST", "/v1/invitations/acme/accept", key="alice")["role"] == "member"
    assert api.ok("GET", f"{MEMBERS}/{made['id']}", key="admin")["role"] == "member"
    assert api.ok("GET", "/v1/invitations", key="alice")["items"] == []
    assert viewer_entity(api, "alice") == "other"
    assert [c["action"] for c in api.ok("GET", f"{ACME}/audit", key="admin")["items"]][:3] == [
        "member.add",
        "member.invite",
        "member.invite",
    ]


def test_an_invitation_can_be_declined_and_taken_back(api: Api) -> None:
    user(api, "alice")
    for path, key in (("/v1/invitations/acme", "alice"), (f"{INVITATIONS}/alice", "admin")):
        api.ok("PUT", f"{MEMBERS}/alice", {"role": "member"}, key="admin", status=202)
        api.ok("DELETE", path, key=key, status=204)
        api.refused("POST", "/v1/invitations/acme/accept", key="alice", status=404)
        api.refused("DELETE", "/v1/invitations/acme", key="alice", status=404)
        api.refused("DELETE", f"{INVITATIONS}/alice", key="admin", status=404)
        api.refused("GET", f"{ACME}/webhooks", key="alice", status=404)


def test_nobody_learns_who_exists(api: Api) -> None:
    made = user(api, "alice")
    answers = []
    for name in ("alice", "nobody"):
        answer = api.ok("PUT", f"{MEMBERS}/{name}", {"role": "member"}, key="admin", status=202)
        answers.append({**answer, "user": "", "created_at": ""})
    assert answers[0] == answers[1]
    for exists, not_there in ((made["id"], "usr_999"), ("other%2Foutsider", "other%2Fnobody")):
        for method, body in (("PUT", {"role": "member"}), ("GET", None), ("DELETE", None)):
            told = [api.send(method, f"{MEMBERS}/{one}", body, key="admin") for one in (exists, not_there)]
            assert told[0].status_code == told[1].status_code >= 400
    for path in ("/v1/users/alice", "/v1/users/nobody"):
        api.refused("GET", path, key="admin", status=404)
    for name in ("alice", "nobody", "other/outsider"):
        body = {"name": "k", "user": name, "entity": "acme", "role": "member"}
        api.refused("POST", "/v1/keys", body, key="admin", status=403)


def test_another_entitys_service_user_is_left_alone(api: Api) -> None:
    number = next(m["id"] for m in api.ok("GET", "/v1/entities/other/members")["items"])
    api.refused("PUT", f"{MEMBERS}/{number}", {"role": "member"}, key="admin", status=404)
    api.ok("POST", "/v1/keys", {"name": "rotated", "user": "other/outsider"}, key="outsider", status=201)


def test_the_default_entity_is_the_users_own_choice(api: Api) -> None:
    # Of the lowest number, and whose administrator would like the data of others.
    made = user(api, "alice", roles=[{"entity": "other", "role": "member"}])
    assert made["default_entity"] == "other"
    api.ok("PUT", f"{MEMBERS}/alice", {"role": "member"}, status=201)
    assert viewer_entity(api, "alice") == "other"
    for key, status in (("admin", 403), ("outsider", 403), ("member", 403)):
        api.refused("PATCH", "/v1/users/alice", {"default_entity": "acme"}, key=key, status=status)
    api.refused("PATCH", "/v1/users/alice", {"default_entity": "acme", "is_admin": True}, key="alice", status=403)
    for bad in ("nowhere", 1):
        refused = api.refused("PATCH", "/v1/users/alice", {"default_entity": bad}, key="alice", status=422)
        assert refused.locs == [["default_entity"]]

    changed = api.ok("PATCH", "/v1/users/alice", {"default_entity": "acme"}, key="alice")

    assert changed["default_entity"] == "acme"
    assert viewer_entity(api, "alice") == "acme"
    api.ok("DELETE", f"{MEMBERS}/alice", key="alice", status=204)
    assert viewer_entity(api, "alice") == "other"
    assert api.ok("GET", "/v1/users/alice", key="alice")["default_entity"] is None
    assert viewer_entity(api, "outsider") == "other"


def test_the_first_team_of_a_new_user_is_its_default(api: Api) -> None:
    api.ok("PUT", "/v1/entities/corp", {"kind": "organization"}, status=201)
    roles = [{"entity": "corp", "role": "member"}, {"entity": "other", "role": "member"}]
    assert user(api, "alice", roles=roles)["default_entity"] == "other"
    assert user(api, "bob", roles=roles[:1])["default_entity"] == "corp"


def test_of_several_entities_none_is_the_default_unless_it_is_chosen(api: Api) -> None:
    user(api, "alice", roles=[{"entity": "other", "role": "member"}, {"entity": "acme", "role": "member"}])
    api.ok("PATCH", "/v1/users/alice", {"default_entity": None}, key="alice")
    assert viewer_entity(api, "alice") is None


@pytest.mark.parametrize("role", ["admin", "member", "publisher"])
def test_members_of_every_role_can_leave(api: Api, role: str) -> None:
    made = user(api, "alice", roles=[{"entity": "acme", "role": role}])
    api.refused("DELETE", f"{MEMBERS}/alice", key="outsider", status=404)
    api.ok("DELETE", f"{MEMBERS}/{made['id']}", key="alice", status=204)
    api.refused("GET", f"{ACME}/webhooks", key="alice", status=404)


def test_the_last_administrator_stays_on_every_way(api: Api) -> None:
    lower = {"name": "k", "user": "acme/admin", "entity": "acme", "role": "publisher"}
    api.refused("POST", "/v1/keys", lower, key="admin", status=409)
    key = next(k["id"] for k in api.ok("GET", "/v1/keys", key="admin")["items"] if k["user"] == "acme/admin")
    api.refused("DELETE", f"/v1/keys/{key}", key="admin", status=409)
    mine = next(m["id"] for m in api.ok("GET", MEMBERS)["items"] if m["name"] == "acme/admin")
    api.refused("DELETE", f"{MEMBERS}/{mine}", key="admin", status=409)
    api.refused("PUT", f"{MEMBERS}/{mine}", {"role": "member"}, key="admin", status=409)
    api.ok("GET", MEMBERS, key="admin")

    # Whom another administrator succeeds may step down, by a key as well, which is noted.
    api.ok("POST", "/v1/keys", {"name": "second", "entity": "acme", "role": "admin"}, key="admin", status=201)
    api.ok("POST", "/v1/keys", lower, key="admin", status=201)
    actions = [c["action"] for c in api.ok("GET", f"{ACME}/audit")["items"]]
    assert actions[:2] == ["key.create", "member.update"]
    api.refused("GET", MEMBERS, key="admin", status=403)


def test_an_instance_administrator_may_take_the_last_role_away(api: Api) -> None:
    key = next(k["id"] for k in api.ok("GET", "/v1/keys")["items"] if k["user"] == "acme/admin")
    api.ok("DELETE", f"/v1/keys/{key}", status=204)


def test_the_audit_log_says_who_became_an_instance_administrator(api: Api) -> None:
    user(api, "alice", is_admin=True)
    api.ok("PATCH", "/v1/users/alice", {"is_admin": False})
    said = [c for c in api.ok("GET", "/v1/audit")["items"] if c["action"].startswith("user.")]
    assert [c["detail"] for c in said][:2] == [
        {"changed": ["is_admin"], "is_admin": False},
        {"roles": {}, "is_admin": True},
    ]


def test_a_deleted_users_invitations_do_not_wait_for_a_namesake(api: Api) -> None:
    user(api, "alice")
    api.ok("PUT", f"{MEMBERS}/alice", {"role": "admin"}, key="admin", status=202)
    api.ok("DELETE", "/v1/users/alice", status=204)
    assert api.ok("GET", INVITATIONS, key="admin")["items"] == []
