"""Automations as forms: what a form shows is what it gives back, and what rows can't show is left as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.console.automation_forms import definition_of, form_of
from dispatcher.console.filter_forms import MODES, OPERATORS
from dispatcher.console.forms import Form
from dispatcher.console.pages.webhook_forms import json_value
from shared.domain.errors import InvalidDefinition
from shared.domain.filters.filters import parse_filter

TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
SCALARS = st.one_of(TEXTS, st.integers(-999, 999), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
FIELDS = st.sampled_from(["alias", "tag", "author", "metadata.type", "config.lr", "run.state"])
VALUES = st.one_of(SCALARS, st.none(), st.lists(SCALARS, max_size=3), st.sampled_from(["1", "true", '"x"', "null", ""]))
TERMS = st.builds(lambda field, op, value: {field: {op: value}}, FIELDS, st.sampled_from([*OPERATORS]), VALUES)
FILTERS = st.recursive(
    st.one_of(TERMS, st.builds(lambda field, value: {field: value}, FIELDS, SCALARS), st.just({})),
    lambda inner: st.one_of(
        st.builds(lambda op, of: {op: of}, st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, max_size=3)),
        st.builds(lambda one, other: {**one, **other}, inner, inner),
    ),
    max_leaves=6,
)


def sent(form: Form) -> Form:
    """The form as a browser sends it: with a row that was left blank at the end."""
    fields = {name: list(values) for name, values in form.fields.items()}
    if "filter.json" not in fields:
        for column, blank in (("field", ""), ("op", "$eq"), ("value", "")):
            fields[f"filter.{column}"] = [*fields.get(f"filter.{column}", []), blank]
    return Form(fields)


def definition(**members: Any) -> dict[str, Any]:
    return {
        "name": "on-production",
        "description": "What it does.",
        "enabled": True,
        "scope": {"project": "models", "collection": "llm"},
        "event": "ADD_ARTIFACT_ALIAS",
        "filter": {"alias": {"$regex": "^prod"}},
        "action": {
            "webhook": "deploy-hook",
            "payload": {"by": "${event_author}", "n": [1, None]},
            "payload_types": "json",
        },
        "cooldown": None,
        "rate_limit": None,
        **members,
    }


@given(FILTERS, st.sampled_from(["ADD_ARTIFACT_ALIAS", "REMOVE_ARTIFACT_TAG", "RUN_STATE"]))
def test_a_filter_comes_back_as_it_was(expression: dict[str, Any], event: str) -> None:
    got = definition_of(sent(form_of(definition(filter=expression, event=event))))["filter"]
    assert meaning(got) == meaning(expression)


def meaning(expression: dict[str, Any]) -> Any:
    """A filter's terms in normal form, in an order of their own; the expression itself where it is no filter."""
    try:
        normal = parse_filter(expression, lambda _field: None).to_json()
    except InvalidDefinition:
        return json.dumps(expression, sort_keys=True)
    return sorted(json.dumps(term, sort_keys=True) for term in normal.get("$and", [normal]))


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"enabled": False, "scope": {}, "description": None, "filter": {}},
        {"action": {"no_op": True}, "rate_limit": "60/min", "cooldown": {"per": "collection", "period": "1d"}},
        {"action": {"webhook": "deploy-hook", "payload_types": "text"}},
        {"action": {"webhook": "deploy-hook", "payload": ["$alias", 5], "payload_types": "json"}},
        {"action": {"webhook": "deploy-hook", "payload": "$alias", "payload_types": "json"}},
        {
            "action": {
                "webhook": "deploy-hook",
                "payload": '\n"$alias"\n \t{',
                "payload_types": "text",
                "content_type": "text/plain",
            }
        },
        {
            "action": {
                "webhook": "deploy-hook",
                "payload": {"a": "$alias"},
                "payload_types": "json",
                "content_type": "application/vnd.example+json",
            }
        },
        {"action": {"slack": "alerts", "title": "New", "severity": "WARN"}},
        {"event": "RUN_STATE", "states": ["failed", "crashed"], "scope": {"project": "models"}},
        {"event": "RUN_METRIC", "conditions": [{"metric": "loss", "op": "$lt", "threshold": 0.25}]},
        {
            "event": "RUN_METRIC",
            "conditions": [
                {"metric": "acc", "op": "$gte", "threshold": 1, "aggregate": "MAX", "window": 5},
                {"metric": "loss", "op": "$lt", "threshold": 1e-9},
            ],
        },
        {"event": "RUN_METRIC", "conditions": [{"metric": "loss", "zscore": {"threshold": 3.0}}]},
        {"event": "RUN_METRIC", "conditions": [{"metric": "loss", "change": {"amount": 0.1}, "window": 3}]},
    ],
    ids=str,
)
def test_a_definition_comes_back_as_it_was(members: dict[str, Any]) -> None:
    given_definition = definition(**members)
    got = definition_of(sent(form_of(given_definition)))
    assert {name: value for name, value in got.items() if name in given_definition} == given_definition
    assert not any(got[name] for name in got.keys() - given_definition.keys())


def test_json_that_can_t_be_read_is_named() -> None:
    form = form_of(definition())
    broken = Form({**form.fields, "action.payload": ["{"], "filter.json": ["[" * 100_000]})
    with pytest.raises(InvalidDefinition) as refused:
        definition_of(broken)
    assert [error.loc for error in refused.value.errors] == [("filter",), ("action", "payload")]


@pytest.mark.parametrize("text", ["9" * 5000, "[NaN]", "1e999", '"\\ud800"'])
def test_fields_read_json_as_the_api_does(text: str) -> None:
    form = form_of(definition())
    with pytest.raises(InvalidDefinition) as refused:
        definition_of(Form({**form.fields, "action.payload": [text]}))
    assert [error.loc for error in refused.value.errors] == [("action", "payload")]
    with pytest.raises(InvalidDefinition) as refused:
        json_value("payload", text)
    assert "must be JSON: see line 1" in str(refused.value)
    rows = {"filter.field": ["metadata.x"], "filter.op": ["$in"], "filter.value": [f"[{text}]"]}
    assert definition_of(Form({**form.fields, **rows}))["filter"]["metadata.x"] == {"$in": [f"[{text}]"]}


def test_numbers_that_are_none_stay_to_be_refused() -> None:
    form = form_of(definition(event="RUN_METRIC", conditions=[{"metric": "loss", "op": "$lt", "threshold": 1}]))
    got = definition_of(Form({**form.fields, "condition.threshold": ["much"], "condition.window": ["true"]}))
    assert got["conditions"] == [{"metric": "loss", "op": "$lt", "threshold": "much", "window": "true"}]
    for text in ("NaN", "9" * 5000):
        got = definition_of(Form({**form.fields, "condition.threshold": [text]}))
        assert got["conditions"][0]["threshold"] == text


@pytest.mark.parametrize("mode", MODES)
def test_terms_are_taken_together_as_it_is_chosen(mode: str) -> None:
    terms: list[dict[str, Any]] = [{"version": "v1"}, {"metadata.n": {"$gt": 3}}]
    expression: dict[str, Any] = {mode: terms} if mode else {**terms[0], **terms[1]}
    with_pattern = {"alias": {"$regex": "^prod"}, **expression}
    form = form_of(definition(filter=with_pattern))
    assert (form.text("filter.mode"), form.text("filter.pattern")) == (mode, "^prod")
    assert form.texts("filter.field") == ["version", "metadata.n"]
    assert definition_of(sent(form))["filter"] == with_pattern
    stored = parse_filter(with_pattern, lambda _field: None).to_json()
    assert form_of(definition(filter=stored)).fields == form.fields


def test_a_pattern_and_a_term_of_the_same_field_both_hold() -> None:
    row = {"filter.field": ["alias"], "filter.op": ["$ne"], "filter.value": ["prod-old"]}
    got = definition_of(Form({**form_of(definition()).fields, **row}))["filter"]
    assert got == {"$and": [{"alias": {"$regex": "^prod"}}, {"alias": {"$ne": "prod-old"}}]}


@pytest.mark.parametrize(
    ("condition", "in_rows"),
    [
        ({"metric": "loss", "zscore": {}}, True),
        ({"metric": "loss", "finite": False}, True),
        ({"metric": "loss", "finite": True}, True),
        ({"metric": "loss", "finite": False, "window": 3}, False),
        ({"metric": "loss", "finite": "no"}, False),
        ({"metric": "loss", "zscore": {"direction": "DECREASE", "threshold": 2.5}, "window": 20}, True),
        ({"metric": "loss", "change": {"amount": 1, "type": "ABSOLUTE", "direction": "ANY"}, "prior_window": 4}, True),
        ({"metric": "loss", "change": {"amount": 0.1, "unknown": 1}}, False),
        ({"metric": "loss", "op": "$lt", "threshold": "many"}, True),
        ({"metric": "a\u202eb", "op": "$lt", "threshold": 1}, False),
        ({"metric": "loss", "op": "$lt", "threshold": 1, "aggregate": None}, False),
        ({"metric": "loss", "op": "$lt"}, False),
        ("loss < 3", False),
    ],
    ids=str,
)
def test_conditions_of_each_kind_have_rows(condition: Any, in_rows: bool) -> None:
    form = form_of(definition(event="RUN_METRIC", conditions=[condition]))
    assert (form.text("conditions.json") == "") is in_rows
    assert definition_of(form)["conditions"] == [condition]
