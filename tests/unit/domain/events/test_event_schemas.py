"""The JSON Schemas of events say what the models say: judged by a small validator of their own vocabulary."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import check_event, json_schema
from shared.domain.events.types import EventType
from tests.unit.domain.samples import Raw, event

Schema = dict[str, Any]

DATE_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# JSON Schema 2020-12, validation vocabulary, section 6.1.1: a number without a fraction is an integer.
TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "null": lambda value: value is None,
    "number": _is_number,
    "integer": lambda value: _is_number(value) and value == int(value),
}
ANNOTATIONS = {"title", "description", "default", "$schema", "$defs"}
KEYWORDS: dict[str, Callable[[Any, Any, Schema], bool]] = {
    "type": lambda wanted, value, _: TYPES[wanted](value),
    "const": lambda wanted, value, _: value == wanted and type(value) is type(wanted),
    "enum": lambda wanted, value, _: value in wanted,
    "anyOf": lambda wanted, value, root: any(valid(one, value, root) for one in wanted),
    "$ref": lambda wanted, value, root: valid(root["$defs"][wanted.removeprefix("#/$defs/")], value, root),
    "minLength": lambda wanted, value, _: not isinstance(value, str) or len(value) >= wanted,
    "maxLength": lambda wanted, value, _: not isinstance(value, str) or len(value) <= wanted,
    # Every pattern here is anchored; in ECMA 262 `$` is the end of the text and nothing before it.
    "pattern": lambda wanted, value, _: not isinstance(value, str) or bool(re.fullmatch(wanted[1:-1], value)),
    "format": lambda wanted, value, _: wanted == "date-time" and bool(re.fullmatch(DATE_TIME, value, re.ASCII)),
    "minimum": lambda wanted, value, _: not _is_number(value) or value >= wanted,
    "exclusiveMaximum": lambda wanted, value, _: not _is_number(value) or value < wanted,
    "items": lambda wanted, value, root: not isinstance(value, list) or all(valid(wanted, v, root) for v in value),
    "required": lambda wanted, value, _: not isinstance(value, dict) or all(name in value for name in wanted),
    "minProperties": lambda wanted, value, _: not isinstance(value, dict) or len(value) >= wanted,
    "maxProperties": lambda wanted, value, _: not isinstance(value, dict) or len(value) <= wanted,
    "propertyNames": lambda wanted, value, root: all(valid(wanted, name, root) for name in value),
    "properties": lambda wanted, value, root: all(
        valid(one, value[name], root) for name, one in wanted.items() if isinstance(value, dict) and name in value
    ),
    # Nowhere here beside `properties` with anything but true.
    "additionalProperties": lambda wanted, value, root: (
        wanted is True or all(valid(wanted, member, root) for member in value.values())
    ),
}


def valid(schema: Schema, value: Any, root: Schema) -> bool:
    """Whether the value is valid; a keyword that this validator does not know is an error of the test."""
    known = sorted(schema.keys() - ANNOTATIONS, key=lambda name: name != "type")
    return all(KEYWORDS[name](schema[name], value, root) for name in known)


SCHEMAS = {event_type: json_schema(event_type) for event_type in EventType}


@pytest.mark.parametrize("event_type", EventType)
def test_a_schema_takes_the_examples_of_its_type_and_no_others(event_type: EventType) -> None:
    schema = SCHEMAS[event_type]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == event_type
    assert {one for one in EventType if valid(schema, event(one), schema)} == {event_type}


def test_schemas_are_made_anew_for_each_caller() -> None:
    json_schema(EventType.RUN_STATE)["properties"].clear()
    assert json_schema(EventType.RUN_STATE) == SCHEMAS[EventType.RUN_STATE]


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place of an event that its schema says something about."""
    found = [path] if path else []
    if path[-1:] not in (("metadata",), ("config",)):
        members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, member in members:
            found += places(member, (*path, key))
    return found


def replaced(raw: Raw, path: tuple[str | int, ...], value: object) -> Raw:
    twin: Any = copy.deepcopy(raw)
    target = twin
    for key in path[:-1]:
        target = target[key]
    if value is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return dict(twin)


OTHERS = st.one_of(
    st.just(...),
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 1.0, 1.5, -0.0, 1e300, 9.3e18]),
    st.sampled_from(
        ["", "x", "a\nb", "\n", "a\n", "\x7f", "é" * 512, "x" * 513, "1.0", "NaN", "Infinity", "nan", "running"]
    ),
    st.sampled_from(["2026-11-23T09:00:00Z", "2026-11-23", "1700000000", "2026-11-23T09:00:00.5-03:00"]),
    st.text(max_size=4),
    st.sampled_from(
        [[], ["a"], [1], {}, {"id": "a"}, {"name": "n"}, {"m": 1}, {"m": "NaN", "n": "x"}, {"": 1}, {"\t": 1}]
    ),
)
FULL = {
    **{event_type: event(event_type) for event_type in EventType},
    EventType.RUN_STATE: event("RUN_STATE", run={"id": "r", "name": "n", "display_name": "d", "config": {}}),
}


@settings(max_examples=400)
@given(st.sampled_from(EventType), st.data())
def test_schemas_and_models_agree(event_type: EventType, data: st.DataObject) -> None:
    raw = FULL[event_type]
    path = data.draw(st.sampled_from(places(raw)))
    candidate = replaced(raw, path, data.draw(OTHERS, label=str(path)))
    try:
        accepted = check_event(candidate).type is event_type
    except InvalidDefinition:
        accepted = False
    assert valid(SCHEMAS[event_type], candidate, SCHEMAS[event_type]) is accepted
