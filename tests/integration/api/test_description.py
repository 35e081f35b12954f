"""The OpenAPI document: complete, with examples that are what it says, and the schemas of events."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from cryptography.fernet import Fernet

from dispatcher.api.examples import ANSWERS, REQUESTS
from dispatcher.app import create_app
from dispatcher.control.definition_schemas import SCHEMAS
from shared.domain.events.types import EventType
from shared.settings import load_settings
from tests.integration.api.conftest import ACME, Api, automation, create_webhook

DOCUMENT = create_app(load_settings(secret_keys=Fernet.generate_key().decode())).openapi()
OPERATIONS: dict[str, Any] = {
    operation["operationId"]: operation for methods in DOCUMENT["paths"].values() for operation in methods.values()
}


def validator(schema: dict[str, Any]) -> Any:
    """A validator of a schema that refers into the document."""
    return jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_an_operation_is_described_with_fitting_examples(name: str) -> None:
    operation = OPERATIONS[name]

    assert operation["summary"]
    assert operation["description"]
    assert operation["responses"]["4XX"]["content"].keys() == {"application/problem+json"}
    assert operation["responses"]["5XX"]["content"].keys() == {"application/problem+json"}
    for content in operation.get("requestBody", {}).get("content", {}).values():
        if "example" in content:
            validator(content["schema"]).validate(content["example"])
    for answer in operation["responses"].values():
        for content in answer.get("content", {}).values():
            if "example" in content:
                validator(content["schema"]).validate(content["example"])


def test_every_example_is_shown() -> None:
    text = repr(DOCUMENT["paths"])
    for name in REQUESTS:
        assert any("example" in content for content in OPERATIONS[name]["requestBody"]["content"].values()), name
    for example in ANSWERS.values():
        assert repr(example) in text
    assert DOCUMENT["components"]["securitySchemes"].keys() == {"HTTPBearer", "HTTPBasic"}


def test_the_document_is_valid_and_without_dead_references() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")

    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*map(references, node.values()))
        return set().union(*map(references, node)) if isinstance(node, list) else set()

    known = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert references(DOCUMENT) <= known


def test_schemas_of_events_are_valid_and_fit_what_is_published(api: Api) -> None:
    types = api.client.request("GET", "/v1/schemas").json()["types"]

    assert types == [str(event_type) for event_type in EventType]
    for event_type in types:
        schema = api.client.request("GET", f"/v1/schemas/{event_type}").json()
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        jsonschema_rs.meta.validate(schema)
        assert not jsonschema_rs.Draft202012Validator(schema).is_valid({})
    schema = api.client.request("GET", "/v1/schemas/ADD_ARTIFACT_ALIAS").json()
    jsonschema_rs.Draft202012Validator(schema).validate(REQUESTS["publish_events"])
    api.refused("GET", "/v1/schemas/NOTHING", status=404)


def test_forms_find_the_words_of_each_event_type(api: Api) -> None:
    words = {one["event"]: one for one in api.client.request("GET", "/v1/vocabulary").json()["events"]}
    assert words.keys() == {str(event_type) for event_type in EventType}
    alias = words["ADD_ARTIFACT_ALIAS"]
    assert alias["fields"] == sorted(
        ["alias", "aliases", "artifact_type", "author", "collection", "project", "tag", "tags", "version"]
    )
    assert (alias["objects"], alias["cooldown_units"]) == (["metadata."], ["collection", "automation"])
    assert "alias" in alias["variables"] and "run_id" not in alias["variables"]
    create_webhook(api)
    for event_type, one in words.items():
        own: Any = {
            "RUN_METRIC": {"conditions": [{"metric": "m", "finite": False}]},
            "RUN_STATE": {"states": ["failed"]},
        }
        texts = {name: "${" + name + "}" for name in one["variables"] if "<" not in name}
        definition = {
            "name": event_type,
            "event": event_type,
            "filter": {"$and": [{field: {"$exists": True}} for field in one["fields"]]},
            "action": {"webhook": "deploy-hook", "payload": texts},
            "cooldown": {"per": one["cooldown_units"][0], "period": "1h"},
            **own.get(event_type, {}),
        }
        api.ok("POST", f"{ACME}/automations", definition, status=201)


def test_definitions_have_schemas_by_which_editors_check(api: Api) -> None:
    names = api.client.request("GET", "/v1/schemas").json()["definitions"]
    schemas = {name: api.client.request("GET", f"/v1/schemas/{name}").json() for name in names}
    assert set(names) == {"automation", "webhook", "slack", "source", "manifest"}
    create_webhook(api)
    document: dict[str, Any] = {"entity": "acme", "automations": [automation()]}
    api.ok("PUT", f"{ACME}/secrets/HOOK", {"value": "a secret value"}, status=201)
    source = {"name": "repo", "kind": "github", "secret": "HOOK", "project": "models"}
    api.ok("POST", f"{ACME}/sources", source, status=201)
    checks = jsonschema_rs.validator_for(schemas["manifest"])
    assert checks.is_valid(document)
    api.ok("POST", f"{ACME}/apply", {"automations": document["automations"]})
    exported = {"entity": "acme", **api.ok("GET", f"{ACME}/export")}
    assert [error.message for error in checks.iter_errors(exported)] == []
    document["automations"][0]["filter"] = {"alias": 3}
    assert not checks.is_valid(document)
    api.refused("POST", f"{ACME}/apply", {"automations": [{**automation("b"), "filter": {"alias": 3}}]}, status=422)


def test_what_needs_no_key_is_made_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each request without a key would cost ten milliseconds of the event loop or of a thread."""
    paths = ("/openapi.json", "/v1/schemas/manifest", "/v1/schemas/RUN_METRIC")
    first = [api.client.request("GET", path) for path in paths]

    def fail(*_: Any) -> Any:
        raise AssertionError("made again")

    monkeypatch.setattr("dispatcher.api.openapi.HooklineApi.openapi", fail)
    monkeypatch.setattr("dispatcher.api.events.json_schema", fail)
    monkeypatch.setitem(SCHEMAS, "manifest", fail)
    for path, before in zip(paths, first, strict=True):
        again = api.client.request("GET", path)
        assert (again.status_code, again.content) == (200, before.content)
        assert again.headers["content-type"] == "application/json"
        assert again.json()
