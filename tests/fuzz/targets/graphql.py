"""`/graphql`: any body gets an answer in time that is no fault of this side, and no document gets past the bounds.

What a document asks for is counted here once more, with its fragments unfolded.
"""

from __future__ import annotations

import json
from typing import Any

import orjson
from graphql import FieldNode, FragmentDefinitionNode, FragmentSpreadNode, GraphQLError, OperationDefinitionNode, parse
from graphql import SelectionSetNode as Selections
from hypothesis import strategies as st

from dispatcher.graphql.execution import MAX_COST, answer_to
from shared.domain.errors import InvalidDefinition
from tests.fuzz.oracles import in_time
from tests.fuzz.stage import SECRETS, stage
from tests.fuzz.strategies import as_json, json_values
from tests.fuzz.target import Target

MAX_ANSWER_BYTES = 1 << 20
Fragments = dict[str, FragmentDefinitionNode]


def check(data: bytes) -> None:
    """The body of a request."""
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        return
    scene = stage()
    try:
        with in_time(data, 2.0):
            answer = answer_to(scene.resources, scene.principal, body)
    except InvalidDefinition:
        return
    finally:
        if b"mutation" in data:
            scene.restore()
    text = orjson.dumps(answer.body)
    assert len(text) <= MAX_ANSWER_BYTES
    assert answer.status in (200, 400, 403, 404, 409, 422), text[:300]
    assert ("errors" in answer.body) is (answer.status != 200)
    assert not any(value.encode() in text for name, value in SECRETS.items() if value.encode() not in data), name_of(
        text
    )
    if answer.status == 200:
        assert _cost(body["query"]) <= MAX_COST


def name_of(text: bytes) -> str:
    """Which secret came out."""
    return next(name for name, value in SECRETS.items() if value.encode() in text)


def _cost(query: str) -> int:
    """The fields of the largest operation; more are not counted than it takes to be too many."""
    try:
        document = parse(query)
    except (GraphQLError, RecursionError):
        return 0
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    return max(_fields(operation.selection_set, fragments, MAX_COST + 1) for operation in operations)


def _fields(selections: Selections | None, fragments: Fragments, enough: int) -> int:
    count = 0
    for selection in selections.selections if selections else ():
        if count >= enough:
            return count
        if isinstance(selection, FieldNode):
            count += 1
        inner: Any = fragments[selection.name.value] if isinstance(selection, FragmentSpreadNode) else selection
        count += _fields(inner.selection_set, fragments, enough - count)
    return count


TRIGGER = """{
  id name description enabled createdAt
  scope { __typename ... on Project { id name } ... on ArtifactCollection { id name } }
  event { __typename ... on FilterEventTriggeringCondition { eventType filter } }
  action { __typename ... on GenericWebhookTriggeredAction { integration { id } requestPayload } }
}"""
QUERIES = (
    "{ viewer { id name entity flags apiKeys { edges { node { id } } } teams { edges { node { name } } } } }",
    "query V { serverInfo { features { name isEnabled } } }",
    'query E($n: String = "acme") { entity(name: $n) { id name isTeam '
    "projects(first: 2) { edges { node { name } } } } }",
    f'{{ project(name: "wandb-registry-model", entityName: "acme") {{ id triggers {TRIGGER} }} }}',
    "fragment F on PageInfo { endCursor hasNextPage } query($a: String, $k: Int) { "
    'models(entityName: "acme", after: $a, first: $k) { edges { node { ...N } cursor } pageInfo { ...F } } } '
    "fragment N on Project { name id }",
    'mutation { upsertModel(input: {name: "p", entityName: "acme"}) { project { id } inserted } }',
    "mutation D($i: ID!) { deleteTrigger(input: {triggerID: $i}) { success } }",
    "query { __schema { types { name fields { name type { name ofType { name } } } } } }",
    "query @skip(if: true) { a: serverInfo { __typename } b: viewer { id @include(if: $x) } }",
)
WORDS = (
    *(
        "query",
        "variables",
        "operationName",
        "viewer",
        "entity",
        "project",
        "models",
        "mutation",
        "fragment F on",
        "...F",
    ),
    *(
        "{",
        "}",
        "(",
        ")",
        "edges{node{",
        "}}",
        "first:",
        "after:",
        '"""',
        '"\\u0000"',
        "@include(if:true)",
        "$a",
        "__typename",
    ),
    *(
        "createFilterTrigger",
        "updateFilterTrigger",
        "createGenericWebhookIntegration",
        "input:",
        "acme",
        "plain",
        "a:id ",
    ),
    *(
        "... on Project {",
        "name ",
        "[",
        "]",
        "!",
        "#",
        ",",
        "999999999999",
        "1e400",
        "null",
        "true",
        "QXJ0aWZhY3Q6MQ==",
    ),
)
CREATE = (
    """mutation C($input: CreateFilterTriggerInput!) { createFilterTrigger(input: $input) { trigger { id name } } }"""
)
_ids = st.sampled_from(["wh_1", "slk_1", "aut_1", "RW50aXR5OmFjbWU=", "UHJvamVjdDp2MTpwbGFpbjphY21l", "", "x"])
_input = st.fixed_dictionaries(
    {
        "name": st.text(max_size=5),
        "scopeType": st.sampled_from(["PROJECT", "ARTIFACT_COLLECTION", "ENTITY"]),
        "scopeID": _ids,
        "triggeringEventType": st.sampled_from(["LINK_MODEL", "RUN_METRIC", "RUN_STATE"]),
        "triggeredActionType": st.sampled_from(["NO_OP", "GENERIC_WEBHOOK", "NOTIFICATION"]),
        "triggeredActionConfig": st.sampled_from([{"noOpActionInput": {"noOp": True}}, {}, json_values.example]).map(
            lambda value: value if isinstance(value, dict) else {}
        ),
        "eventFilter": st.sampled_from(['{"$or":[{"$and":[]}]}', "{}", "[", '{"run_filter":"{}"}']),
    }
)


@st.composite
def _bombs(draw: st.DrawFn) -> dict[str, Any]:
    """Documents that are small and ask for much: fragments in fragments, aliases, depth."""
    size = draw(st.integers(1, 60))
    kind = draw(st.sampled_from(["fragments", "aliases", "depth", "lists", "rings"]))
    if kind == "fragments":
        parts = [f"fragment F{n} on User {{ ...F{n + 1} ...F{n + 1} }}" for n in range(size)]
        text = "{ viewer { ...F0 } } " + " ".join(parts) + f" fragment F{size} on User {{ id }}"
    elif kind == "rings":
        text = "{ viewer { ...A } } fragment A on User { ...B } fragment B on User { id ...A }"
    elif kind == "aliases":
        text = "{ " + " ".join(f"a{n}: viewer {{ id }}" for n in range(size * 5)) + " }"
    elif kind == "depth":
        text = "{ viewer " + "{ teams { edges { node { user " * size + "{ id }" + "} } } }" * size + " }"
    else:
        text = '{ entity(name: "a") { id } x: project(name: ' + "[" * size * 20 + "]" * size * 20 + ") { id } }"
    return {"query": text}


_inputs = st.one_of(
    st.fixed_dictionaries(
        {"query": st.sampled_from(QUERIES)},
        optional={
            "variables": st.fixed_dictionaries({}, optional={"n": json_values, "k": json_values, "i": _ids, "a": _ids}),
            "operationName": st.sampled_from([None, "", "V", "E"]),
        },
    ),
    st.fixed_dictionaries({"query": st.just(CREATE), "variables": st.fixed_dictionaries({"input": _input})}),
    _bombs(),
)

TARGET = Target(check, inputs=as_json(_inputs, WORDS), words=WORDS)
assert json
