"""The audit log: one row for each change that was made, none for what was refused or changed nothing, and no secret."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, insert

from shared.storage.database.transactions import write_transaction
from shared.storage.schema.tables import deliveries
from tests.integration.api.conftest import (
    ACME,
    SECRETS,
    Api,
    automation,
    create_automation,
    create_webhook,
    full_webhook,
    put_secrets,
    webhook,
)


def log(api: Api, path: str = f"{ACME}/audit") -> list[Any]:
    """All entries, oldest first."""
    return list(reversed(api.ok("GET", f"{path}?limit=500")["items"]))


def short(api: Api) -> list[tuple[str, str, str]]:
    return [(entry["by"], entry["action"], entry["target"]["name"]) for entry in log(api)]


def test_each_change_is_written_down_with_who_what_and_which_members(api: Api) -> None:
    begun = len(log(api))
    put_secrets(api)
    hook = create_webhook(api, full_webhook())
    user = create_automation(api)
    api.ok("PUT", f"{ACME}/secrets/TOKEN", {"value": "other"}, key="admin")
    api.ok("PATCH", f"{ACME}/webhooks/{hook['id']}", {"paused": True, "secrets": []}, key="admin")
    api.ok("PATCH", f"{ACME}/automations/{user['id']}", {"enabled": False, "description": "x"}, key="member")
    api.ok("DELETE", f"{ACME}/automations/{user['id']}", key="member", status=204)
    api.ok("DELETE", f"{ACME}/webhooks/{hook['id']}", key="admin", status=204)
    api.ok("DELETE", f"{ACME}/secrets/TOKEN", key="admin", status=204)

    assert short(api)[begun:] == [
        *(("admin", "secret.create", name) for name in SECRETS),
        ("admin", "webhook.create", "deploy-hook"),
        ("admin", "automation.create", "on-production"),
        ("acme/admin", "secret.update", "TOKEN"),
        ("acme/admin", "webhook.update", "deploy-hook"),
        ("acme/member", "automation.update", "on-production"),
        ("acme/member", "automation.delete", "on-production"),
        ("acme/admin", "webhook.delete", "deploy-hook"),
        ("acme/admin", "secret.delete", "TOKEN"),
    ]
    entries = log(api)[begun:]
    assert {entry["entity"] for entry in entries} == {"acme"}
    assert entries[3]["target"] == {"id": hook["id"], "name": "deploy-hook"}
    assert entries[6]["detail"] == {"changed": ["paused", "secrets"]}
    assert entries[7]["detail"] == {"changed": ["description", "enabled"]}
    assert entries[7]["target"]["id"] == user["id"]
    assert not [answer for answer in api.answers for value in SECRETS.values() if value in answer]


def test_what_is_refused_or_changes_nothing_is_not_written(api: Api) -> None:
    put_secrets(api)
    hook = create_webhook(api)
    user = create_automation(api)
    before = log(api)

    api.refused("POST", f"{ACME}/webhooks", webhook(), status=409)
    api.refused("DELETE", f"{ACME}/webhooks/{hook['id']}", status=409)
    api.refused("PATCH", f"{ACME}/webhooks/{hook['id']}", {"url": "x"}, status=422)
    api.refused("PATCH", f"{ACME}/automations/{user['id']}", {"event": "x"}, status=422)
    api.refused("POST", f"{ACME}/apply", {"webhooks": [webhook("new"), 5]}, status=422)
    api.ok("POST", f"{ACME}/apply?dry_run=true", {"webhooks": [webhook("new")]})
    api.ok("POST", f"{ACME}/apply", {"webhooks": [webhook()], "automations": [automation()]})
    api.ok("PATCH", f"{ACME}/webhooks/{hook['id']}", {"paused": False})
    api.ok("PATCH", f"{ACME}/automations/{user['id']}", {"enabled": True})
    api.ok("PUT", ACME, {})

    assert log(api) == before


def test_a_manifest_is_written_down_as_a_whole_and_in_its_parts(api: Api) -> None:
    create_webhook(api)
    begun = len(log(api))
    body = {"webhooks": [webhook(paused=True), webhook("new")], "automations": [automation()]}
    api.ok("POST", f"{ACME}/apply", body, key="admin")
    api.ok("POST", f"{ACME}/apply", {"automations": [], "prune": True}, key="member")

    assert short(api)[begun:] == [
        ("acme/admin", "webhook.update", "deploy-hook"),
        ("acme/admin", "webhook.create", "new"),
        ("acme/admin", "automation.create", "on-production"),
        ("acme/admin", "manifest.apply", "acme"),
        ("acme/member", "automation.delete", "on-production"),
        ("acme/member", "manifest.apply", "acme"),
    ]
    entries = log(api)[begun:]
    assert entries[0]["detail"] == {"changed": ["paused"]}
    assert entries[3]["detail"] == {"changes": {"updated": 1, "created": 2}}


def test_keys_users_and_entities_are_written_down(api: Api) -> None:
    begun = len(log(api, "/v1/audit"))
    api.key("deployer", entity="acme", role="publisher")
    api.ok("POST", "/v1/users", {"name": "zoe", "roles": [{"entity": "acme", "role": "member"}]}, status=201)
    api.ok("PUT", "/v1/entities/new", {"kind": "organization"}, status=201)
    api.ok("PUT", ACME, {"parent": "new"})
    key = next(key for key in api.ok("GET", "/v1/keys?limit=500")["items"] if key["name"] == "deployer")
    api.ok("DELETE", f"/v1/keys/{key['id']}", status=204)

    everything = log(api, "/v1/audit")[begun:]
    assert [(entry["entity"], entry["action"], entry["target"]["name"]) for entry in everything] == [
        ("acme", "key.create", "deployer"),
        (None, "user.create", "zoe"),
        ("new", "entity.create", "new"),
        ("acme", "entity.update", "acme"),
        ("acme", "key.revoke", "deployer"),
    ]
    assert everything[0]["detail"] == {"user": "acme/deployer", "role": "publisher"}
    assert everything[1]["detail"] == {"roles": {"acme": "member"}, "is_admin": False}
    assert everything[3]["detail"] == {"changed": ["parent"]}
    assert {entry["action"] for entry in log(api)} >= {"key.create", "key.revoke", "entity.update"}
    assert api.keys["deployer"] not in "".join(api.answers[-3:])


def test_replays_are_written_down(api: Api, engine: Engine) -> None:
    create_webhook(api)
    now = datetime.now(UTC)
    with write_transaction(engine) as connection:
        row = {"id": "dlv_a", "entity_id": 1, "webhook_id": 1, "status": "dead", "payload": "{}", "event_id": "e"}
        more = {"event_source": "/t", "event_type": "RUN_STATE", "event_received_at": now, "created_at": now}
        connection.execute(insert(deliveries).values(**row, **more))
    api.ok("POST", f"{ACME}/deliveries/dlv_a/replay", key="admin", status=202)
    api.ok("POST", f"{ACME}/deliveries/replay", {"status": "dead"}, key="admin", status=202)

    one, many = log(api)[-2:]
    assert (one["action"], one["target"]["id"], one["by"]) == ("delivery.replay", "dlv_a", "acme/admin")
    assert (many["action"], many["detail"]) == (
        "delivery.replay_matching",
        {"count": 1, "criteria": {"status": "dead"}},
    )


def test_it_is_paged_newest_first_for_administrators_only(api: Api) -> None:
    for number in range(5):
        create_webhook(api, webhook(f"hook-{number}"))
    names, cursor = [], ""
    while True:
        page = api.ok("GET", f"{ACME}/audit?limit=2{cursor}", key="admin")
        names += [entry["target"]["name"] for entry in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert names[:5] == [f"hook-{number}" for number in (4, 3, 2, 1, 0)]
    assert len(names) == len(log(api))
    api.refused("GET", f"{ACME}/audit", key="member", status=403)
    api.refused("GET", f"{ACME}/audit", key="publisher", status=403)
    api.refused("GET", f"{ACME}/audit", key="outsider", status=404)
    api.refused("GET", "/v1/audit", key="admin", status=403)


def test_it_is_found_by_who_what_and_when_and_turned_both_ways(api: Api) -> None:
    put_secrets(api)
    hooks = [create_webhook(api, webhook(f"hook-{number}")) for number in range(5)]
    api.ok("PATCH", f"{ACME}/webhooks/{hooks[0]['id']}", {"paused": True}, key="admin")

    def found(query: str) -> list[str]:
        return [f"{one['action']} {one['target']['name']}" for one in api.ok("GET", f"{ACME}/audit?{query}")["items"]]

    assert found("action=webhook&by=acme/admin") == ["webhook.update hook-0"]
    assert found("action=webhook.create&limit=1") == ["webhook.create hook-4"]
    assert found(f"target={hooks[1]['id']}") == found("target=hook-1") == ["webhook.create hook-1"]
    assert found("action=web") == [] == found("by=acm") == found("until=24h") == found("action=webhook%25")
    assert len(found("since=24h&limit=500")) == len(log(api))
    first = api.ok("GET", f"{ACME}/audit?action=webhook.create&limit=2")
    second = api.ok("GET", f"{ACME}/audit?action=webhook.create&limit=2&cursor={first['next']}")
    third = api.ok("GET", f"{ACME}/audit?action=webhook.create&limit=2&cursor={second['next']}")
    back = api.ok("GET", f"{ACME}/audit?action=webhook.create&limit=2&cursor={third['previous']}")
    again = api.ok("GET", f"{ACME}/audit?action=webhook.create&limit=2&cursor={back['previous']}")
    assert (first["previous"], third["next"], again["previous"]) == (None, None, None)
    assert (back["items"], again["items"]) == (second["items"], first["items"])
    assert [one["target"]["name"] for one in third["items"]] == ["hook-0"]
    assert api.refused("GET", f"{ACME}/audit?since=soon", status=422).errors[0]["loc"] == ["since"]
