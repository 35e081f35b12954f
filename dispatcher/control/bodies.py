"""Parsing decoded JSON or YAML into checked values, with faults in Hookline's own words.

Must not repeat a value in a fault: it may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from shared.domain.errors import FieldError, InvalidDefinition, Loc
from shared.domain.json_values import refuse_unfit

MAX_FAULTS = 1000


Text = Annotated[str, Field(min_length=1, max_length=512)]
"""What a list is searched for: as long as a name may be."""


class Body(BaseModel):
    """Base of everything that is sent in: unknown members are refused, types are not converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _rfc_3339(value: object) -> object:
    """Accept RFC 3339 text only; pydantic would also take numbers for seconds or milliseconds."""
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise ValueError("must be a time as in RFC 3339, with its offset: 2026-11-23T09:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be a time between the years 1 and 9999 in UTC") from None


Timestamp = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_rfc_3339), AfterValidator(_in_utc)]
"""A moment, given as RFC 3339 text with an offset; in UTC."""


def one_or_many(item: Any) -> BeforeValidator:
    """Lets a member of type `tuple[item, ...]` be given as one value, or as a list of them of which any will do."""
    return BeforeValidator(_as_many, json_schema_input_type=item | list[item] | None)


def one_or_many_of(choices: type[StrEnum]) -> BeforeValidator:
    """`one_or_many` for the members of an enumeration."""

    def chosen(value: object) -> tuple[StrEnum, ...]:
        try:
            return tuple(map(choices, _as_many(value)))
        except ValueError:
            raise ValueError(f"must be one of {', '.join(choices)}, or a list of them") from None

    return BeforeValidator(chosen, json_schema_input_type=choices | list[choices] | None)  # type: ignore[valid-type]


def _as_many(value: object) -> tuple[Any, ...]:
    if value is None:
        return ()
    if isinstance(value, list | tuple):
        if not value:
            raise ValueError("must be a value, or a list with at least one")
        return tuple(value)
    return (value,)


class View(BaseModel):
    """Base of everything that is answered."""

    model_config = ConfigDict(frozen=True)


_B = TypeVar("_B", bound=Body)


def parse_body(model: type[_B], raw: object) -> _B:
    """A checked body, fit to be stored.

    Raises:
        InvalidDefinition: with every fault at its place.
    """
    refuse_unfit(raw)
    return parse_form(model, raw)


def parse_form(model: type[_B], raw: object) -> _B:
    """A body whose form alone is checked; its members' values are for the caller to check. Raises as `parse_body`."""
    if not isinstance(raw, Mapping):
        raise InvalidDefinition.at((), f"must be an object; its members: {', '.join(model.model_fields)}")
    try:
        return model.model_validate(raw)
    except ValidationError as exc:
        if exc.error_count() > MAX_FAULTS:  # to list them would take a hundred times as long as to find them
            members = ", ".join(model.model_fields)
            raise InvalidDefinition.at((), f"has {exc.error_count()} faults; its members: {members}") from None
        faults = tuple(_fault(model, error) for error in exc.errors(include_url=False, include_input=False))
    raise InvalidDefinition(*faults)  # outside the handler: its cause would contain the body


_PLAIN_WORDS = {
    "missing": "is required",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "must be an object"),
    **dict.fromkeys(("list_type", "tuple_type"), "must be a list"),
}
"""What pydantic says in Python's words, by its kinds of errors."""


def _fault(model: type[BaseModel], error: Any) -> FieldError:
    loc: Loc = tuple(error["loc"])
    if (words := _PLAIN_WORDS.get(error["type"])) is not None:
        return FieldError(loc, words)
    if error["type"] in ("enum", "literal_error"):
        return FieldError(loc, f"must be {error['ctx']['expected']}")
    if error["type"] == "too_short":
        return FieldError(loc, f"must have at least {error['ctx']['min_length']}")
    if error["type"] == "extra_forbidden":
        members = f"; accepted: {', '.join(model.model_fields)}" if len(loc) == 1 else ""
        return FieldError(loc, f"is not known here{members}")
    return FieldError(loc, str(error["msg"]).removeprefix("Value error, "))


def members_to_change(patch: object) -> Mapping[Any, Any]:
    """A patch that is an object. Raises InvalidDefinition for any other."""
    if not isinstance(patch, Mapping):
        raise InvalidDefinition.at((), "must be an object with the members to change")
    return patch


def apply_patch(target: Mapping[str, Any], patch: object) -> Any:
    """The target as a merge patch changes it.

    Raises:
        InvalidDefinition: for a patch that is no object, and for a null where the target has no member: a misspelt name
            must not pass for one that is gone.
    """
    patch = members_to_change(patch)
    if faults := tuple(_idle_nulls(target, patch, ())):
        raise InvalidDefinition(*faults)
    return merge_patch(target, patch)


def _idle_nulls(target: Mapping[str, Any], patch: Mapping[Any, Any], loc: Loc) -> Iterator[FieldError]:
    for key, value in patch.items():
        if value is None and key not in target:
            yield FieldError((*loc, str(key)), f"is not known here; accepted: {', '.join(target)}")
        elif isinstance(value, Mapping) and isinstance(inner := target.get(key), Mapping):
            yield from _idle_nulls(inner, value, (*loc, key))


def merge_patch(target: object, patch: object) -> Any:
    """The target as a JSON merge patch changes it (RFC 7396): objects merge, null removes, all else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged
