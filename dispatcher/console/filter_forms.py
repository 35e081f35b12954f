"""A filter as rows of a form, and back with the same meaning. What rows can't show is kept as JSON, unchanged.

Rows are terms of which all must hold, or any, or none. Of events about an alias or a tag, the pattern for it has a
field of its own, which must match as well. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

from dispatcher.console.forms import Form
from dispatcher.console.json_fields import read_json_field, shown_json
from dispatcher.console.rendering import visible
from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.events.types import ALIAS_TYPES, TAG_TYPES
from shared.domain.filters.filters import parse_filter
from shared.domain.json_text import read_json

OPERATORS = {
    "$eq": "is",
    "$ne": "is not",
    "$regex": "matches",
    "$contains": "contains",
    "$in": "is one of",
    "$nin": "is none of",
    "$gt": ">",
    "$gte": "≥",
    "$lt": "<",
    "$lte": "≤",
    "$exists": "exists",
}
TYPED = ("metadata.", "config.", "run.")
"""Fields whose values may be numbers, truth values or null; those of all others are text."""
_JSON_SCALAR = re.compile(r'-?\d+(\.\d+)?([eE][-+]?\d+)?|true|false|null|".*"', re.DOTALL)
MODES = {"": "all of these", "$or": "any of these", "$nor": "none of these"}
"""How terms are taken together."""


def subject_of(event: str) -> str:
    """The field that a type of event is named after, whose pattern is asked for first; blank if there is none."""
    return "alias" if event in ALIAS_TYPES else "tag" if event in TAG_TYPES else ""


def filter_fields(expression: Mapping[str, Any], event: str) -> dict[str, list[str]]:
    """The fields that show a filter of automations for this type of event."""
    terms, subject, pattern = _terms(expression), subject_of(event), ""
    if terms is None:
        return {"filter.json": [shown_json(expression)]}
    patterns = [one[subject]["$regex"] for one in terms if one.get(subject, {}).keys() == {"$regex"}] if subject else []
    if len(patterns) == 1 and _is_plain(patterns[0]):
        pattern = patterns[0]
        terms = [one for one in terms if one != {subject: {"$regex": pattern}}]
    mode = next((one for one in ("$or", "$nor") if [*map(set, terms)] == [{one}]), "")
    rows = _rows_of(terms[0][mode] if mode else terms)
    if rows is None or not _is_same(_combined(subject, pattern, _grouped(mode, rows)), expression):
        return {"filter.json": [shown_json(expression)]}
    return {
        "filter.pattern": [pattern],
        "filter.mode": [mode],
        "filter.field": [field for field, _, _ in rows],
        "filter.op": [op for _, op, _ in rows],
        "filter.value": [value for _, _, value in rows],
    }


def _terms(expression: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The terms of a filter that must all hold, in normal form; None for what is no filter."""
    try:
        normal = parse_filter(dict(expression), lambda _field: None).to_json()
    except InvalidDefinition:
        return None
    return normal["$and"] if normal.keys() == {"$and"} else [normal]


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two filters mean the same, by having the same terms in some order."""
    terms = [_terms(expression) for expression in (one, other)]
    ordered = [sorted(json.dumps(term, sort_keys=True) for term in some or ()) for some in terms]
    return None not in terms and ordered[0] == ordered[1]


def filter_of(form: Form, faults: list[FieldError]) -> Any:
    """The filter that the fields say."""
    if form.text("filter.json").strip():
        return read_json_field("filter", form.text("filter.json"), faults)
    fields, ops, values = form.texts("filter.field"), form.texts("filter.op"), form.texts("filter.value")
    given = [(field.strip(), op, value) for field, op, value in zip(fields, ops, values, strict=False) if field.strip()]
    mode = form.text("filter.mode")
    subject = subject_of(form.text("event"))
    return _combined(subject, form.text("filter.pattern"), _grouped(mode if mode in MODES else "", given))


def _is_plain(value: Any) -> bool:
    """Whether a field gives a text back as it is."""
    return isinstance(value, str) and value.strip() != "" and visible(value) == value


def _combined(subject: str, pattern: str, expression: dict[str, Any]) -> dict[str, Any]:
    """The terms with the pattern of the event's subject, which must hold as well."""
    if not subject or not pattern.strip():
        return expression
    term = {subject: {"$regex": pattern}}
    return {**term, **expression} if subject not in expression else {"$and": [term, expression]}


def _grouped(mode: str, rows: list[tuple[str, str, str]]) -> dict[str, Any]:
    return {mode: [_term(*row) for row in rows]} if mode and rows else _expression(rows)


def _rows_of(terms: Any) -> list[tuple[str, str, str]] | None:
    """Terms in normal form as rows; None when one of them has none."""
    rows: list[tuple[str, str, str]] = []
    for one in terms:
        ((name, tests),) = one.items()
        if name.startswith("$") or not isinstance(tests, dict) or len(tests) != 1:
            return None
        ((op, value),) = tests.items()
        text = _value_text(name, op, value) if op in OPERATORS else None
        if text is None or visible(name + text) != name + text:
            return None
        rows.append((name, op, text))
    return rows


def _term(field: str, op: str, text: str) -> dict[str, Any]:
    value = _value_of(field, op, text)
    return {field: value if op == "$eq" else {op: value}}


def _value_text(field: str, op: str, value: Any) -> str | None:
    if op in ("$in", "$nin"):
        return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else None
    if op == "$exists":
        return {True: "true", False: "false"}[value] if isinstance(value, bool) else None
    if isinstance(value, str):
        looks_typed = field.startswith(TYPED) and op not in ("$regex", "$contains") and _JSON_SCALAR.fullmatch(value)
        return json.dumps(value, ensure_ascii=False) if looks_typed else value
    if isinstance(value, dict | list) or not field.startswith(TYPED):
        return None
    return json.dumps(value)


def _value_of(field: str, op: str, text: str) -> Any:
    if op in ("$in", "$nin"):
        try:
            parsed = read_json(text)
        except orjson.JSONDecodeError:
            parsed = None
        return parsed if isinstance(parsed, list) else [part.strip() for part in text.split(",") if part.strip()]
    if op == "$exists":
        return {"true": True, "": True, "false": False}.get(text.strip().lower(), text)
    if field.startswith(TYPED) and op not in ("$regex", "$contains") and _JSON_SCALAR.fullmatch(text):
        try:
            return read_json(text)
        except orjson.JSONDecodeError:
            return text
    return text


def _expression(rows: list[tuple[str, str, str]]) -> dict[str, Any]:
    """The filter of rows: one object where each field has an operator once, else a list of them."""
    terms = [(field, op, _value_of(field, op, text)) for field, op, text in rows]
    if len({(field, op) for field, op, _ in terms}) < len(terms):
        return {"$and": [_term(*row) for row in rows]}
    tests: dict[str, dict[str, Any]] = {}
    for field, op, value in terms:
        tests.setdefault(field, {})[op] = value
    return {field: found["$eq"] if found.keys() == {"$eq"} else found for field, found in tests.items()}
