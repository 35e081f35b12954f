"""Metric conditions as rows of a form, and back. What rows can't show is kept as JSON, unchanged. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from dispatcher.console.forms import Form
from dispatcher.console.json_fields import read_json_field, shown_json
from dispatcher.console.rendering import visible
from shared.domain.errors import FieldError
from shared.domain.json_text import read_json

KINDS = {"threshold": "threshold", "change": "change", "zscore": "outlier", "finite": "being a number"}
"""What a condition compares."""
COLUMNS = ("kind", "metric", "aggregate", "window", "prior_window", "op", "type", "direction", "threshold", "finite")
"""The fields of a row. Each row has all of them; those that its kind has no use for are hidden, and not read."""
BLANK = ("threshold", "", "", "", "", "$gt", "", "", "", "false")
_MEMBERS = {
    "threshold": {"metric", "aggregate", "window", "op", "threshold"},
    "change": {"metric", "aggregate", "window", "prior_window", "change"},
    "zscore": {"metric", "window", "zscore"},
    "finite": {"metric", "finite"},
}
_INNER = {"change": ("type", "direction", "amount"), "zscore": ("direction", "threshold")}


def condition_fields(conditions: list[Any]) -> dict[str, list[str]]:
    """The fields that show conditions."""
    rows = [_row_of(one) for one in conditions]
    if any(row is None or _condition(row) != one for row, one in zip(rows, conditions, strict=True)):
        return {"conditions.json": [shown_json(conditions)]}
    return {f"condition.{column}": [row[column] for row in rows if row is not None] for column in COLUMNS}


def conditions_of(form: Form, faults: list[FieldError]) -> Any:
    """The conditions that the fields say; a row without a metric says nothing."""
    if form.text("conditions.json").strip():
        return read_json_field("conditions", form.text("conditions.json"), faults)
    columns = [_padded(form, column) for column in COLUMNS]
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*columns, strict=True)]
    return [_condition(row) for row in rows if row["metric"].strip()]


def _padded(form: Form, column: str) -> list[str]:
    """A column as long as that of the metrics, so that a link may leave columns out."""
    given, wanted = form.texts(f"condition.{column}"), len(form.texts("condition.metric"))
    return (given + [BLANK[COLUMNS.index(column)]] * wanted)[:wanted]


def _row_of(condition: Any) -> dict[str, str] | None:
    """A condition as a row; None for what no row has fields for."""
    if not isinstance(condition, Mapping):
        return None
    kind = next((one for one in ("change", "zscore", "finite") if one in condition), "threshold")
    if not condition.keys() <= _MEMBERS[kind] or not isinstance(condition.get("metric"), str):
        return None
    if kind == "threshold" and "threshold" not in condition:
        return None
    if kind == "finite":
        row = dict(zip(COLUMNS, BLANK, strict=True)) | {name: _text(condition[name]) for name in ("metric", "finite")}
        return row | {"kind": kind} if visible(row["metric"]) == row["metric"] else None
    inner = condition.get(kind) if kind in _INNER else {name: condition.get(name) for name in ("op", "threshold")}
    if not isinstance(inner, Mapping) or (kind in _INNER and not inner.keys() <= set(_INNER[kind])):
        return None
    row = dict(zip(COLUMNS, BLANK, strict=True)) | {"kind": kind, "op": ""}
    shared = ("metric", "aggregate", "window", "prior_window")
    row |= {name: _text(condition[name]) for name in shared if name in condition}
    row |= {("threshold" if name == "amount" else name): _text(value) for name, value in inner.items()}
    return row if all(visible(text) == text for text in row.values()) else None


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _condition(row: Mapping[str, str]) -> dict[str, Any]:
    """The condition that a row says; what is left blank is left out, so that its default holds."""
    kind = row["kind"] if row["kind"] in KINDS else "threshold"
    one: dict[str, Any] = {"metric": row["metric"].strip()}
    if kind == "finite":
        return {**one, "finite": row["finite"] == "true"}
    if kind != "zscore":
        one |= {"aggregate": row["aggregate"]} if row["aggregate"] else {}
    windows = ("window", "prior_window") if kind == "change" else ("window",)
    one |= {name: number_of(row[name]) for name in windows if row[name].strip()}
    if kind == "threshold":
        return {**one, "op": row["op"], "threshold": number_of(row["threshold"])}
    amount = "amount" if kind == "change" else "threshold"
    chosen = {name: row[name] for name in _INNER[kind] if name != amount and row[name]}
    if row["threshold"].strip() or kind == "change":
        chosen |= {amount: number_of(row["threshold"])}
    return {**one, kind: chosen}


def number_of(text: str) -> Any:
    """A number as it is written; text that is none, to be refused where it stands."""
    try:
        value = read_json(text)
    except orjson.JSONDecodeError:
        return text
    return value if isinstance(value, int | float) and not isinstance(value, bool) else text
