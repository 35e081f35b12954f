"""An automation as the fields of a form, and back. What rows can't show is kept as JSON, unchanged.

Pure: it neither checks a definition, which `dispatcher.control` does, nor knows of requests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from dispatcher.console.forms import Form
from dispatcher.console.rendering import pretty, visible
from shared.domain.errors import FieldError, InvalidDefinition

FIELDS = (
    "name",
    "description",
    "event",
    "scope.project",
    "scope.collection",
    "filter",
    "states",
    "conditions",
    "action",
    "action.webhook",
    "action.slack",
    "action.payload",
    "cooldown",
    "rate_limit",
)
"""The members that have a field of their own: where faults are shown."""
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
BLANK_ROWS = 1
_JSON_SCALAR = re.compile(r'-?\d+(\.\d+)?([eE][-+]?\d+)?|true|false|null|".*"', re.DOTALL)


def form_of(definition: Mapping[str, Any], *, revision: int | None = None) -> Form:
    """The fields that show a definition."""
    scope, action = definition.get("scope") or {}, definition.get("action") or {"webhook": ""}
    cooldown = definition.get("cooldown") or {}
    kind = next((one for one in ("webhook", "slack", "no_op") if one in action), "webhook")
    payload = action.get("payload")
    fields: dict[str, list[str]] = {
        "name": [definition.get("name", "")],
        "description": [definition.get("description") or ""],
        "event": [str(definition.get("event", "ADD_ARTIFACT_ALIAS"))],
        "scope.project": [scope.get("project") or ""],
        "scope.collection": [scope.get("collection") or ""],
        "states": list(definition.get("states") or ()),
        "action": [kind],
        "action.webhook": [action.get("webhook", "")],
        "action.slack": [action.get("slack", "")],
        "title": [action.get("title") or ""],
        "message": [action.get("message") or ""],
        "severity": [action.get("severity", "INFO")],
        "action.payload": ["" if payload is None else _shown(payload)],
        "cooldown.per": [cooldown.get("per", "")],
        "cooldown.period": [cooldown.get("period", "")],
        "rate_limit": [definition.get("rate_limit") or ""],
        "revision": ["" if revision is None else str(revision)],
    }
    if definition.get("enabled", True):
        fields["enabled"] = ["1"]
    fields |= _filter_fields(definition.get("filter") or {})
    fields |= _condition_fields(definition.get("conditions") or [])
    return Form(fields)


def definition_of(form: Form) -> dict[str, Any]:
    """The definition that the fields say.

    Raises:
        InvalidDefinition: naming each field whose JSON can't be read.
    """
    faults: list[FieldError] = []
    event = form.text("event")
    scope = {key: form.text(f"scope.{key}").strip() for key in ("project", "collection")}
    definition: dict[str, Any] = {
        "name": form.text("name").strip(),
        "description": form.text("description").strip() or None,
        "enabled": form.has("enabled"),
        "scope": {key: value for key, value in scope.items() if value},
        "event": event,
        "filter": _filter_of(form, faults),
        "conditions": _conditions_of(form, faults) if event == "RUN_METRIC" else None,
        "states": form.texts("states") if event == "RUN_STATE" else None,
        "action": _action_of(form, faults),
        "rate_limit": form.text("rate_limit").strip() or None,
        "cooldown": None,
    }
    if form.text("cooldown.per"):
        definition["cooldown"] = {"per": form.text("cooldown.per"), "period": form.text("cooldown.period").strip()}
    if faults:
        raise InvalidDefinition(*faults)
    return definition


def _action_of(form: Form, faults: list[FieldError]) -> dict[str, Any]:
    kind = form.text("action", "webhook")
    if kind == "no_op":
        return {"no_op": True}
    if kind == "slack":
        texts = {name: form.text(name) for name in ("title", "message")}
        chosen = {name: text for name, text in texts.items() if text.strip()}
        return {"slack": form.text("action.slack"), **chosen, "severity": form.text("severity", "INFO")}
    action: dict[str, Any] = {"webhook": form.text("action.webhook")}
    payload = _json("action.payload", form.text("action.payload"), faults)
    return action if payload is None else {**action, "payload": payload}


def _json(name: str, text: str, faults: list[FieldError]) -> Any:
    """The JSON in a field; None for a blank one, or one that can't be read, which becomes a fault."""
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as exc:
        where = f": see line {exc.lineno}, column {exc.colno}" if isinstance(exc, json.JSONDecodeError) else ""
        faults.append(FieldError(tuple(name.split(".")), f"is not JSON{where}"))
        return None


def _shown(value: Any) -> str:
    """JSON to read and to edit: what is not seen stands by its code, which JSON reads as the same."""
    return visible(pretty(value))


def _filter_fields(expression: Mapping[str, Any]) -> dict[str, list[str]]:
    rows = [] if expression == {"$and": []} else _rows_of(expression)  # which matches everything
    if rows is None:
        return {"filter.json": [_shown(expression)]}
    return {
        "filter.field": [field for field, _, _ in rows],
        "filter.op": [op for _, op, _ in rows],
        "filter.value": [value for _, _, value in rows],
    }


def _rows_of(expression: Mapping[str, Any]) -> list[tuple[str, str, str]] | None:
    """The filter as rows that must all hold; None for one that rows would not give back as it is."""
    rows: list[tuple[str, str, str]] = []
    for name, wanted in expression.items():
        if name == "$and" and len(expression) == 1 and isinstance(wanted, list) and wanted:
            for one in wanted:
                inner = _rows_of(one) if isinstance(one, dict) and len(one) == 1 and "$and" not in one else None
                if inner is None or len(inner) != 1:
                    return None
                rows += inner
            return rows if _expression(rows) == expression else None
        if name.startswith("$"):
            return None
        tests = wanted if isinstance(wanted, dict) else {"$eq": wanted}
        for op, value in tests.items():
            text = _value_text(name, op, value) if op in OPERATORS else None
            if text is None or visible(name + text) != name + text:
                return None
            rows.append((name, op, text))
    return rows if _expression(rows) == expression else None


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
            parsed = json.loads(text)
        except (json.JSONDecodeError, RecursionError):
            parsed = None
        return parsed if isinstance(parsed, list) else [part.strip() for part in text.split(",") if part.strip()]
    if op == "$exists":
        return {"true": True, "": True, "false": False}.get(text.strip().lower(), text)
    if field.startswith(TYPED) and op not in ("$regex", "$contains") and _JSON_SCALAR.fullmatch(text):
        try:
            return json.loads(text)
        except (json.JSONDecodeError, ValueError):
            return text
    return text


def _expression(rows: list[tuple[str, str, str]]) -> dict[str, Any]:
    """The filter of rows: one object where each field has an operator once, else a list of them."""
    terms = [(field, op, _value_of(field, op, text)) for field, op, text in rows]
    if len({(field, op) for field, op, _ in terms}) < len(terms):
        return {"$and": [{field: value if op == "$eq" else {op: value}} for field, op, value in terms]}
    tests: dict[str, dict[str, Any]] = {}
    for field, op, value in terms:
        tests.setdefault(field, {})[op] = value
    return {field: found["$eq"] if found.keys() == {"$eq"} else found for field, found in tests.items()}


def _filter_of(form: Form, faults: list[FieldError]) -> Any:
    if form.text("filter.json").strip():
        return _json("filter", form.text("filter.json"), faults)
    fields, ops, values = form.texts("filter.field"), form.texts("filter.op"), form.texts("filter.value")
    given = zip(fields, ops, values, strict=False)
    return _expression([(field.strip(), op, value) for field, op, value in given if field.strip()])


def _condition_fields(conditions: list[dict[str, Any]]) -> dict[str, list[str]]:
    if not all("threshold" in one and "op" in one for one in conditions):
        return {"conditions.json": [_shown(conditions)]}
    return {
        "condition.metric": [one["metric"] for one in conditions],
        "condition.aggregate": [one.get("aggregate") or "" for one in conditions],
        "condition.window": [str(one.get("window", "")) for one in conditions],
        "condition.op": [one["op"] for one in conditions],
        "condition.threshold": ["" if one["threshold"] == "" else json.dumps(one["threshold"]) for one in conditions],
    }


def _conditions_of(form: Form, faults: list[FieldError]) -> Any:
    if form.text("conditions.json").strip():
        return _json("conditions", form.text("conditions.json"), faults)
    names = ("metric", "aggregate", "window", "op", "threshold")
    columns = [form.texts(f"condition.{name}") for name in names]
    conditions = []
    for metric, aggregate, window, op, threshold in zip(*columns, strict=False):
        if metric.strip():
            one: dict[str, Any] = {"metric": metric.strip(), "op": op, "threshold": _number(threshold)}
            one |= {"aggregate": aggregate} if aggregate else {}
            one |= {"window": _number(window)} if window.strip() else {}
            conditions.append(one)
    return conditions


def _number(text: str) -> Any:
    """A number as it is written; text that is none, to be refused where it stands."""
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return text
    return value if isinstance(value, int | float) and not isinstance(value, bool) else text
