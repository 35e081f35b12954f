"""Checks of decoded JSON or YAML before anything else reads it: text that can be stored, and bounded size and depth.

YAML has member names that are no text, numbers of any length, and small documents that unfold into endless ones; JSON
escapes have characters that no database stores. Must not judge the meaning of a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shared.domain.errors import FieldError, InvalidDefinition, Loc
from shared.domain.json_text import MAX_DIGITS, has_few_digits

MAX_DEPTH: Final = 100
MAX_VALUES: Final = 150_000
"""How many values, members of lists and objects included; more than the largest payload has."""
MAX_FAULTS: Final = 20
"""The faults that one answer names; a value that was made badly usually has the same one everywhere."""


def refuse_unfit(value: object) -> None:
    """Refuse a value that JSON or a database can't hold.

    Raises:
        InvalidDefinition: with each place, `MAX_FAULTS` at most: member names that are not text, U+0000 and lone
            surrogates, whole numbers of more than `MAX_DIGITS` digits, and what is too deep or too much.
    """
    walk = _Walk()
    walk.look(value, ())
    if walk.faults:
        raise InvalidDefinition(*walk.faults)


class _Walk:
    """One walk through a value, which ends early when there is no end in sight."""

    def __init__(self) -> None:
        self.faults: list[FieldError] = []
        self._values = 0

    def look(self, value: object, loc: Loc) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            raise InvalidDefinition.at((), f"must have at most {MAX_VALUES:,} values")
        if not isinstance(value, dict | list | tuple | Mapping):
            self._note(loc, _scalar_fault(value))
        elif len(loc) >= MAX_DEPTH:
            self._note(loc, f"must not nest deeper than {MAX_DEPTH} levels")
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                self.look(item, (*loc, index))
        else:
            for key, member in value.items():
                self._note(loc, fault := _key_fault(key))
                if fault is None:
                    self.look(member, (*loc, key))

    def _note(self, loc: Loc, message: str | None) -> None:
        if message is not None:
            self.faults.append(FieldError(loc, message))
            if len(self.faults) >= MAX_FAULTS:
                raise InvalidDefinition(*self.faults)


def _key_fault(key: object) -> str | None:
    if not isinstance(key, str):
        return f"has a member name of type {type(key).__name__}: names must be text, put it in quotes"
    return None if _storable(key) else "has a member name with U+0000 or a lone surrogate"


def _scalar_fault(value: object) -> str | None:
    if isinstance(value, str):
        return None if _storable(value) else "must not hold U+0000 or lone surrogates"
    return whole_number_fault(value) if isinstance(value, int) else None


def whole_number_fault(value: int) -> str | None:
    """Why a whole number can't be read and written by every part; None where it can."""
    return None if has_few_digits(value) else f"must be a whole number of at most {MAX_DIGITS} digits, or a fraction"


def _storable(text: str) -> bool:
    return "\0" not in text and is_unicode(text)


def is_unicode(text: str) -> bool:
    """Whether `text` can be encoded: JSON escapes can smuggle lone surrogates into a string, UTF-8 has none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
