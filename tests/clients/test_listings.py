"""Listings of an entity that has everything: what a version can't read is left out, and breaks nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.client import Client, ClientError
from tests.sdk.conftest import Hookline
from tests.sdk.scopes import PROJECT, prepare

AUTOMATIONS = "/v1/entities/acme/automations"
NAMES = {
    "slash": "team/model",
    "long": "x" * 129,
    "longest": "y" * 512,
    "prefix": "wandb-registry-",
    "slash in a registry": "wandb-registry-a/b",
    "long registry": "wandb-registry-" + "z" * 200,
    "colon": "a:b",
    "space": " a b ",
    "unicode": "modèle-🦊",
    "URL": "a?b#c%20d",
    "backslash": "a\\b",
    "quotes": "a\"b'c",
    "like an id": "aut_1",
}
NO_OP = {"action": {"no_op": True}, "event": "LINK_ARTIFACT"}
BY_VERSION: dict[str, tuple[str, dict[str, Any]]] = {
    "tag": ("0.27.1", {**NO_OP, "event": "ADD_ARTIFACT_TAG", "scope": {"project": PROJECT}}),
    "untag": ("0.27.1", {**NO_OP, "event": "REMOVE_ARTIFACT_TAG", "scope": {"project": PROJECT}}),
    "collection tag": ("0.27.1", {**NO_OP, "event": "ADD_COLLECTION_TAG", "scope": {"project": PROJECT}}),
    "collection untag": ("0.27.1", {**NO_OP, "event": "REMOVE_COLLECTION_TAG", "scope": {"project": PROJECT}}),
    "unlink": ("0.27.1", {**NO_OP, "event": "UNLINK_ARTIFACT", "scope": {"project": PROJECT}}),
    "state": ("0.23.1", {**NO_OP, "event": "RUN_STATE", "states": ["finished"], "scope": {"project": PROJECT}}),
    "z-score": (
        "0.23.1",
        {
            **NO_OP,
            "event": "RUN_METRIC",
            "conditions": [{"metric": "m", "window": 5, "zscore": {"threshold": 2, "direction": "ANY"}}],
            "scope": {"project": PROJECT},
        },
    ),
    "team": ("0.28.1", {**NO_OP, "scope": {}}),
}
UNREAD = ("notice", "alert", "killed")
"""What no version reads."""


def define(hookline: Hookline) -> dict[str, str]:
    """Automations of every kind and name; gives the first version that can read each."""
    prepare(hookline)
    hookline.webhook("deploy")
    hookline.secret("SLACK_URL", f"{hookline.receiver.url}/services/T1/B2/x")
    slack = {"name": "alerts", "url_secret": "SLACK_URL", "team": "corp-ws", "channel": "#alerts"}
    hookline.rest("POST", "/v1/entities/acme/slack", slack, status=201)
    bodies: dict[str, dict[str, Any]] = {name: body for name, (_, body) in BY_VERSION.items()}
    for label, name in NAMES.items():
        bodies[f"in {label}"] = {**NO_OP, "scope": {"project": name}}
        bodies[f"on {label}"] = {**NO_OP, "scope": {"project": PROJECT, "collection": name}}
    bodies['🦊 é/\\" ' + "n" * 200] = {**NO_OP, "scope": {"project": PROJECT}, "description": "ü" * 500}
    bodies["slack"] = {**NO_OP, "scope": {"project": PROJECT}, "action": {"slack": "alerts"}}
    bodies["hook"] = {**NO_OP, "scope": {"project": PROJECT}, "action": {"webhook": "deploy"}}
    bodies["notice"] = {"event": "DEAD_LETTER", "scope": {}, "action": {"webhook": "deploy"}}
    bodies["alert"] = {**NO_OP, "event": "RUN_ALERT", "scope": {"project": PROJECT}}
    bodies["killed"] = {**NO_OP, "event": "RUN_STATE", "states": ["killed"], "scope": {"project": PROJECT}}
    for name, body in bodies.items():
        hookline.rest("POST", AUTOMATIONS, {"name": name, **body}, status=201)
    since = dict.fromkeys(bodies, "0.19.11") | {name: since for name, (since, _) in BY_VERSION.items()}
    return {name: version for name, version in since.items() if name not in UNREAD}


def stored(hookline: Hookline) -> dict[str, Any]:
    """The automations by name, as far as what is in force goes."""
    listed = hookline.rest("GET", f"{AUTOMATIONS}?limit=500")["items"]
    left_out = ("description", "revision", "updated_at")
    return {one["name"]: {key: value for key, value in one.items() if key not in left_out} for one in listed}


def test_automations(hookline: Hookline, client: Client) -> None:
    readable = {name for name, since in define(hookline).items() if client.since(since)}
    by_entity = client("[a.name for a in api.automations(entity='acme')]")
    assert sorted(by_entity) == sorted(readable)
    assert sorted(client("[a.name for a in api.automations()]")) == sorted(readable)
    before = stored(hookline)
    for name in readable:
        assert client("api.automation(name, entity='acme').name", name=name) == name
        if client.version.minor == 26 and name in ("state", "z-score"):
            continue  # which this version reads, and takes for unsupported when it should write
        client("api.update_automation(api.automation(name, entity='acme'), description='edited').id", name=name)
    assert stored(hookline) == before
    for name in UNREAD:
        with pytest.raises(ClientError, match="No automations found"):
            client("api.automation(name, entity='acme')", name=name)


def test_more_than_a_page(hookline: Hookline, client: Client) -> None:
    hookline.rest("PUT", f"/v1/entities/acme/projects/{PROJECT}", {})
    scopes: list[dict[str, str]] = [{"project": PROJECT}, {"project": "other"}]
    names = [f"b{number}" for number in range(120)]
    for number, name in enumerate(names):
        hookline.rest("POST", AUTOMATIONS, {**NO_OP, "name": name, "scope": scopes[number % 2]}, status=201)
    for number in (0, 49, 50, 51, 100, 119):
        for entity in ("", ", entity='acme'"):
            assert client(f"api.automation('b{number}'{entity}).name") == f"b{number}"
        made = client(
            "api.create_automation(OnLinkArtifact(scope=api.project('training', entity='acme')) >> DoNothing(), "
            "name=name, fetch_existing=True).name",
            name=f"b{number}",
        )
        assert made == f"b{number}"
    for per_page in (7, 50, 500):
        for entity in ("", ", entity='acme'"):
            found = client(f"[a.name for a in api.automations(per_page={per_page}{entity})]")
            assert sorted(found) == sorted(names)


def test_the_catalog(hookline: Hookline, client: Client) -> None:
    for name in NAMES.values():
        for entity, project in (("acme", PROJECT), ("corp", "wandb-registry-model")):
            for scope in ({"project": name}, {"project": project, "collection": name}):
                body = {**NO_OP, "name": f"{len(name)} {name[:99]} {len(scope)}", "scope": scope}
                hookline.rest("POST", f"/v1/entities/{entity}/automations", body, status=201)
    hookline.rest("PUT", "/v1/entities/corp/projects/wandb-registry-model/collections/typed", {"type": "model"})
    hookline.rest("PUT", f"/v1/entities/acme/projects/{PROJECT}/collections/typed", {"type": "model"})
    assert sorted(client("named(api.projects('acme'))")) == sorted([*NAMES.values(), PROJECT])
    registries = {name.removeprefix("wandb-registry-") for name in client("named(api.registries('corp'))")}
    assert registries == {"a/b", "model", "z" * 200}
    readable = sorted(["typed", *(name for name in NAMES.values() if "/" not in name and len(name) <= 128)])
    assert sorted(client("named(api.registries('corp').collections())")) == readable
    assert sorted(client("named(api.registry('model', organization='corp').collections())")) == readable
    assert sorted(client("named(api.artifact_collections('acme/training', 'model'))")) == readable
    if client.since("0.25.0"):
        assert sorted(client("named(api.project('training', entity='acme').collections(per_page=3))")) == readable
        assert client("len(api.project('training', entity='acme').collections())") == len(readable)
    for name in readable:
        assert client("api.artifact_collection('model', 'acme/training/' + name).name", name=name) == name


def test_registries_of_an_organization_above(hookline: Hookline, client: Client) -> None:
    prepare(hookline)
    hookline.rest("POST", "/v1/users", {"name": "bob", "roles": [{"entity": "acme", "role": "member"}]}, status=201)
    hookline.key("bob", user="bob")
    client.connect(hookline.url, hookline.keys["bob"])
    for organization in ("", ", organization='corp'"):
        assert client(f"api.registry('model'{organization}).full_name") == "wandb-registry-model"
    assert client("named(api.registry('model').collections())") == ["llm-models"]
    assert client("len(list(api.registries()))") == 1
    assert client("len(list(api.automations()))") == 0
    with pytest.raises(ClientError):
        client("list(api.automations(entity='corp'))")


def test_two_organizations_and_none_named(hookline: Hookline, client: Client) -> None:
    prepare(hookline)
    hookline.rest("PUT", "/v1/entities/second", {"kind": "organization"}, status=201)
    roles = [{"entity": entity, "role": "member"} for entity in ("acme", "corp", "second")]
    hookline.rest("POST", "/v1/users", {"name": "carol", "roles": roles}, status=201)
    hookline.key("carol", user="carol")
    client.connect(hookline.url, hookline.keys["carol"])
    for asked in ("api.registry('model')", "api.registries()"):
        with pytest.raises(ClientError, match="organization"):
            client(f"str({asked})")
    assert client("api.registry('model', organization='corp').full_name") == "wandb-registry-model"
    assert len(client("named(api.registries(organization='second'))")) == 0
    assert client("[a.name for a in api.automations()]") == []
    hookline.rest("PATCH", "/v1/users/carol", {"default_entity": "acme"}, key="carol")
    client.connect(hookline.url, hookline.keys["carol"])
    assert client("api.registry('model').full_name") == "wandb-registry-model"
