"""Automations: checked whole, stored by their webhook's id, and numbered anew only when their statement changes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, select, update

from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.schema.tables import automations
from tests.integration.api.conftest import (
    ACME,
    Api,
    automation,
    create_automation,
    create_webhook,
    full_webhook,
    put_secrets,
    webhook,
)

METRIC = {
    "name": "accurate",
    "event": "RUN_METRIC",
    "conditions": [{"metric": "val_accuracy", "op": "$gt", "threshold": 0.95}],
    "action": {"no_op": True},
}


def epoch(engine: Engine) -> int:
    """The epoch of the only automation."""
    with read_transaction(engine) as connection:
        return int(connection.execute(select(automations.c.epoch)).scalar_one())


def test_an_automation_is_created_as_it_was_written(api: Api) -> None:
    create_webhook(api)

    created = api.ok("POST", f"{ACME}/automations", automation(rate_limit="60/min"), key="member", status=201)

    assert created["id"].startswith("aut_")
    assert created["entity"] == "acme"
    assert created["action"] == {**automation()["action"], "payload_types": "json"}
    assert (created["scope"], created["rate_limit"]) == (automation()["scope"], "60/min")
    assert (created["enabled"], created["cooldown"], created["description"]) == (True, None, None)
    assert api.ok("GET", f"{ACME}/automations/{created['id']}", key="member") == created
    assert api.ok("GET", f"{ACME}/automations", key="member") == {"items": [created], "next": None}


def test_a_scope_gets_into_the_catalog(api: Api) -> None:
    create_webhook(api)
    create_automation(api)
    create_automation(api, automation("another", scope={"project": "digits"}))

    projects = api.ok("GET", f"{ACME}/projects")["items"]
    collections = api.ok("GET", f"{ACME}/collections")["items"]

    assert [project["name"] for project in projects] == ["wandb-registry-model", "digits"]
    assert [(c["project"], c["name"]) for c in collections] == [("wandb-registry-model", "llm-models")]


BAD: list[tuple[dict[str, Any], list[list[Any]]]] = [
    ({"name": ""}, [["name"]]),
    ({"name": "x\0"}, [["name"]]),
    ({"event": "NOTHING"}, [["event"]]),
    ({"filter": {"aliass": "x"}}, [["filter", "aliass"]]),
    ({"filter": {"alias": {"$regex": "("}}}, [["filter", "alias", "$regex"]]),
    ({"filter": {"alias": "x\0"}}, [["filter", "alias"]]),
    (
        {"filter": {"alias": {"$in": ["on", False]}, "author": 1.1}},
        [["filter", "alias", "$in", 1], ["filter", "author"]],
    ),
    ({"scope": {"collection": "c"}}, [["scope", "project"]]),
    ({"scope": {"project": "p" * 513}}, [["scope", "project"]]),
    ({"scope": {"project": "p\n"}}, [["scope", "project"]]),
    ({"action": {"webhook": "nobody"}}, [["action", "webhook"]]),
    ({"action": {"webhook": "wh_999999999999999999999"}}, [["action", "webhook"]]),
    ({"action": {"webhook": "deploy-hook", "payload": {"a": "${NOPE}"}}}, [["action", "payload", "a"]]),
    ({"action": {"webhook": "deploy-hook", "payload": {"a": ["${DEPLOY}"]}}}, [["action", "payload", "a", 0]]),
    ({"action": {"webhook": "deploy-hook", "payload": {"a": "\0"}}}, [["action", "payload", "a"]]),
    ({"conditions": [{}]}, [["conditions"]]),
    ({"rate_limit": "fast"}, [["rate_limit"]]),
    ({"trigger": {}}, [["trigger"]]),
    ({"enabled": 1, "cooldown": {"per": "day", "period": "1h"}}, [["cooldown", "per"], ["enabled"]]),
]


def test_bad_automations_are_refused_and_change_nothing(api: Api) -> None:
    put_secrets(api)
    create_webhook(api)
    kept = create_automation(api, automation("kept"))

    for members, locs in BAD:
        problem = api.refused("POST", f"{ACME}/automations", automation() | members, status=422)
        assert sorted(problem.locs) == locs, members
        problem = api.refused("PATCH", f"{ACME}/automations/{kept['id']}", members, status=422)
        assert sorted(problem.locs) == locs, members
    assert api.refused("POST", f"{ACME}/automations", [], status=422).locs == [[]]
    assert api.refused("PATCH", f"{ACME}/automations/{kept['id']}", [], status=422).locs == [[]]

    assert api.ok("GET", f"{ACME}/automations")["items"] == [kept]
    assert [project["name"] for project in api.ok("GET", f"{ACME}/projects")["items"]] == ["wandb-registry-model"]


def test_a_filter_that_an_older_version_took_stays_until_it_is_changed(api: Api, engine: Engine) -> None:
    create_webhook(api)
    made = create_automation(api)
    path, never = f"{ACME}/automations/{made['id']}", {"alias": {"$eq": False}}
    with write_transaction(engine) as connection:
        stored = {**connection.execute(select(automations.c.definition)).scalar_one(), "filter": never}
        connection.execute(update(automations).values(definition=stored))

    assert api.ok("PATCH", path, {"description": "changed"})["filter"] == never
    assert api.ok("PATCH", path, {"filter": {"alias": False}})["filter"] == never
    applied = api.ok("POST", f"{ACME}/apply", {"automations": [automation(filter=never, description="applied")]})
    assert applied["changes"][0]["change"] == "updated"
    newest = api.ok("GET", f"{path}/revisions")["items"][0]["number"]
    refusal = "must be text, in quotes: alias is never true or false"
    for members in ({"filter": {"alias": {"$ne": False}}}, {"event": "CREATE_ARTIFACT"}):
        assert refusal in api.refused("PATCH", path, members, status=422).detail
    api.ok("PATCH", path, {"filter": {"alias": "no"}})
    assert refusal in api.refused("PATCH", path, {"filter": never}, status=422).detail
    restored = api.ok("POST", f"{path}/revisions/{newest}/restore")
    assert restored["filter"] == never


def test_what_a_payload_may_use_is_listed(api: Api) -> None:
    put_secrets(api)
    create_webhook(api, full_webhook())

    problem = api.refused(
        "POST",
        f"{ACME}/automations",
        automation(action={"webhook": "deploy-hook", "payload": {"a": "${TOKEN}"}}),
        status=422,
    )

    assert "${DEPLOY}" in problem.errors[0]["msg"]
    assert "${ACCESS_TOKEN}" in problem.errors[0]["msg"]


def test_renaming_a_webhook_leaves_its_automations_right(api: Api, engine: Engine) -> None:
    hook = create_webhook(api)
    created = create_automation(api, automation(action={"webhook": hook["id"]}))

    api.ok("PATCH", f"{ACME}/webhooks/{hook['id']}", {"name": "renamed"})

    assert created["action"]["webhook"] == "deploy-hook"
    assert api.ok("GET", f"{ACME}/automations/{created['id']}")["action"]["webhook"] == "renamed"
    with read_transaction(engine) as connection:
        definition = connection.execute(select(automations.c.definition)).scalar_one()
    assert definition["action"]["webhook"] == hook["id"]


def test_a_patch_replaces_members_and_checks_the_whole(api: Api) -> None:
    create_webhook(api)
    created = create_automation(api)
    path = f"{ACME}/automations/{created['id']}"

    changed = api.ok("PATCH", path, {"filter": None, "description": "all", "enabled": False}, key="member")
    assert (changed["filter"], changed["description"], changed["enabled"]) == ({"$and": []}, "all", False)
    assert changed["scope"] == created["scope"]

    problem = api.refused("PATCH", path, {"event": "RUN_STATE"}, status=422)
    assert sorted(problem.locs) == [["scope", "collection"], ["states"]]
    moved = api.ok("PATCH", path, {"event": "RUN_STATE", "states": ["failed"], "scope": {}})
    assert (moved["event"], moved["states"], moved["scope"]) == ("RUN_STATE", ["failed"], {})
    back = api.ok("PATCH", path, {"event": "CREATE_ARTIFACT", "states": None})
    assert "states" not in back


KEEPING: list[dict[str, Any]] = [
    {"name": "renamed"},
    {"description": "text"},
    {"rate_limit": "5/h"},
    {"cooldown": None},
    {"action": {"webhook": "deploy-hook"}},
]
ENDING: list[dict[str, Any]] = [
    {"enabled": False},
    {"filter": {"display_name": "x"}},
    {"scope": {"project": "digits"}},
    {"conditions": [{"metric": "loss", "op": "$lt", "threshold": 1}]},
    {"event": "RUN_STATE", "conditions": None, "states": ["failed"]},
    {"states": ["failed", "crashed"]},
]


def test_an_epoch_ends_when_the_statement_changes_and_only_then(api: Api, engine: Engine) -> None:
    create_webhook(api)
    created = create_automation(api, METRIC)
    path = f"{ACME}/automations/{created['id']}"
    first = epoch(engine)
    assert first == created["revision"]

    for patch in KEEPING:
        changed = api.ok("PATCH", path, patch)
        assert epoch(engine) == first, patch
        assert changed["revision"] > first
    for patch in ENDING:
        before = epoch(engine)
        changed = api.ok("PATCH", path, patch)
        assert epoch(engine) == changed["revision"] > before, patch
    assert api.ok("PATCH", path, {"states": ["crashed", "failed"]}) == changed


def test_a_name_is_unique_in_the_entity_until_its_automation_is_deleted(api: Api) -> None:
    create_webhook(api)
    first = create_automation(api)
    second = create_automation(api, automation("second"))

    for method, path, body in (
        ("POST", f"{ACME}/automations", automation()),
        ("PATCH", f"{ACME}/automations/{second['id']}", {"name": "on-production"}),
    ):
        problem = api.refused(method, path, body, status=409)
        assert problem.locs == [["name"]]
        assert "on-production" in problem.detail
    api.ok("DELETE", f"{ACME}/automations/{first['id']}", key="member", status=204)
    api.refused("GET", f"{ACME}/automations/{first['id']}", status=404)
    api.refused("DELETE", f"{ACME}/automations/{first['id']}", status=404)
    assert create_automation(api)["id"] != first["id"]


def test_automations_are_per_entity(api: Api) -> None:
    hook = create_webhook(api)
    path = f"{ACME}/automations/{create_automation(api)['id']}"

    for method in ("GET", "PATCH", "DELETE"):
        body = {"enabled": False} if method == "PATCH" else None
        api.refused(method, path, body, key="outsider", status=404)
        api.refused(method, path.replace("acme", "other"), body, key="outsider", status=404)
        api.refused(method, path, body, key="publisher", status=403)
    api.refused("POST", f"{ACME}/automations", automation("x"), key="outsider", status=404)
    for name in ("deploy-hook", hook["id"]):
        problem = api.refused(
            "POST",
            "/v1/entities/other/automations",
            automation("x", action={"webhook": name}),
            key="outsider",
            status=422,
        )
        assert problem.locs == [["action", "webhook"]]
    api.ok("POST", "/v1/entities/other/webhooks", webhook(), key="outsider", status=201)
    api.ok("POST", "/v1/entities/other/automations", automation(), key="outsider", status=201)


def test_a_page_of_large_automations_ends_at_a_size_and_goes_on_there(api: Api) -> None:
    create_webhook(api)
    payload = {"webhook": "deploy-hook", "payload": {"text": "x" * 250_000}}
    for number in range(20):
        create_automation(api, automation(f"large {number}", action=payload))
    names, cursor, pages = [], "", 0
    while True:
        page = api.ok("GET", f"{ACME}/automations?limit=500{cursor}")
        pages += 1
        names += [one["name"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert names == [f"large {number}" for number in range(20)]
    assert pages == 3
