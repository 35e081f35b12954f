"""Automations as forms: what a form shows is what it gives back, and what rows can't show is left as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.console.automation_forms import OPERATORS, definition_of, form_of
from dispatcher.console.forms import Form
from shared.domain.errors import InvalidDefinition

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
        "action": {"webhook": "deploy-hook", "payload": {"by": "${event_author}", "n": [1, None]}},
        "cooldown": None,
        "rate_limit": None,
        **members,
    }


@given(FILTERS)
def test_a_filter_comes_back_as_it_was(expression: dict[str, Any]) -> None:
    got = definition_of(sent(form_of(definition(filter=expression))))["filter"]
    assert json.dumps(got, sort_keys=True) == json.dumps(
        {} if expression == {"$and": []} else expression, sort_keys=True
    ) or (got == {} and not expression)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"enabled": False, "scope": {}, "description": None, "filter": {}},
        {"action": {"no_op": True}, "rate_limit": "60/min", "cooldown": {"per": "collection", "period": "1d"}},
        {"action": {"webhook": "deploy-hook"}},
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


def test_numbers_that_are_none_stay_to_be_refused() -> None:
    form = form_of(definition(event="RUN_METRIC", conditions=[{"metric": "loss", "op": "$lt", "threshold": 1}]))
    got = definition_of(Form({**form.fields, "condition.threshold": ["much"], "condition.window": ["true"]}))
    assert got["conditions"] == [{"metric": "loss", "op": "$lt", "threshold": "much", "window": "true"}]
