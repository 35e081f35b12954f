"""Rules over any body: what may be written, what it becomes, and that no body makes more of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import check_published
from shared.domain.sources.model import Source
from shared.domain.sources.reading import Outcome, publishable, read_request
from shared.domain.sources.rules import MAX_ITEMS, RuleFailed
from tests.unit.domain.sources.requests import REGISTERED, azure_event, mlflow_body, request, source

TOKEN = {"token": {"header": "X-Token"}}
ALIAS: dict[str, Any] = {
    "when": {"body.event": "model_version_stage_changed", "header.x-env": {"$ne": "test"}},
    "type": "ADD_ARTIFACT_ALIAS",
    "id": "${body.id}",
    "time": "${body.at}",
    "data": {
        "project": "${body.workspace:-models}",
        "author": "${body.user.name}",
        "collection": {"name": "${body.model}", "type": "model"},
        "artifact": {"id": "${body.version.id}", "version": "v${body.version.number}", "metadata": "${body.meta}"},
        "alias": "${body.stage}",
    },
}
BODY: dict[str, Any] = {
    "event": "model_version_stage_changed",
    "id": "e-1",
    "at": "2026-11-23T09:00:00Z",
    "user": {"name": "alice"},
    "model": "churn",
    "version": {"id": "a-1", "number": 3},
    "meta": {"acc": 0.93, "deep": {"x": [1]}},
    "stage": "Production",
}


def generic(*rules: dict[str, Any], **more: Any) -> Source:
    return source("generic", verify=TOKEN, events=list(rules), **more)


def read(of: Source, body: object, headers: dict[str, str] | None = None) -> Outcome:
    return read_request(of, "src_7", request(b"{}", headers), body)


def test_a_rule_makes_an_event_of_a_body() -> None:
    (event,) = read(generic(ALIAS), BODY).events
    check_published([event])
    assert event == {
        "specversion": "1.0",
        "id": "e-1/ADD_ARTIFACT_ALIAS",
        "source": "/in/src_7",
        "type": "ADD_ARTIFACT_ALIAS",
        "time": "2026-11-23T09:00:00Z",
        "data": {
            "entity": "acme",
            "project": "models",
            "author": "alice",
            "collection": {"name": "churn", "type": "model"},
            "artifact": {"id": "a-1", "version": "v3", "metadata": {"acc": 0.93, "deep": {"x": [1]}}},
            "alias": "Production",
        },
    }


def test_what_no_rule_fits_is_ignored() -> None:
    for body, headers in ((BODY | {"event": "x"}, {}), ([], {}), (None, {}), (BODY, {"x-env": "test"})):
        found = read(generic(ALIAS), body, headers)
        assert found.events == ()
        assert found.ignored == ("no rule's `when` holds of it",)


def test_a_rule_for_each_item_of_a_list() -> None:
    rule = {
        "each": "body.models",
        "when": {"item.ready": True},
        "type": "CREATE_ARTIFACT",
        "data": {"collection": {"name": "${item.name}"}, "artifact": {"id": "${item.name}:${body.run}"}},
    }
    models = [{"name": "a", "ready": True}, {"name": "b", "ready": False}, {"name": "c", "ready": True}]
    found = read(generic(rule, project="models"), {"run": 7, "models": models}).events
    assert [event["data"]["artifact"]["id"] for event in found] == ["a:7", "c:7"]
    assert len({event["id"] for event in found}) == 2
    with pytest.raises(RuleFailed, match="more than"):
        read(generic(rule, project="models"), {"models": [{"ready": True}] * (MAX_ITEMS + 1)})


def test_two_rules_with_one_id_make_two_events() -> None:
    found = read(generic(ALIAS, ALIAS), BODY).events
    assert [event["id"] for event in found] == ["e-1/ADD_ARTIFACT_ALIAS", "e-1/ADD_ARTIFACT_ALIAS/2"]


def test_a_typed_value_keeps_its_type_and_a_missing_one_is_left_out() -> None:
    rule = {
        "type": "RUN_METRIC",
        "data": {"run": {"id": "${body.run}", "name": "$${body}"}, "step": "${body.step}", "metrics": "${body.scores}"},
    }
    found = read(generic(rule, project="p"), {"run": "r", "step": 3, "scores": {"acc": 0.5}}).events
    assert found[0]["data"] | {"step": 3, "metrics": {"acc": 0.5}} == found[0]["data"]
    assert found[0]["data"]["run"]["name"] == "${body}"
    check_published(found)
    without = read(generic(rule, project="p"), {"run": "r", "scores": {"acc": 0.5}}).events
    assert "step" not in without[0]["data"]
    check_published(without)


def test_rules_read_event_grids_events_one_by_one() -> None:
    rule = {
        "when": {"body.type": {"$regex": "ModelRegistered$"}},
        "type": "CREATE_ARTIFACT",
        "data": {"collection": {"name": "${body.data.ModelName}"}, "artifact": {"id": "${body.subject}"}},
    }
    grid = source("event-grid", events=[rule])
    found = read(grid, [azure_event("ModelRegistered", REGISTERED), azure_event("ModelDeployed", {})])
    assert [event["data"]["collection"]["name"] for event in found.events] == ["churn"]
    assert found.ignored == ("no rule's `when` holds of it",)


@pytest.mark.parametrize("template", ["${body.id}", "v-${body.id}", "${body.id:-}", "${body.none:-}"])
@pytest.mark.parametrize("without", [{}, {"id": None}, {"id": ""}])
def test_an_id_that_other_events_would_have_too_is_refused(template: str, without: dict[str, Any]) -> None:
    rule = ALIAS | {"id": template}
    with pytest.raises(RuleFailed, match="`id` would be"):
        read(generic(rule), {**{key: value for key, value in BODY.items() if key != "id"}, **without})
    (event,) = read(generic(ALIAS | {"id": "${body.none:-x}"}), BODY).events
    assert event["id"] == "x/ADD_ARTIFACT_ALIAS"


def test_a_time_that_a_body_does_not_have_is_left_out() -> None:
    for without in ({}, {"at": None}, {"at": ""}):
        body = {**{key: value for key, value in BODY.items() if key != "at"}, **without}
        (event,) = publishable(read(generic(ALIAS), body).events)[0]
        assert event.time is None


def _nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def test_what_nests_too_deeply_is_refused_and_no_fault_of_hooklines() -> None:
    for meta in ("${body.meta}", "x${body.meta}"):
        rule = {**ALIAS, "data": {**ALIAS["data"], "artifact": {"id": "1", "metadata": {"m": meta}}}}
        with pytest.raises(RuleFailed, match="nests too deeply"):
            read(generic(rule), {**BODY, "meta": _nested(400)})
    tag = mlflow_body("model_version_tag.set", name="churn", version="3", key="k", value=_nested(400))
    with pytest.raises(InvalidDefinition, match="can't be written as JSON"):
        publishable(read(source("mlflow"), tag).events)


def test_all_rules_of_a_request_share_one_bound() -> None:
    data: dict[str, Any] = {"collection": {"name": "x"}, "artifact": {"id": "1"}}
    many: dict[str, Any] = {"each": "body.list", "when": {"item": "never"}, "type": "CREATE_ARTIFACT", "data": data}
    with pytest.raises(RuleFailed, match="more than 100000 times"):
        grid = source("event-grid", events=[many] * 50)
        read(grid, [azure_event("ModelDeployed", {}, list=[0] * MAX_ITEMS)] * 20)
    large = {**many, "when": {}, "data": {**data, "artifact": {"id": "1", "metadata": {"m": "${body.text}"}}}}
    with pytest.raises(RuleFailed, match="together"):
        read(generic(large, project="p"), {"list": [0] * MAX_ITEMS, "text": "x" * (100 << 10)})
    slow = {**many, "when": {"body.text": {"$regex": "(a?){30}b{1,30}c$"}}}
    with pytest.raises(RuleFailed, match="too long"):
        read(generic(slow, project="p"), {"list": [0] * MAX_ITEMS, "text": "a" * (50 << 10)})


FAULTS: list[tuple[dict[str, Any], tuple[str | int, ...]]] = [
    ({"when": {"event": 1}}, ("when", "event")),
    ({"when": {"body.event": {"$regex": "("}}}, ("when", "body.event", "$regex")),
    ({"when": {"item.x": 1}}, ("when", "item.x")),
    ({"when": {"header.x-token": "guess"}}, ("when", "header.x-token")),
    ({"when": {"header.Authorization": "guess"}}, ("when", "header.Authorization")),
    ({"id": "${header.X-Token}"}, ("id",)),
    ({"id": "${body.id"}, ("id",)),
    ({"id": "${event_id}"}, ("id",)),
    ({"time": "${}"}, ("time",)),
    ({"each": "models"}, ("each",)),
    ({"data": {"collection": {"name": "${item.x}"}}}, ("data", "collection", "name")),
    ({"data": {"collection": {"name": "x"}, "artifact": {"id": "x"}, "project": "p"}}, ("data", "alias")),
    ({"data": {"alias": "x", "artifact": {"id": "x"}, "project": "p"}}, ("data", "collection")),
]


@pytest.mark.parametrize(("change", "loc"), FAULTS)
def test_a_faulty_rule_is_refused_at_its_place(change: dict[str, Any], loc: tuple[str | int, ...]) -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        generic(ALIAS | change)
    assert ("events", 0, *loc) in [error.loc for error in refusal.value.errors], refusal.value


def test_a_source_without_what_its_kind_needs_is_refused() -> None:
    for kind, definition, loc in (
        ("generic", {"events": [ALIAS]}, ("verify",)),
        ("generic", {"verify": TOKEN}, ("events",)),
        ("github", {"project": None}, ("project",)),
        ("github", {"verify": TOKEN}, ("verify",)),
        ("github", {"project": "a\nb"}, ("project",)),
        ("generic", {"verify": {}, "events": [ALIAS]}, ("verify",)),
        ("generic", {"verify": TOKEN | {"basic": {"user": "x"}}, "events": [ALIAS]}, ("verify",)),
        ("generic", {"verify": {"basic": {"user": "a:b"}}, "events": [ALIAS]}, ("verify", "basic", "user")),
        ("generic", {"verify": {"token": {"header": "a b"}}, "events": [ALIAS]}, ("verify", "token", "header")),
    ):
        with pytest.raises(InvalidDefinition) as refusal:
            source(kind, **definition)
        assert loc in [error.loc for error in refusal.value.errors], (kind, definition)


@pytest.mark.parametrize(
    "members",
    [
        {"signed": "{timestamp}"},
        {"signed": "{body}{id}"},
        {"signed": "{body}{other}"},
        {"signed": "{body}", "timestamp_header": "X-Time"},
    ],
)
def test_a_signature_of_too_little_is_refused(members: dict[str, str]) -> None:
    usual = {"header": "X-S", "algorithm": "sha256", "encoding": "hex", "key": "text", "tolerance_seconds": 300}
    with pytest.raises(InvalidDefinition, match="signed"):
        source("generic", verify={"hmac": usual | members}, events=[ALIAS])


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=10,
)
_ANY = {
    "each": "body.list",
    "type": "CREATE_ARTIFACT",
    "id": "${delivery_id}${item.id:-}${body.x:-}",
    "data": {
        "project": "${item}",
        "collection": "${body.a.0.b}",
        "artifact": {"id": "${body.a.b}", "x${item}": "${item}"},
    },
}


@given(body=_JSON, items=st.lists(_JSON, max_size=5))
def test_no_body_breaks_a_rule_or_gets_out_of_its_entity(body: Any, items: list[Any]) -> None:
    whole = {**body, "list": items} if isinstance(body, dict) else {"a": body, "list": items}
    found = read(generic(_ANY), whole)
    assert len({event["id"] for event in found.events}) == len(found.events) == len(items)
    assert all(event["data"]["entity"] == "acme" for event in found.events)
