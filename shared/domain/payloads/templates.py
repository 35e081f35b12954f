"""Payload templates: cut when an automation is compiled, rendered for each delivery, opened for each attempt.

A delivery is stored without secrets, so rendering has two steps. `Template.render` fills in the event's values and
gives the *sealed* payload (`sealed.py`), in which each secret is still a slot. `open_payload` then inserts the secrets.
Sealed text is stored as text: a JSON column would rewrite it. This module must not evaluate anything inside a payload.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

import orjson

from shared.domain.errors import HooklineError
from shared.domain.payloads.content_types import FORM, JSON, PayloadTypes, escape_form, is_json, one_line
from shared.domain.payloads.names import ADDED, LARGE, LENGTHY, VARIABLES, object_key
from shared.domain.payloads.sealed import (
    MAX_INSERTED_BYTES,
    as_unicode,
    escape_json,
    seal_all,
    utf8_bytes,
    with_content_type,
)


class JsonText(str):
    """The compact JSON text of a value that is no text. Inside other text it is inserted as it is."""

    __slots__ = ()


class PayloadTooLarge(HooklineError):
    """The event's values would add too much to a payload, by itself or together with the event's other payloads."""

    @classmethod
    def alone(cls, inserted_bytes: int) -> PayloadTooLarge:
        """The payload repeats large values."""
        limit = f"at most {MAX_INSERTED_BYTES} are accepted: name large metadata fewer times in it"
        return cls(f"the payload would insert {inserted_bytes} bytes of event values, which is too large; {limit}")

    @classmethod
    def among_others(cls, limit_bytes: int) -> PayloadTooLarge:
        """The other payloads of the same event have taken what there is."""
        remedy = "have fewer automations send its metadata, or less of it"
        return cls(f"the payload is too large: all payloads of one event may be {limit_bytes} bytes together; {remedy}")


class Way(Enum):
    """How a variable's value is written into its place."""

    TEXT = "inside a JSON string"
    VALUE = "as a JSON value"
    FORM = "in a form"
    FORM_TEXT = "inside a JSON string in a form"
    FORM_VALUE = "as a JSON value in a form"
    PLAIN = "in plain text"


class Slot(NamedTuple):
    """The place of a variable."""

    name: str
    way: Way
    default: str | None = None
    """What stands there where the variable has no value, or a blank one."""


@dataclass(frozen=True, slots=True)
class Template:
    """An accepted payload. `render` fills in the `variables`, `open_payload` the `secrets`, `ACCESS_TOKEN` included."""

    variables: frozenset[str]
    secrets: frozenset[str]
    asked: tuple[str, ...]
    """The variables that are found only for who asks: those of `ADDED`, and keys of objects."""
    required: tuple[str, ...]
    """The variables that have a place without a default."""
    _parts: tuple[str, ...] = field(repr=False)
    """Literals of the sealed text, with an empty place for a variable between each two."""
    _slots: tuple[Slot, ...] = field(repr=False)
    """The variable of each empty place."""
    _names: tuple[str, ...] = field(repr=False)
    """The variables of the places, in their order, where all are inside JSON strings without a default; else none."""
    _typed: tuple[int, ...] = field(repr=False)
    """The places of JSON values."""
    content_type: str = JSON

    @classmethod
    def of(
        cls, parts: tuple[str, ...], slots: tuple[Slot, ...], secrets: frozenset[str], content_type: str
    ) -> Template:
        """The template of these literals and places."""
        names = frozenset(slot.name for slot in slots)
        is_plain = all(slot.way is Way.TEXT and slot.default is None for slot in slots)
        return cls(
            variables=names,
            secrets=secrets,
            asked=tuple(sorted(name for name in names if name in ADDED or object_key(name) is not None)),
            required=tuple(dict.fromkeys(slot.name for slot in slots if slot.default is None)),
            _parts=(with_content_type(parts[0], content_type), *parts[1:]),
            _slots=slots,
            _names=tuple(slot.name for slot in slots) if is_plain else (),
            _typed=tuple(place for place, slot in enumerate(slots) if slot.way is Way.VALUE),
            content_type=content_type,
        )

    def render(self, values: Mapping[str, str]) -> str:
        """The sealed payload of one delivery; a variable without a value renders blank, or null as a JSON value.

        Keys that differ in the template but render equal stay two members of the JSON text; most parsers keep the last.

        Raises:
            PayloadTooLarge: when it names large values several times, since an event is at most 1 MiB itself.
        """
        if not self._slots:
            return self._parts[0]
        if self._names:
            return self._render_texts(values)
        found = self._found(values)
        if (inserted := _bytes_of(found)) > MAX_INSERTED_BYTES:
            raise PayloadTooLarge.alone(inserted)
        parts = list(self._parts)
        parts[1::2] = self._written(found) if is_json(self.content_type) else _each_written(self._slots, found)
        return "".join(parts)

    def _render_texts(self, values: Mapping[str, str]) -> str:
        """As `render`: the usual case of places in strings, for which nothing is asked twice."""
        get = values.get
        texts = [get(name, "") for name in self._names]
        chars = sum(map(len, texts))
        if 4 * chars > MAX_INSERTED_BYTES and (inserted := sum(map(utf8_bytes, texts))) > MAX_INSERTED_BYTES:
            raise PayloadTooLarge.alone(inserted)
        parts = list(self._parts)
        parts[1::2] = seal_all(texts)
        return "".join(parts)

    def unfilled(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """The variables that have no value here, and a place without a default."""
        return tuple(name for name in self.required if name not in values)

    @property
    def literal_chars(self) -> int:
        """How long it is without what events bring into it."""
        return sum(map(len, self._parts))

    @property
    def large_places(self) -> int:
        """How many places it has for values that may be large, or long; all others are short."""
        return sum(
            slot.name in LARGE or slot.name in LENGTHY or object_key(slot.name) is not None for slot in self._slots
        )

    def least_bytes(self, values: Mapping[str, str]) -> int:
        """How long the payload is at least, without making it."""
        return _bytes_of(self._found(values))

    def _found(self, values: Mapping[str, str]) -> list[str | None]:
        get = values.get
        return [value if (value := get(name)) or default is None else default for name, _way, default in self._slots]

    def _written(self, found: list[str | None]) -> list[str]:
        """The values as JSON: all that is text in one call."""
        texts = [value or "" for value in found]
        for place in self._typed:
            if type(found[place]) is JsonText:
                texts[place] = ""
        written = seal_all(texts)
        for place in self._typed:
            value = found[place]
            written[place] = f'"{written[place]}"' if type(value) is str else _json_value(value).replace("$", "$$")
        return written


def _each_written(slots: tuple[Slot, ...], found: list[str | None]) -> list[str]:
    return [_WAYS[slot.way](value) for slot, value in zip(slots, found, strict=True)]


def _json_value(value: str | None) -> str:
    if value is None:
        return "null"
    return str(value) if type(value) is JsonText else f'"{escape_json(value)}"'


# In a form no `$` is left to be doubled.
_WAYS: Final[Mapping[Way, Callable[[str | None], str]]] = {
    Way.FORM: lambda value: escape_form(as_unicode(value or "")),
    Way.FORM_TEXT: lambda value: escape_form(escape_json(value or "")),
    Way.FORM_VALUE: lambda value: escape_form(_json_value(value)),
    Way.PLAIN: lambda value: one_line(as_unicode(value or "")).replace("$", "$$"),
}


def _bytes_of(texts: list[str | None]) -> int:
    """How long they are in UTF-8, or less where they are short enough in any case."""
    chars = sum([len(text) for text in texts if text])
    return chars if 4 * chars <= MAX_INSERTED_BYTES else sum(utf8_bytes(text) for text in texts if text)


DEFAULT_ASKED: Final = tuple(name for name in VARIABLES if name in ADDED and name not in LARGE)
"""The variables that the default payload asks for, besides those that need not be asked for."""


def default_payload(
    values: Mapping[str, str], *, content_type: str = JSON, types: PayloadTypes = PayloadTypes.TEXT
) -> str:
    """The sealed payload of an action that defines none: an object of each short variable that has a value.

    With values as text it has W&B's variables and those that Hookline first had, and no later one, as it always did.
    """
    typed = types is PayloadTypes.JSON
    names = [name for name in VARIABLES if name not in LARGE and (typed or name not in ADDED) and values.get(name)]
    if content_type == FORM:
        form = "&".join(f"{escape_form(name)}={escape_form(as_unicode(values[name]))}" for name in names)
        return with_content_type(form, content_type)
    if typed:
        text = ",".join(f'"{name}":{_json_value(values[name])}' for name in names)
        return with_content_type("{" + text.replace("$", "$$") + "}", content_type)
    text = orjson.dumps({name: as_unicode(values[name]) for name in names}).decode()
    return with_content_type(text.replace("$", "$$"), content_type)
