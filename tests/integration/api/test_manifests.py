"""Manifests: all or nothing, by name, with every fault at once; what is exported applies as unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine, event

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
from tests.integration.conftest import ADMIN_KEY

EXAMPLE = Path(__file__).parents[3] / "examples" / "automations.yaml"


def manifest(**members: Any) -> dict[str, Any]:
    return {"webhooks": [full_webhook()], "automations": [automation("first"), automation("second")], **members}


def apply(api: Api, body: dict[str, Any], query: str = "", *, key: str = "admin") -> list[tuple[str, str, str]]:
    """The changes of a manifest, in short."""
    changes = api.ok("POST", f"{ACME}/apply{query}", body, key=key)["changes"]
    return [(change["kind"], change["name"], change["change"]) for change in changes]


def everything(api: Api) -> tuple[Any, Any]:
    return api.ok("GET", f"{ACME}/webhooks"), api.ok("GET", f"{ACME}/automations")


def test_a_manifest_creates_then_leaves_alone_then_updates(api: Api) -> None:
    put_secrets(api)

    assert apply(api, manifest()) == [
        ("webhook", "deploy-hook", "created"),
        ("automation", "first", "created"),
        ("automation", "second", "created"),
    ]
    before = everything(api)
    assert {change for _, _, change in apply(api, manifest())} == {"unchanged"}
    assert everything(api) == before
    changed = manifest(webhooks=[full_webhook(paused=True)], automations=[automation("first", event="CREATE_ARTIFACT")])
    answer = api.ok("POST", f"{ACME}/apply", changed)["changes"]
    assert [change["change"] for change in answer] == ["updated", "updated"]
    assert [change["detail"] for change in answer] == [["paused"], ["event"]]
    assert [found["name"] for found in everything(api)[1]["items"]] == ["first", "second"]


def test_many_definitions_take_about_as_many_statements_as_few(api: Api) -> None:
    put_secrets(api)
    statements = 0

    def count(*_args: object) -> None:
        nonlocal statements
        statements += 1

    def statements_of(size: int, *, secrets: list[str]) -> int:
        nonlocal statements
        statements = 0
        names = [f"{size}-{number}" for number in range(size)]
        body = {
            "webhooks": [full_webhook(name) | {"secrets": secrets} for name in names],
            "automations": [automation(name, description=f"{secrets}", action={"webhook": name}) for name in names],
        }
        assert [change[1] for change in apply(api, body)] == [*names, *names]
        return statements

    event.listen(Engine, "before_cursor_execute", count)
    try:
        for secrets in ([], ["DEPLOY"], ["DEPLOY"]):  # created, updated, unchanged
            few, many = (statements_of(size, secrets=secrets) for size in (3, 40))
            # SQLite inserts one by one what it has to number: two rows and no look-up for each.
            assert many - few <= 2 * 37, (secrets, few, many)
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    assert many < 40


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_that_no_database_takes_is_refused_as_any_other(api: Api, name: str) -> None:
    body = {
        "webhooks": [webhook(name)],
        "automations": [automation(name), automation("good", action={"webhook": name})],
    }
    answer = api.client.request(
        "POST",
        f"{ACME}/apply",
        content=json.dumps(body),
        headers={"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/json"},
    )
    assert answer.status_code in (400, 422), answer.text


def test_a_dry_run_says_the_same_and_does_nothing(api: Api) -> None:
    put_secrets(api)
    create_webhook(api, webhook("kept"))
    before = everything(api)

    planned = apply(api, manifest(prune=True), "?dry_run=true")

    assert everything(api) == before
    assert planned == apply(api, manifest(prune=True))
    assert ("webhook", "kept", "deleted") in planned


def test_every_fault_is_named_and_nothing_changes(api: Api) -> None:
    put_secrets(api)
    create_webhook(api)
    create_automation(api)
    before = everything(api)
    body = {
        "webhooks": [
            webhook(url="https://new.example.com"),
            webhook("bad", url="gopher://x", secrets=["DEPLOY"]),
            webhook("worse", access_token="NONE"),
            webhook("bad"),
            5,
        ],
        "automations": [
            automation("fine"),
            automation("uses-bad", action={"webhook": "bad", "payload": {"key": "${DEPLOY}"}}),
            automation("also", action={"webhook": "bad", "payload": {"key": "${TOKEN}"}}),
            automation("filtered", filter={"aliass": "x"}, enabled="yes"),
            automation("fine"),
            automation("lost", action={"webhook": "nobody"}),
        ],
        "prune": True,
    }

    problem = api.refused("POST", f"{ACME}/apply", body, status=422)

    assert problem.locs == [
        ["webhooks", 1, "url"],
        ["webhooks", 2, "access_token"],
        ["webhooks", 3, "name"],
        ["webhooks", 4],
        ["automations", 2, "action", "payload", "key"],
        ["automations", 3, "filter", "aliass"],
        ["automations", 3, "enabled"],
        ["automations", 4, "name"],
        ["automations", 5, "action", "webhook"],
    ]
    assert everything(api) == before


def test_a_manifest_has_a_form(api: Api) -> None:
    for body, loc in (
        ({"webhook": []}, ["webhook"]),
        ({"webhooks": {}}, ["webhooks"]),
        ({"automations": None}, ["automations"]),
        ({"prune": 1}, ["prune"]),
        ({"entity": "other"}, ["entity"]),
        ([], []),
    ):
        assert api.refused("POST", f"{ACME}/apply", body, status=422).locs == [loc], body
    assert apply(api, {}) == []
    assert apply(api, {"entity": "acme"}) == []


def test_grants_are_checked_when_all_is_applied(api: Api) -> None:
    put_secrets(api)
    uses = automation("first", action={"webhook": "deploy-hook", "payload": {"key": "${DEPLOY}"}})
    apply(api, manifest(automations=[uses, automation("second")]))
    before = everything(api)
    bare = webhook()

    problem = api.refused("POST", f"{ACME}/apply", {"webhooks": [bare]}, status=422)
    assert problem.locs == [["webhooks", 0, "secrets"]]
    assert everything(api) == before

    assert apply(api, {"webhooks": [bare], "automations": [automation("first")]}) == [
        ("webhook", "deploy-hook", "updated"),
        ("automation", "first", "updated"),
    ]


def test_pruning_deletes_what_is_not_listed_of_the_kinds_listed(api: Api) -> None:
    put_secrets(api)
    apply(api, manifest(webhooks=[full_webhook(), webhook("spare")]))

    assert apply(api, {"automations": [automation("first")], "prune": True}) == [
        ("automation", "first", "unchanged"),
        ("automation", "second", "deleted"),
    ]
    assert apply(api, {"webhooks": [full_webhook()], "prune": True}) == [
        ("webhook", "deploy-hook", "unchanged"),
        ("webhook", "spare", "deleted"),
    ]
    problem = api.refused("POST", f"{ACME}/apply", {"webhooks": [], "prune": True}, status=409)
    assert "'first'" in problem.detail
    assert len(apply(api, {"webhooks": [], "automations": [], "prune": True})) == 2
    assert api.ok("GET", f"{ACME}/export") == {"webhooks": [], "automations": []}


def test_what_is_exported_applies_as_unchanged(api: Api) -> None:
    text = EXAMPLE.read_text()
    document = yaml.safe_load(text)
    for name in ("PIPELINE_TOKEN", "PIPELINE_SIGNING_SECRET", "DEPLOY_KEY", "TEAM_SIGNING_SECRET"):
        api.ok("PUT", f"{ACME}/secrets/{name}", {"value": "x" * 24}, status=201)
    apply(api, document)

    exported = api.ok("GET", f"{ACME}/export", key="member")

    assert {change for _, _, change in apply(api, exported)} == {"unchanged"}
    assert exported["webhooks"] == document["webhooks"]
    assert [found["name"] for found in exported["automations"]] == [found["name"] for found in document["automations"]]
    assert exported["automations"][0].keys() == document["automations"][0].keys()
    deleted = apply(api, {"webhooks": [], "automations": [], "prune": True})
    assert {change for _, _, change in deleted} == {"deleted"}
    assert {change for _, _, change in apply(api, exported)} == {"created"}
    assert api.ok("GET", f"{ACME}/export") == exported


def test_roles(api: Api) -> None:
    put_secrets(api)
    api.refused("POST", f"{ACME}/apply", manifest(), key="member", status=403)
    api.refused("POST", f"{ACME}/apply", manifest(), key="outsider", status=404)
    api.refused("POST", f"{ACME}/apply", {}, key="publisher", status=403)
    api.refused("GET", f"{ACME}/export", key="publisher", status=403)
    api.refused("GET", f"{ACME}/export", key="outsider", status=404)
    create_webhook(api)
    assert apply(api, {"automations": [automation()]}, key="member") == [("automation", "on-production", "created")]


def test_an_update_tells_old_and_new_values(api: Api) -> None:
    put_secrets(api)
    api.ok("POST", f"{ACME}/apply", manifest())
    changed = manifest()
    changed["automations"][0]["enabled"] = False
    answered = api.ok("POST", f"{ACME}/apply?dry_run=true", changed)["changes"]
    updated = [change for change in answered if change["change"] == "updated"]
    assert [(one["detail"], one["before"], one["after"]) for one in updated] == [
        (["enabled"], {"enabled": True}, {"enabled": False})
    ]
    assert all(one["before"] is one["after"] is None for one in answered if one not in updated)


PROJECTS: list[dict[str, Any]] = [
    {"name": "churn", "description": "Who leaves"},
    {"name": "wandb-registry-model", "collections": [{"name": "llm/models", "type": "model"}, {"name": "data"}]},
]


def test_projects_and_collections_that_are_missing_are_registered(api: Api) -> None:
    assert apply(api, {"projects": PROJECTS}, key="member") == [
        ("project", "churn", "created"),
        ("project", "wandb-registry-model", "created"),
        ("collection", "wandb-registry-model/data", "created"),
        ("collection", "wandb-registry-model/llm/models", "created"),
    ]
    assert {change for _, _, change in apply(api, {"projects": PROJECTS})} == {"unchanged"}
    assert {change for _, _, change in apply(api, {"projects": [{"name": "churn"}], "prune": True})} == {"unchanged"}
    changed = [
        {"name": "churn", "description": None},
        {"name": PROJECTS[1]["name"], "collections": [{"name": "data", "type": "dataset"}]},
    ]
    tried = apply(api, {"projects": changed}, "?dry_run=true")
    assert tried == apply(api, {"projects": changed})
    assert [change for _, _, change in tried] == ["updated", "unchanged", "updated"]
    assert "projects" not in api.ok("GET", f"{ACME}/export")
    exported = api.ok("GET", f"{ACME}/export?projects=true", key="member")["projects"]
    assert exported == [
        {"name": "churn"},
        {
            "name": "wandb-registry-model",
            "collections": [{"name": "data", "type": "dataset"}, {"name": "llm/models", "type": "model"}],
        },
    ]
    assert {change for _, _, change in apply(api, {"projects": exported})} == {"unchanged"}


def test_projects_are_refused_with_all_else(api: Api) -> None:
    body = {
        "projects": [
            {"name": "a"},
            {"name": "a"},
            {"name": ""},
            {"name": "b", "collections": [{"name": "c"}, {"name": "c"}]},
            {"name": "c", "color": "red"},
        ],
        "automations": [automation(action={"no_op": True})],
    }
    refused = api.refused("POST", f"{ACME}/apply", body, status=422)
    assert refused.locs == [
        ["projects", 1, "name"],
        ["projects", 2, "name"],
        ["projects", 3, "collections", 1, "name"],
        ["projects", 4, "color"],
    ]
    assert api.ok("GET", f"{ACME}/projects")["items"] == []
    api.refused("POST", f"{ACME}/apply", {"projects": PROJECTS}, status=403, key="publisher")
