"""Filters and orders of the client's listings (projects, collections, triggers): `{"name": "x"}`, `-created_at`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import orjson

from shared.domain.errors import InvalidDefinition
from shared.domain.filters.filters import Predicate, parse_filter
from shared.domain.json_text import read_json
from shared.domain.json_values import refuse_unfit

_Row = TypeVar("_Row")
Fields = Mapping[str, Callable[[_Row], Any]]
"""How each field that may be named is read."""


def row_filter(text: str | None, fields: Fields[_Row], argument: str) -> Predicate[_Row]:
    """A filter from JSON text; none matches everything.

    Raises:
        InvalidDefinition: at the argument, for text that is no filter on these fields.
    """
    if text is None:
        return lambda _row: True
    accepted = f"is not a field here; accepted: {', '.join(sorted(fields))}"
    try:
        raw = read_json(text)
        refuse_unfit(raw)
        parsed = parse_filter(raw, lambda name: None if name in fields else accepted)
    except orjson.JSONDecodeError:
        raise InvalidDefinition.at((argument,), "must be a JSON object in a string") from None
    except InvalidDefinition as exc:
        raise exc.under(argument) from None
    return parsed.compile(lambda name: fields[name])


def exact_value(text: str | None, field: str) -> str | None:
    """The text that a filter of nothing but `{"<field>": "<text>"}` asks for."""
    match None if text is None else read_json(text):
        case {**only} if list(only) == [field] and isinstance(only[field], str):
            return str(only[field])
        case _:
            return None


def in_order(rows: Iterable[_Row], order: str | None, fields: Fields[_Row]) -> list[_Row]:
    """The rows by a field, `-` before it for descending, and those with equal values as they came.

    Raises:
        InvalidDefinition: for a field that is not among these.
    """
    if not order:
        return list(rows)
    name = order.lstrip("+-")
    if name not in fields:
        raise InvalidDefinition.at(("order",), f"must be one of {', '.join(sorted(fields))}, with - for descending")
    return sorted(rows, key=fields[name], reverse=order.startswith("-"))
