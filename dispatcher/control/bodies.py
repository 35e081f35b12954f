"""Reading decoded JSON or YAML into checked values, with faults in Hookline's own words.

Must not repeat a value in a fault: what was sent may be a secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.domain.errors import FieldError, InvalidDefinition, Loc


class Body(BaseModel):
    """Base of everything that is sent in: unknown members are refused, types are not converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class View(BaseModel):
    """Base of everything that is answered."""

    model_config = ConfigDict(frozen=True)


_B = TypeVar("_B", bound=Body)


def parsed(model: type[_B], raw: object) -> _B:
    """A checked body.

    Raises:
        InvalidDefinition: with every fault at its place.
    """
    refuse_unstorable(raw)
    if not isinstance(raw, Mapping):
        raise InvalidDefinition.at((), f"must be an object; its members: {', '.join(model.model_fields)}")
    try:
        return model.model_validate(raw)
    except ValidationError as exc:
        faults = tuple(_fault(model, error) for error in exc.errors(include_url=False, include_input=False))
    raise InvalidDefinition(*faults)  # outside the handler: the cause would hold what was sent


def _fault(model: type[BaseModel], error: Any) -> FieldError:
    loc: Loc = tuple(error["loc"])
    if error["type"] == "missing":
        return FieldError(loc, "is required")
    if error["type"] == "extra_forbidden":
        members = f"; accepted: {', '.join(model.model_fields)}" if len(loc) == 1 else ""
        return FieldError(loc, f"is not known here{members}")
    return FieldError(loc, str(error["msg"]).removeprefix("Value error, "))


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


def refuse_unstorable(raw: object) -> None:
    """Refuse text that PostgreSQL can't keep: the character U+0000, and lone surrogates.

    Raises:
        InvalidDefinition: naming the places.
    """
    faults = [FieldError(loc, "must not contain U+0000 or lone surrogates") for loc in _unstorable(raw, ())]
    if faults:
        raise InvalidDefinition(*faults)


def _unstorable(value: object, loc: Loc) -> Iterator[Loc]:
    """The places of such text; deeper than any definition may nest, nothing is looked at."""
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            yield loc
    elif len(loc) > 100:
        return
    elif isinstance(value, Mapping):
        for key, member in value.items():
            yield from _unstorable(key, loc)
            yield from _unstorable(member, (*loc, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _unstorable(item, (*loc, index))
