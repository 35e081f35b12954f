"""Documents that schemathesis makes from the GraphQL schema: each field is reached, and no answer is outside it.

What an answer holds is checked against the schema once more, by the types that it publishes.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from graphql import (
    ArgumentNode,
    FieldNode,
    GraphQLObjectType,
    NameNode,
    NullValueNode,
    ObjectFieldNode,
    ObjectValueNode,
    StringValueNode,
    ValueNode,
    Visitor,
    build_schema,
    parse,
    parse_value,
    print_ast,
    visit,
)
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis_graphql import nodes
from schemathesis import Case

import dispatcher.graphql
from tests.integration.api.surface import AUTOMATION, EXAMPLES, WEBHOOK, Surface, surface

SCHEMA_FILE = Path(dispatcher.graphql.__path__[0]) / "schema.graphql"
STATUSES = {200, 400, 403, 404, 409, 422}
JSON_TEXTS = ("{}", "[]", "null", '{"$and": []}', '{"name": "plain"}', '{"name": {"$regex": ".*"}}', "{", "")
PROJECT_ID = "UHJvamVjdDp2MTpwbGFpbjphY21l"  # Project:v1:plain:acme
COLLECTION_ID = (
    "QXJ0aWZhY3RDb2xsZWN0aW9uOlsiYWNtZSIsInBsYWluIiwibW9kZWxzIl0="  # ArtifactCollection:["acme","plain","models"]
)
RUN_STATES = '{"run_filter":"{\\"$and\\":[]}","run_state_filter":{"states":["FAILED"]}}'
# What is there, for arguments and members that name something.
KNOWN: dict[str, str] = {
    "entityName": "acme",
    "scopeID": PROJECT_ID,
    "id": AUTOMATION,
    "triggerID": AUTOMATION,
    "integrationID": WEBHOOK,
    "urlEndpoint": "https://hooks.example.com/x",
    "accessTokenRef": "DEPLOY_TOKEN",
    "secretRef": "SIGNING_SECRET",
}
NAMED = {
    "entity": "acme",
    "organization": "empty",
    "project": "plain",
    "artifactType": "model",
    "artifactCollection": "models",
}
FITTING = {
    "name": '"fresh"',
    "scopeType": "PROJECT",
    "triggeringEventType": "RUN_STATE",
    "triggeredActionType": "NO_OP",
    "triggeredActionConfig": "{noOpActionInput: {noOp: true}}",
}
# Members of an upsert that Hookline can't keep, refused unless they are null.
UNKEPT = {"dockerImage", "framework", "isBenchmark", "isPublished", "owner", "repo", "views", "artifactTypes", "access"}

schemathesis.graphql.scalar("JSONString", st.sampled_from(JSON_TEXTS).map(nodes.String))
schemathesis.graphql.scalar("DateTime", st.just("2026-11-23T12:00:00Z").map(nodes.String))
schema = schemathesis.graphql.from_path(str(SCHEMA_FILE))
types = build_schema(SCHEMA_FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def seeded(sqlite_template: Path, valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surface]:
    """A running API that has something of each kind."""
    with surface(sqlite_template, valkey_url, tmp_path_factory.mktemp("schemathesis")) as opened:
        yield opened


@pytest.fixture
def statuses() -> Iterator[Counter[str]]:
    """What came of one field, which must have had a value."""
    answered: Counter[str] = Counter()
    yield answered
    assert answered["value"], f"never a value: {dict(answered)}"


@schema.parametrize()
@settings(
    max_examples=EXAMPLES or 15,
    deadline=None,
    phases=[Phase.generate],
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_no_answer_is_outside_the_schema(case: Case[Any], seeded: Surface, statuses: Counter[str]) -> None:
    seeded.restore()
    document = str(case.body)
    if zlib.crc32(document.encode()) % 4:
        document = print_ast(visit(parse(document), Fitting()))

    seeded.touch("POST" if "mutation" in document else "GET")
    response = seeded.api.send("POST", "/graphql", {"query": document})

    body = response.json()
    assert response.status_code in STATUSES, body
    assert ("errors" in body) is (response.status_code != 200)
    if response.status_code == 200:
        definition = parse(document).definitions[0]
        root = types.mutation_type if "mutation" in document[:10] else types.query_type
        assert isinstance(root, GraphQLObjectType)
        assert set(body["data"]) == {_key(one) for one in definition.selection_set.selections}  # type: ignore[attr-defined]
        statuses["value" if any(value is not None for value in body["data"].values()) else "null"] += 1
    else:
        statuses[f"{response.status_code} {body['errors'][0]['message'][:80]}"] += 1


class Fitting(Visitor):
    """Puts what is there in the place of random names and ids, so that requests get past the look-up."""

    def enter_field(self, node: FieldNode, *_: Any) -> FieldNode:
        return replace(node, arguments=tuple(_fitting_argument(node, one) for one in node.arguments or ()))

    def enter_object_value(self, node: ObjectValueNode, *_: Any) -> ObjectValueNode:
        names = {one.name.value for one in node.fields or ()}
        upsert = "entityName" in names and "urlEndpoint" not in names
        fields = tuple(_fitting_member(one, upsert=upsert) for one in node.fields or ())
        if "triggeringEventType" in names and "eventFilter" not in names:
            fields += (ObjectFieldNode(name=NameNode(value="eventFilter"), value=_text(RUN_STATES)),)
        return replace(node, fields=fields)


def _fitting_argument(field: FieldNode, argument: ArgumentNode) -> ArgumentNode:
    name, value = argument.name.value, argument.value
    if name == "name" and field.name.value in NAMED:
        value = _text(NAMED[field.name.value])
    elif name == "id" and field.name.value == "artifactCollection":
        value = _text(COLLECTION_ID)
    elif name == "first":
        value = parse_value("5")
    elif name in ("after", "order"):
        value = NullValueNode()
    elif name in KNOWN and not isinstance(value, NullValueNode):
        value = _text(KNOWN[name])
    return replace(argument, value=value)


def _fitting_member(member: ObjectFieldNode, *, upsert: bool) -> ObjectFieldNode:
    name, value = member.name.value, member.value
    if name in FITTING:
        value = parse_value(FITTING[name])
    elif name == "eventFilter":
        value = _text(RUN_STATES)
    elif name in UNKEPT or (upsert and name == "id"):
        value = NullValueNode()
    elif name in KNOWN:
        value = _text(KNOWN[name])
    return replace(member, value=value)


def _text(value: str) -> ValueNode:
    return StringValueNode(value=value, block=False)


def _key(field: Any) -> str:
    return str((field.alias or field.name).value)
