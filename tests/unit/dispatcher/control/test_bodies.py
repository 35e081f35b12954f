"""Bodies are read with faults that name places and never repeat values."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from dispatcher.control.bodies import Body, merge_patch, parse_body
from shared.domain.errors import InvalidDefinition


class Inner(Body):
    size: int


class Sample(Body):
    name: str = Field(max_length=5)
    inner: Inner | None = None
    items: list[int] = Field(default=[])


# RFC 7396, appendix A.
RFC_7396 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize(("target", "patch", "result"), RFC_7396)
def test_a_merge_patch_does_as_the_rfc_says(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


@given(json_values, json_values)
def test_a_merge_patch_applied_twice_changes_nothing_more(target: Any, patch: Any) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


@pytest.mark.parametrize(
    ("raw", "faults"),
    [
        ({}, [("name",)]),
        ({"name": 5}, [("name",)]),
        ({"name": "toolong"}, [("name",)]),
        ({"name": "x", "inner": {"size": "1"}}, [("inner", "size")]),
        ({"name": "x", "inner": {"size": 1, "colour": "red"}}, [("inner", "colour")]),
        ({"name": "x", "items": [1, "2"], "more": 1}, [("items", 1), ("more",)]),
        ([], [()]),
        (None, [()]),
    ],
)
def test_faults_are_placed(raw: object, faults: list[tuple[str | int, ...]]) -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        parse_body(Sample, raw)
    assert [error.loc for error in refusal.value.errors] == faults


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


class Whole(Body):
    text: str = ""
    flag: bool = False
    sizes: Annotated[tuple[int, ...], Field(strict=False, min_length=1)] = (1,)
    names: dict[str, str] = Field(default={})
    inner: Inner | None = None
    size: Annotated[Size, Field(strict=False)] = Size.SMALL


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("text", 5, "must be text"),
        ("flag", "yes", "must be true or false"),
        ("sizes", "5xx", "must be a list"),
        ("sizes", [], "must have at least 1"),
        ("names", [1], "must be an object"),
        ("names", {"a": 1}, "must be text"),
        ("inner", "x", "must be an object"),
        ("size", "LARGE", "must be 'small' or 'large'"),
    ],
)
def test_a_fault_of_type_is_said_in_the_words_of_json(member: str, value: object, words: str) -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        parse_body(Whole, {member: value})
    assert [error.msg for error in refusal.value.errors] == [words]


def test_what_is_accepted_is_said_and_what_was_sent_is_not() -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        parse_body(Sample, {"name": "sesame-open", "key": "sesame-open"})

    assert "accepted: name, inner, items" in str(refusal.value)
    assert "sesame" not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__context__ is None


def test_what_can_not_be_stored_is_refused() -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        parse_body(Sample, {"name": "\0", "items": [1, "\ud800"]})
    assert [error.loc for error in refusal.value.errors] == [("name",), ("items", 1)]
