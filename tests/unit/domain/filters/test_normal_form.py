"""Negation normal form: the same matches, one shape, and what counts as the same filter."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.filters.filters import MISSING, parse_filter
from shared.domain.filters.normal_form import NoNormalForm, negation_normal_form, same_normal_form

A, B, C = ({name: {"$eq": 1}} for name in "abc")
EVERYTHING: dict[str, Any] = {"$and": []}
NOTHING: dict[str, Any] = {"$not": EVERYTHING}


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ({}, EVERYTHING),
        ({"$and": [{}]}, EVERYTHING),
        ({"$nor": [{}]}, NOTHING),
        ({"$and": [A, {"$not": {}}]}, NOTHING),
        ({"$or": [A, {}]}, EVERYTHING),
        ({"$or": [A]}, A),
        ({"a": 1}, A),
        ({"a": 1, "b": 1}, {"$and": [A, B]}),
        ({"$nor": [A]}, {"$not": A}),
        ({"$nor": [A, B]}, {"$and": [{"$not": A}, {"$not": B}]}),
        ({"$nor": [{"$nor": [A, B]}, C]}, {"$and": [{"$or": [A, B]}, {"$not": C}]}),
        ({"$not": {"$or": [A]}}, {"$not": A}),
        ({"$not": {"$nor": [A]}}, A),
        ({"$not": {"$not": A}}, A),
        ({"$not": {"$and": [A, {"$and": [B, C]}]}}, {"$or": [{"$not": A}, {"$not": B}, {"$not": C}]}),
        ({"$and": [A, {"$and": [B, {"$or": [C]}]}]}, {"$and": [A, B, C]}),
        ({"a": {"$gt": 1, "$lt": 3}}, {"$and": [{"a": {"$gt": 1}}, {"a": {"$lt": 3}}]}),
        ({"a": {"$not": {"$gt": 1, "$lt": 3}}}, {"$or": [{"$not": {"a": {"$gt": 1}}}, {"$not": {"a": {"$lt": 3}}}]}),
        ({"a": {"x": 1}}, {"a": {"$eq": {"x": 1}}}),
    ],
)
def test_normal_forms(written: dict[str, Any], normal: dict[str, Any]) -> None:
    assert json.dumps(negation_normal_form(written)) == json.dumps(normal)


@pytest.mark.parametrize(
    "other", [{"a": True}, {"a": 1.0}, {"a": {"$in": [1]}}, {"$not": A}, {"a": {"$eq": 1, "$ne": 2}}, {"b": 1}]
)
def test_other_filters_are_not_the_same(other: dict[str, Any]) -> None:
    assert same_normal_form({"a": 1}, {"$not": {"$nor": [A]}})
    assert not same_normal_form({"a": 1}, other)


def test_what_is_too_deep_is_like_nothing() -> None:
    deep: dict[str, Any] = A
    for _ in range(200):
        deep = {"$not": deep}
    with pytest.raises(NoNormalForm):
        negation_normal_form(deep)
    assert not same_normal_form(deep, A)
    operators: dict[str, Any] = {"$gt": 1}
    for _ in range(200):
        operators = {"$not": operators}
    assert not same_normal_form({"a": operators}, {"a": operators})


@pytest.mark.parametrize(
    "broken", [{"$and": 1}, {"$nor": [1, "x"]}, {"$not": []}, {"$weird": 1}, {"$or": [{"$not": 1}]}]
)
def test_what_is_no_filter_is_like_nothing(broken: dict[str, Any]) -> None:
    assert not same_normal_form(broken, broken)
    assert not same_normal_form(broken, A)


values = st.sampled_from([0, 1, 1.0, True, None, "x", "y", [1, "x"]])
operators = st.dictionaries(st.sampled_from(["$eq", "$ne"]), values, min_size=1) | st.dictionaries(
    st.sampled_from(["$gt", "$lte"]), st.sampled_from([0, 1, "x"]), min_size=1
)
fields = st.sampled_from("ab")
comparisons = st.dictionaries(fields, values | operators | st.builds(lambda of: {"$not": of}, operators))
expressions = st.recursive(
    comparisons,
    lambda inner: (
        st.builds(lambda op, terms: {op: terms}, st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1))
        | st.builds(lambda term, of: {"$not": term, "a": of}, inner, values)
        | st.builds(lambda term: {"$not": term}, inner)
    ),
    max_leaves=6,
)
subjects = st.fixed_dictionaries({}, optional={"a": values, "b": values})


@settings(max_examples=300, deadline=None)
@given(expressions, st.lists(subjects, max_size=8))
def test_the_normal_form_matches_the_same(expression: dict[str, Any], subjects: list[dict[str, Any]]) -> None:
    written, normal = parse_filter(expression, lambda _: None), negation_normal_form(expression)
    parsed = parse_filter(normal, lambda _: None)
    resolve = lambda name: lambda subject: subject.get(name, MISSING)  # noqa: E731
    for subject in subjects:
        assert written.compile(resolve)(subject) is parsed.compile(resolve)(subject)
    assert "$nor" not in json.dumps(normal)
    assert same_normal_form(expression, written.to_json())
    assert same_normal_form(expression, normal)
    assert json.dumps(negation_normal_form(normal)) == json.dumps(normal)
