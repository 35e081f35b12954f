"""Whose things the client sees, and what it is told when a request can't be served."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest

from tests.integration.processes import wait_until
from tests.sdk.conftest import Hookline
from tests.sdk.scopes import PROJECT, prepare

# The client reads a field of its own that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")

VIEWER = "query Viewer { viewer { id entity username email flags teams { edges { node { name } } } } }"
DOCUMENT = """
query Q($name: String!, $project: String!) {
  %s
  again: entity(name: $name) { ...E project(name: $project) { id triggers { id } } }
}
fragment E on Entity { id name entityType isTeam defaultAccess members { id } user { id }
  organization { id name orgEntity { id name entityType } } }
"""
# Each way to something of an entity, given the entity's and the project's name.
WAYS = {
    "integrations": "entity(name: $name) { integrations { edges { node { __typename } } } }",
    "triggers": "entity(name: $name) { triggers { edges { node { id } } } }",
    "projects": "entity(name: $name) { projects { edges { node { id name } } } }",
    "watched projects": "entity(name: $name) { projects { edges { node { triggers { id } } } } }",
    "collections": "entity(name: $name) { artifactCollections { totalCount } }",
    "project": "project(entityName: $name, name: $project) { id internalId triggers { id } }",
    "models": "models(entityName: $name) { edges { node { name } } }",
}


def everything(way: str) -> str:
    """A document that asks for something of an entity in this way."""
    return DOCUMENT % WAYS[way]


def test_a_wrong_key(hookline: Hookline) -> None:
    from wandb.errors import AuthenticationError

    hookline.keys["wrong"] = "hlk-" + "x" * 43
    with pytest.raises(AuthenticationError, match="this API key is unknown or revoked"):
        hookline.client("wrong")


def test_an_expired_key(hookline: Hookline) -> None:
    from wandb.errors import AuthenticationError

    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    made = hookline.rest("POST", "/v1/keys", {"name": "brief", "expires_at": soon}, status=201)
    hookline.keys["expired"] = made["key"]
    headers = {"Authorization": f"Bearer {made['key']}"}
    wait_until(
        lambda: httpx.get(f"{hookline.url}/v1/me", headers=headers, timeout=60).status_code == 401, "the end of a key"
    )
    with pytest.raises(AuthenticationError, match=r"this API key expired at 2.*make another one"):
        hookline.client("expired")


def test_without_a_key_nothing_is_said(hookline: Hookline) -> None:
    for headers in ({}, {"Authorization": "Bearer nope"}, {"Authorization": "Basic !!!"}):
        answer = httpx.post(f"{hookline.url}/graphql", json={"query": VIEWER}, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["www-authenticate"]
        assert set(answer.json()) == {"errors"}
        assert answer.json()["errors"][0]["message"]


def test_bearer_keys_and_blank_operation_names(hookline: Hookline) -> None:
    for name in ("", None, "Viewer"):
        body = {"query": VIEWER, "operationName": name}
        headers = {"Authorization": f"Bearer {hookline.keys['admin']}"}
        answer = httpx.post(f"{hookline.url}/graphql", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"]["viewer"]["username"] == "alice"


def test_another_s_entity_is_not_there(hookline: Hookline) -> None:
    prepare(hookline)
    hookline.webhook("hidden")
    variables = {"name": "acme", "project": PROJECT}
    for way in WAYS:
        assert hookline.graphql(everything(way), variables).status_code == 200, way
        for name in ("acme", "ghost"):
            answer = hookline.graphql(everything(way), {**variables, "name": name}, key="outsider")
            assert answer.status_code == 404, way
            assert {error["message"] for error in answer.json()["errors"]} == {f"there is no entity '{name}'"}
            assert not any((answer.json().get("data") or {}).values())
        answer = hookline.graphql(everything(way), variables, key="publisher")
        assert answer.status_code == 403, way
        assert not any((answer.json().get("data") or {}).values())


def test_an_organization_shows_its_registries_to_a_team_and_nothing_else(hookline: Hookline) -> None:
    prepare(hookline)
    hookline.webhook("hidden", entity="corp")
    hookline.collection("hidden-project", "hidden-model", entity="corp")
    ways = (
        'query Q { entity(name: "acme") { organization { name orgEntity { name %s } } } }',
        'query Q { organization(name: "corp") { orgEntity { name %s } } }',
        'query Q { entity(name: "corp") { name %s } }',
    )
    hidden = (
        "integrations { edges { node { __typename } } }",
        "triggers { edges { node { id } } }",
        "organization { triggers { edges { node { id } } } }",
        'project(name: "wandb-registry-model") { triggers { id } }',
        'project(name: "wandb-registry-model") { entity { triggers { edges { node { id } } } } }',
        "projects { edges { node { triggers { id } } } }",
    )
    shown = {
        "projects { edges { node { name } } }": 1,
        "artifactCollections { edges { node { name } } }": 1,
        'project(name: "wandb-registry-model") { name artifactCollections { edges { node { name } } } }': 2,
        'project(name: "hidden-project") { name }': 0,
    }
    for way in ways:
        for inside in hidden:
            assert hookline.graphql(way % inside, key="admin").status_code == 200, inside
            answer = hookline.graphql(way % inside, key="member")
            assert answer.status_code == 404, inside
            assert "hidden" not in answer.text
        for inside, names in shown.items():
            answer = hookline.graphql(way % inside, key="member")
            assert answer.status_code == 200, inside
            assert "hidden" not in answer.text
            assert answer.text.count('"wandb-registry-model"') + answer.text.count('"llm-models"') == names, answer.text
    model = 'query Q { project(entityName: "corp", name: "%s") { name } }'
    assert hookline.graphql(model % "wandb-registry-model", key="member").json()["data"]["project"] is not None
    assert hookline.graphql(model % "hidden-project", key="member").json()["data"]["project"] is None
    models = 'query Q { models(entityName: "corp") { edges { node { name } } } }'
    assert "hidden" not in hookline.graphql(models, key="member").text
    of_id = "query Q($id: ID!) { artifactCollection(id: $id) { name project { name } } }"
    for path, found in (("corp/wandb-registry-model/llm-models", True), ("corp/hidden-project/hidden-model", False)):
        collection = base64.b64encode(b"ArtifactCollection:" + orjson.dumps(path.split("/"))).decode()
        answer = hookline.graphql(of_id, {"id": collection}, key="member")
        assert (answer.json()["data"]["artifactCollection"] is not None) is found
    for key in ("outsider", "publisher"):
        for way in ways[1:]:
            assert "corp" not in str(hookline.graphql(way % "id", key=key).json().get("data"))


def test_another_s_automation_can_t_be_touched(hookline: Hookline) -> None:
    from wandb.automations import DoNothing, OnLinkArtifact
    from wandb.errors import CommError

    prepare(hookline)
    api = hookline.client()
    made = api.create_automation(OnLinkArtifact(scope=api.project(PROJECT, entity="acme")) >> DoNothing(), name="n")
    outsider = hookline.client("outsider")
    with pytest.raises(CommError, match="Automation 'mine' not found"):
        outsider.update_automation(made, name="mine")
    with pytest.raises(CommError, match=f"there is no automation '{made.id}'"):
        outsider.delete_automation(made)
    with pytest.raises(CommError, match="scopeID: there is no entity 'acme'"):
        outsider.create_automation(OnLinkArtifact(scope=made.scope) >> DoNothing(), name="m")
    assert list(outsider.automations()) == []
    with pytest.raises(Exception, match="there is no entity 'acme'"):
        list(outsider.automations(entity="acme"))
    for kind in ("integrations", "webhook_integrations", "slack_integrations"):
        with pytest.raises(Exception, match="there is no entity 'acme'"):
            list(getattr(outsider, kind)(entity="acme"))
    assert api.automation("n", entity="acme") == made


def test_a_publisher_s_key_sees_nothing(hookline: Hookline) -> None:
    publisher = hookline.client("publisher")
    with pytest.raises(Exception, match="this needs the role admin or member in 'acme'"):
        list(publisher.automations(entity="acme"))
    assert list(publisher.automations()) == []


UNFIT: list[tuple[Any, str]] = [
    ({"query": "{ viewer { nope } }"}, "Cannot query field 'nope' on type 'User'"),
    ({"query": "{ viewer"}, "Syntax Error"),
    ({"query": ""}, "Syntax Error"),
    ({}, "the body must be a JSON object with query"),
    ([], "the body must be a JSON object with query"),
    ({"query": VIEWER, "variables": []}, "variables must be an object"),
    ({"query": VIEWER, "operationName": 7}, "operationName text"),
    ({"query": VIEWER, "operationName": "Other"}, "operationName must name one"),
    ({"query": "query A { viewer { id } } query B { viewer { id } }"}, "operationName must name one"),
    ({"query": "query Q($n: String!) { entity(name: $n) { id } }"}, "Expected a value of non-null type 'String!'"),
    ({"query": "{" + " a: viewer { id }" * 300 + "}"}, "cost"),
    ({"query": "{" * 6000}, "Syntax Error"),
    ({"query": "{" + " viewer { id }" * 600 + "}"}, "more than 2000 tokens"),
    ({"query": "query Q { ...F } fragment F on Query { ...F }"}, "Cannot spread fragment 'F' within itself"),
    ({"query": "subscription { x }"}, "The subscription operation is not supported"),
]


def test_documents_that_can_t_be_run(hookline: Hookline) -> None:
    for body, told in UNFIT:
        answer = httpx.post(f"{hookline.url}/graphql", json=body, auth=("api", hookline.keys["admin"]))
        assert answer.status_code == 400, answer.text
        assert told in answer.json()["errors"][0]["message"]


def test_bodies_that_are_no_json(hookline: Hookline) -> None:
    def post(content: bytes, kind: str = "application/json") -> httpx.Response:
        auth = ("api", hookline.keys["admin"])
        return httpx.post(f"{hookline.url}/graphql", content=content, headers={"Content-Type": kind}, auth=auth)

    assert post(b"{").status_code == 400
    for refused, status in ((post(b"{}", "text/plain"), 415), (post(b" " * (2 << 20)), 413)):
        assert refused.status_code == 400, "what older clients are told by another status, they send again and again"
        assert refused.json()["errors"][0]["extensions"] == {"status": status}
    assert "not JSON" in post(b"{").json()["errors"][0]["message"]


def test_a_mutation_of_which_a_part_is_refused_changes_nothing(hookline: Hookline) -> None:
    prepare(hookline)
    document = """mutation M {
      a: upsertModel(input: {entityName: "acme", name: "new"}) { inserted }
      b: upsertModel(input: {entityName: "acme", name: "newer", framework: "x"}) { inserted }
    }"""
    answer = hookline.graphql(document)
    assert answer.status_code == 400
    told = {"message": "framework: is not kept here; leave it out", "extensions": {"status": 422}}
    assert answer.json()["errors"] == [told]
    names = [project["name"] for project in hookline.rest("GET", "/v1/entities/acme/projects")["items"]]
    assert names == [PROJECT]


def test_a_cursor_that_no_answer_gave(hookline: Hookline) -> None:
    for cursor in ("x", "YWZ0ZXI6MQ==", "YWZ0ZXI6MDo5OTk5OTk5OTk5OTk5OTk5OTk5"):
        query = 'query Q($c: String) { entity(name: "acme") { triggers(after: $c) { pageInfo { endCursor } } } }'
        answer = hookline.graphql(query, {"c": cursor})
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["message"] == "after: must be the endCursor of an earlier answer"


def test_what_no_database_can_hold_is_refused(hookline: Hookline) -> None:
    of = "query Q($name: String, $filters: JSONString) { entity(name: $name) { triggers(filters: $filters) %s } }"
    of %= "{ edges { node { id } } }"
    for variables, told in (
        ({"name": "a\0b"}, "variables.name: must not hold U+0000"),
        ({"name": "acme", "filters": '{"name": "a\\u0000b"}'}, "filters.name: must not hold U+0000"),
    ):
        answer = hookline.graphql(of, variables)
        assert (answer.status_code, told in answer.json()["errors"][0]["message"]) == (400, True), answer.text
    for written in ("\\u0000", "\\u{0}", "\\u{000}"):
        answer = hookline.graphql(f'query Q {{ entity(name: "{written}") {{ id }} }}')
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["message"] == "a document must not hold U+0000"
