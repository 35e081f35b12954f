"""Revisions of automations and webhooks: one for each edit, by whom, with what it changed, and restorable."""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, delete, func, select, update

from shared.domain.ids import IdKind, decode_id
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions import kept_revisions as kept
from shared.storage.definitions.webhooks import keep_disabled
from shared.storage.delivery.webhook_health import disable_webhook
from shared.storage.schema.tables import kept_revisions
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


def revisions(api: Api, path: str, key: str = "member") -> list[Any]:
    """All kept revisions, oldest first."""
    return list(reversed(api.ok("GET", f"{ACME}/{path}/revisions?limit=500", key=key)["items"]))


def told(found: list[Any]) -> list[tuple[str, list[str], str | None]]:
    return [(one["change"], one["changed"], one["by"]) for one in found]


def test_each_edit_of_an_automation_is_kept_whichever_way_it_came(api: Api) -> None:
    create_webhook(api)
    made = api.ok("POST", f"{ACME}/automations", automation(), key="member", status=201)
    path = f"automations/{made['id']}"
    api.ok("PATCH", f"{ACME}/{path}", {"filter": {"alias": "prod"}}, key="member")
    api.ok("PATCH", f"{ACME}/{path}", {"enabled": False})
    api.ok("PATCH", f"{ACME}/{path}", {"enabled": False})
    api.ok("POST", f"{ACME}/apply", {"automations": [automation(description="by a manifest")]}, key="member")
    api.ok("POST", f"{ACME}/apply?dry_run=true", {"automations": [automation(enabled=False)]}, key="member")
    api.refused("PATCH", f"{ACME}/{path}", {"event": "NONE"}, status=422)
    api.ok("POST", f"{ACME}/apply", {"automations": [], "prune": True}, key="admin")

    found = revisions(api, path)
    assert told(found) == [
        ("create", [], "acme/member"),
        ("update", ["filter"], "acme/member"),
        ("update", ["enabled"], "admin"),
        ("update", ["description", "enabled", "filter"], "acme/member"),
        ("delete", [], "acme/admin"),
    ]
    assert [one["number"] for one in found] == sorted({one["number"] for one in found})
    one = api.ok("GET", f"{ACME}/{path}/revisions/{found[1]['number']}", key="member")
    assert one["previous"] == found[0]["number"]
    assert one["definition"]["filter"] == {"alias": {"$eq": "prod"}}
    assert one["differences"] == [{"member": "filter", "before": made["filter"], "after": {"alias": {"$eq": "prod"}}}]
    first = api.ok("GET", f"{ACME}/{path}/revisions/{found[0]['number']}")
    assert (first["previous"], first["differences"]) == (None, [])


def test_pages_go_on_where_the_one_before_ended(api: Api) -> None:
    create_webhook(api)
    path = f"{ACME}/automations/{create_automation(api)['id']}"
    for number in range(4):
        api.ok("PATCH", path, {"description": str(number)})
    seen, more = [], "?limit=2"
    while more:
        page = api.ok("GET", f"{path}/revisions{more}")
        seen += [one["number"] for one in page["items"]]
        more = f"?limit=2&cursor={page['next']}" if page["next"] else ""
    assert len(seen) == 5
    assert seen == sorted(seen, reverse=True)


def test_each_edit_of_a_webhook_is_kept_without_any_secret(api: Api, engine: Engine) -> None:
    put_secrets(api)
    hook = create_webhook(api, full_webhook())
    path = f"webhooks/{hook['id']}"
    api.ok("PATCH", f"{ACME}/{path}", {"paused": True, "policy": {"timeout_seconds": 3}}, key="admin")
    number = decode_id(IdKind.WEBHOOK, hook["id"])
    assert number is not None
    with write_transaction(engine) as connection:
        now = datetime.now(UTC)
        assert disable_webhook(connection, number, reason="only failures", now=now)
        keep_disabled(connection, number, reason="only failures", now=now)
    api.ok("PATCH", f"{ACME}/{path}", {"enabled": True})
    api.ok("DELETE", f"{ACME}/{path}", status=204)

    found = revisions(api, path)
    assert told(found) == [
        ("create", [], "admin"),
        ("update", ["paused", "policy"], "acme/admin"),
        ("update", ["enabled"], None),
        ("update", ["enabled"], "admin"),
        ("delete", [], "admin"),
    ]
    assert found[2]["reason"] == "only failures"
    one = api.ok("GET", f"{ACME}/{path}/revisions/{found[0]['number']}", key="member")
    assert one["definition"] == {key: hook[key] for key in one["definition"]}
    assert not [answer for answer in api.answers for value in SECRETS.values() if value in answer]
    with read_transaction(engine) as connection:
        for content in connection.scalars(select(kept_revisions.c.content)):
            text = str(kept.unpack_content(content))
            assert not [value for value in SECRETS.values() if value in text]


def test_an_automation_is_restored_also_when_it_was_deleted(api: Api) -> None:
    create_webhook(api)
    made = create_automation(api)
    path = f"{ACME}/automations/{made['id']}"
    api.ok("PATCH", path, {"filter": {"alias": "other"}, "name": "renamed"})
    first = revisions(api, f"automations/{made['id']}")[0]["number"]

    back = api.ok("POST", f"{path}/revisions/{first}/restore", key="member")
    again = api.ok("POST", f"{path}/revisions/{first}/restore", key="member")
    api.ok("DELETE", path, status=204)
    create_automation(api, automation("renamed"))
    alive = api.ok("POST", f"{path}/revisions/{first}/restore")

    volatile = {"revision", "updated_at"}
    for one in (back, alive):
        assert {k: v for k, v in one.items() if k not in volatile} == {
            k: v for k, v in made.items() if k not in volatile
        }
    assert again == back
    assert api.ok("GET", path) == alive
    changes = [(one["change"], one["changed"]) for one in revisions(api, f"automations/{made['id']}")]
    assert changes[2:] == [("update", ["filter", "name"]), ("delete", []), ("update", [])]
    api.ok("PATCH", path, {"name": "mine"})
    create_automation(api)
    refused = api.refused("POST", f"{path}/revisions/{first}/restore", status=409)
    assert refused.locs == [["name"]]


def test_a_restored_payload_has_its_members_in_their_order(api: Api) -> None:
    # A form and a text of JSON are what a receiver shows to people, line by line.
    create_webhook(api)
    payload = {"title": "t", "body": {"z": 1, "a": [{"y": "${alias}", "b": 2}]}, "at": "x"}
    made = create_automation(api, automation(action={"webhook": "deploy-hook", "payload": payload}))
    path = f"{ACME}/automations/{made['id']}"
    first = revisions(api, f"automations/{made['id']}")[0]["number"]
    api.ok("PATCH", path, {"action": {"webhook": "deploy-hook", "payload": {"other": 1}}})
    api.ok("POST", f"{path}/revisions/{first}/restore")
    assert json.dumps(api.ok("GET", path)["action"]["payload"]) == json.dumps(payload)
    kept_one = api.ok("GET", f"{path}/revisions/{first}")
    assert json.dumps(kept_one["definition"]["action"]["payload"]) == json.dumps(payload)


def test_what_older_versions_kept_with_sorted_members_is_known_again(api: Api, engine: Engine) -> None:
    create_webhook(api)
    made = create_automation(api, automation(action={"webhook": "deploy-hook", "payload": {"z": 1, "a": 2}}))
    with write_transaction(engine) as connection:
        for number, content in connection.execute(select(kept_revisions.c.id, kept_revisions.c.content)).all():
            text = json.dumps(kept.unpack_content(content), sort_keys=True)
            kept_one = kept_revisions.c.id == number
            connection.execute(update(kept_revisions).where(kept_one).values(content=zlib.compress(text.encode())))
    api.ok("PATCH", f"{ACME}/automations/{made['id']}", {"description": "x"})
    changes = [one["change"] for one in revisions(api, f"automations/{made['id']}")]
    assert changes == ["create", "update"]


def test_a_webhook_is_restored_with_its_secrets_by_name(api: Api) -> None:
    put_secrets(api)
    hook = create_webhook(api, full_webhook())
    path = f"{ACME}/webhooks/{hook['id']}"
    first = revisions(api, f"webhooks/{hook['id']}")[0]["number"]
    api.ok("PATCH", path, {"secrets": [], "signing_secret": None, "name": "other"})
    changed = api.ok("POST", f"{path}/revisions/{first}/restore", key="admin")
    api.ok("DELETE", path, status=204)
    alive = api.ok("POST", f"{path}/revisions/{first}/restore", key="admin")
    for one in (changed, alive):
        assert {k: one[k] for k in full_webhook()} == {k: hook[k] for k in full_webhook()}
    assert api.ok("GET", path)["secrets"] == hook["secrets"]

    api.ok("DELETE", path, status=204)
    api.ok("DELETE", f"{ACME}/secrets/{hook['signing_secret']}", status=204)
    assert ["signing_secret"] in api.refused("POST", f"{path}/revisions/{first}/restore", status=422).locs


def test_what_cannot_be_any_more_is_refused_and_changes_nothing(api: Api) -> None:
    hook = create_webhook(api)
    path = f"{ACME}/automations/{create_automation(api)['id']}"
    first = api.ok("GET", f"{path}/revisions")["items"][0]["number"]
    api.ok("PATCH", path, {"action": {"no_op": True}})
    api.ok("DELETE", f"{ACME}/webhooks/{hook['id']}", status=204)
    before = api.ok("GET", path)
    assert api.refused("POST", f"{path}/revisions/{first}/restore", status=422).locs == [["action", "webhook"]]
    assert api.ok("GET", path) == before
    for unknown in (first + 1000, 2**62):
        api.refused("GET", f"{path}/revisions/{unknown}", status=404)
        api.refused("POST", f"{path}/revisions/{unknown}/restore", status=404)
    api.refused("GET", f"{path}/revisions/0", status=422)
    api.refused("GET", f"{ACME}/automations/aut_999/revisions", status=404)
    api.refused("GET", f"{ACME}/webhooks/slk_1/revisions", status=404)


def test_only_those_who_may_edit_restore_and_others_do_not_find_it(api: Api) -> None:
    hook = create_webhook(api)
    path = f"{ACME}/webhooks/{hook['id']}/revisions"
    first = api.ok("GET", path, key="member")["items"][0]["number"]
    api.refused("POST", f"{path}/{first}/restore", status=403, key="member")
    api.refused("GET", path, status=403, key="publisher")
    api.refused("GET", path, status=404, key="outsider")
    api.refused("GET", path.replace("/acme/", "/other/"), status=404, key="outsider")


def test_what_an_older_version_left_is_found_at_the_next_edit(api: Api, engine: Engine) -> None:
    create_webhook(api)
    made = create_automation(api)
    with write_transaction(engine) as connection:
        connection.execute(delete(kept_revisions))
    api.ok("PATCH", f"{ACME}/automations/{made['id']}", {"description": "x"})
    found = revisions(api, f"automations/{made['id']}")
    assert told(found) == [("found", [], None), ("update", ["description"], "admin")]
    assert found[0]["at"] == made["updated_at"]
    back = api.ok("POST", f"{ACME}/automations/{made['id']}/revisions/{found[0]['number']}/restore")
    assert back["description"] is None


def test_only_so_many_and_so_much_of_each_is_kept(api: Api, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MAX_REVISIONS", 3)
    create_webhook(api)
    made, other = create_automation(api), create_automation(api, automation("other"))
    for number in range(6):
        api.ok("PATCH", f"{ACME}/automations/{made['id']}", {"description": str(number)})
    found = revisions(api, f"automations/{made['id']}")
    assert [one["changed"] for one in found] == [["description"]] * 3
    assert len(revisions(api, f"automations/{other['id']}")) == 1
    monkeypatch.setattr(kept, "MAX_BYTES", 1)
    api.ok("PATCH", f"{ACME}/automations/{made['id']}", {"description": "last"})
    with read_transaction(engine) as connection:
        mine = kept_revisions.c.target_id == decode_id(IdKind.AUTOMATION, made["id"])
        query = select(func.count()).where(mine, kept_revisions.c.kind == "automation")
        assert connection.scalar(query) == 1


def test_slack_integrations_have_revisions_too(api: Api) -> None:
    api.ok("PUT", f"{ACME}/secrets/SLACK_URL", {"value": "https://hooks.slack.com/services/T0/B0/x"}, status=201)
    body = {"name": "ops", "url_secret": "SLACK_URL", "team": "acme", "channel": "#ops"}
    made = api.ok("POST", f"{ACME}/slack", body, status=201)
    api.ok("PATCH", f"{ACME}/slack/{made['id']}", {"channel": "#other"})
    found = revisions(api, f"slack/{made['id']}")
    assert told(found) == [("create", [], "admin"), ("update", ["channel"], "admin")]
    back = api.ok("POST", f"{ACME}/slack/{made['id']}/revisions/{found[0]['number']}/restore")
    assert back["channel"] == "#ops"
    one = api.ok("GET", f"{ACME}/slack/{made['id']}/revisions/{found[0]['number']}")
    assert one["definition"] == {**body, "policy": made["policy"], "enabled": True, "paused": False}


@pytest.mark.parametrize("kind", ["automations", "webhooks", "slack"])
def test_a_restoration_with_an_etag_overtakes_no_edit(api: Api, kind: str) -> None:
    put_secrets(api)
    create_webhook(api)
    slack = {"name": "chat", "url_secret": "SLACK_URL"}
    if kind == "slack":
        api.ok(
            "PUT",
            f"{ACME}/secrets/SLACK_URL",
            {"value": "https://hooks.slack.com/services/T0/B0/s3cr3ts3cr3t"},
            status=201,
        )
    body = {"automations": automation("restored"), "webhooks": webhook(name="restored"), "slack": slack}[kind]
    path = f"{ACME}/{kind}/{api.ok('POST', f'{ACME}/{kind}', body, status=201)['id']}"
    tag = api.send("GET", path).headers["etag"]
    [first] = api.ok("GET", f"{path}/revisions")["items"]
    restore = f"{path}/revisions/{first['number']}/restore"
    api.ok("PATCH", path, {"name": "another"})
    problem = api.refused("POST", restore, status=412, headers={"If-Match": tag})
    assert problem.headers["etag"] == api.send("GET", path).headers["etag"]
    assert api.ok("GET", path)["name"] == "another"
    fresh = api.send("POST", restore, headers={"If-Match": problem.headers["etag"]})
    assert (fresh.status_code, fresh.json()["name"]) == (200, body["name"])
    api.ok("DELETE", path, status=204)
    assert "deleted" in api.refused("POST", restore, status=412, headers={"If-Match": "*"}).detail
    assert api.ok("POST", restore)["name"] == body["name"]
