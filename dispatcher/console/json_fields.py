"""JSON in fields of a form: to read and to edit, and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from dispatcher.console.rendering import pretty, visible
from shared.domain.errors import FieldError
from shared.domain.json_text import read_json


def read_json_field(name: str, text: str, faults: list[FieldError]) -> Any:
    """The JSON in a field; None for a blank one, or one that can't be read, which becomes a fault."""
    if not text.strip():
        return None
    try:
        return read_json(text)
    except orjson.JSONDecodeError as exc:
        faults.append(FieldError(tuple(name.split(".")), f"is not JSON: see line {exc.lineno}, column {exc.colno}"))
        return None


def said(members: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a definition that say something: null is what those have that were left out."""
    return {name: value for name, value in members.items() if value is not None}


def shown_json(value: Any) -> str:
    """JSON to read and to edit: what is not seen stands by its code, which JSON reads as the same."""
    return visible(pretty(value))
