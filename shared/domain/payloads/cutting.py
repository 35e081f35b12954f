"""Cutting payloads: from what an action defines to a template of literals and places.

Every string of a payload is looked through for `${name}` and `$NAME`, keys included. What an automation may name is
checked here, so that nothing unknown is left for rendering.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from shared.domain.errors import FieldError, InvalidDefinition, Loc
from shared.domain.events.types import EventType
from shared.domain.payloads.content_types import FORM, JSON, PLAIN, PayloadTypes, escape_form
from shared.domain.payloads.names import (
    ADDED,
    OBJECTS,
    available_names,
    granted_names,
    is_of,
    is_variable,
    nearest,
    object_key,
)
from shared.domain.payloads.sealed import SlotKind, as_unicode, escape_json
from shared.domain.payloads.templates import Slot, Template, Way

MAX_TEMPLATE_BYTES = 256 * 1024
MAX_SECRET_SLOTS = 100
MAX_VARIABLE_SLOTS = 1000
"""Each place may be filled with a text of up to an event's size; `sealed.MAX_INSERTED_BYTES` bounds all of them."""
MAX_VALUES = 10_000
"""How many values a payload may have, members of lists and objects included."""
MAX_DEPTH = 64
MAX_FAULTS = 20
"""The faults that one answer names; a payload that was made badly usually has the same one everywhere."""

_LOOKS_LIKE_A_NAME = re.compile(r"(?=.{1,40}$)(?:[a-z]+(?:_[a-z]+)*|[A-Z]+(?:_[A-Z]+)*)(?:_?[0-9]{1,2})?")
"""An unknown name of this form is repeated in the refusal. Any other may be a secret itself, written where its name
belongs, and refusals get into logs."""
_DOLLAR = re.compile(r"\$(?:(?P<literal>\$)|(?P<bare>[A-Za-z_][A-Za-z0-9_]*)|\{(?:(?P<braced>[^${}]*)\})?)")

_UNCLOSED = "`${` begins a variable and must be closed: `${name}`; `$$` writes a literal `$`"
_DEFAULT_BEGINS = re.compile(r"[^${}]*?:-[^${}]*[${]")
_UNCLOSED_DEFAULT = "the text after `:-` takes no `$`, `{` or `}`, so no other variable: `${name:-text}`"


def parse_payload(
    payload: object,
    *,
    secrets: Collection[str],
    has_access_token: bool,
    event: EventType | None = None,
    types: PayloadTypes = PayloadTypes.TEXT,
    content_type: str = JSON,
) -> Template:
    """Parse an action's payload into literals and places.

    `${name}` and `$NAME` (the longest name) stand for a value inside any string, keys included; `${name:-text}` for the
    text where the variable has no value, or a blank one; `$$` is a literal `$`, and so is a `$` before anything but a
    name or a brace, and in a key a `$word` that is neither a variable nor a granted secret. `secrets` are the names
    that the webhook was granted; where one is also a variable's name, the variable is meant, unless it is one of
    `ADDED`.

    Args:
        payload: any JSON value; text, a number, true or false for plain text, an object for a form.
        secrets: the names that the webhook was granted.
        has_access_token: whether the webhook has an access token.
        event: the type of the automation's events; None where it is not known yet.
        types: whether a string that is one variable is replaced by its value with its type.
        content_type: of the request, as `parse_content_type` gives it.

    Raises:
        InvalidDefinition: with the path inside the payload and what is accepted there (`MAX_FAULTS` at most): for an
            unknown variable, a secret that was not granted, a value that is not JSON, more than 64 levels; and for
            more than 256 KiB of text, 10,000 values, 1,000 places of variables or 100 of secrets.
    """
    granted = granted_names(secrets, has_access_token=has_access_token)
    cutter = _Cutter(granted, event, types, content_type)
    cutter.cut_all(payload)
    return cutter.template()


@dataclass(frozen=True, slots=True)
class _Place:
    """How a string is written where it stands."""

    literal: Callable[[str], str]
    """Its own text; what is left of `$` is doubled then."""
    syntax: Callable[[str], str]
    """What surrounds it."""
    text: Way
    value: Way
    secret: SlotKind


_IN_JSON = _Place(escape_json, str, Way.TEXT, Way.VALUE, SlotKind.JSON)
_IN_FORM = _Place(escape_form, escape_form, Way.FORM, Way.FORM, SlotKind.FORM)
_IN_JSON_IN_FORM = _Place(
    lambda text: escape_form(escape_json(text)), escape_form, Way.FORM_TEXT, Way.FORM_VALUE, SlotKind.FORM_JSON
)
_IN_PLAIN = _Place(str, str, Way.PLAIN, Way.PLAIN, SlotKind.PLAIN)


class _Cutter:
    """Walks a payload once and writes its sealed text, with a gap for each variable that an event fills."""

    def __init__(
        self, granted: frozenset[str], event: EventType | None, types: PayloadTypes, content_type: str
    ) -> None:
        self._granted = granted
        self._event = event
        self._typed = types is PayloadTypes.JSON
        self._content_type = content_type
        self._place = _IN_JSON
        self._secrets: list[str] = []
        self._slots: list[Slot] = []
        self._parts: list[str] = []
        self._literal: list[str] = []
        self._bytes = 0
        self._values = 0
        self._faults: list[FieldError] = []

    def template(self) -> Template:
        if self._faults:
            raise InvalidDefinition(*self._faults)
        parts = (*self._parts, "".join(self._literal))
        return Template.of(parts, tuple(self._slots), frozenset(self._secrets), self._content_type)

    def cut_all(self, payload: object) -> None:
        if self._content_type == FORM:
            self._form(payload)
        elif self._content_type == PLAIN:
            self._plain(payload)
        else:
            self._cut(payload, ())

    def _plain(self, payload: object) -> None:
        self._place = _IN_PLAIN
        if isinstance(payload, str):
            self._chars(as_unicode(payload), ())
        elif isinstance(payload, bool | int | float):
            self._scalar(payload, ())
        else:
            self._fault((), f"must be text with the content type {PLAIN}")

    def _form(self, payload: object) -> None:
        """Members of a form. An object in one is JSON there; a list is the member several times (RFC 1866, 8.2.1)."""
        self._place = _IN_FORM
        if not isinstance(payload, dict):
            self._fault((), f"must be an object with the content type {FORM}: a member for each field of the form")
            return
        first = True
        for key, value in payload.items():
            loc = (as_unicode(key),) if isinstance(key, str) else ()
            repeated = isinstance(value, list | tuple)
            for position, item in enumerate(value if repeated else (value,)):
                self._write("" if first else "&")
                first = False
                if not self._key(key, loc):
                    break
                self._write("=")
                self._field(item, (*loc, position) if repeated else loc)

    def _field(self, value: object, loc: Loc) -> None:
        if isinstance(value, dict | list | tuple):
            self._place = _IN_JSON_IN_FORM
            self._cut(value, loc)
            self._place = _IN_FORM
            return
        self._count_value()
        if isinstance(value, str):
            self._chars(as_unicode(value), loc)
        elif value is not None:
            self._scalar(value, loc)

    def _cut(self, value: object, loc: Loc) -> None:
        self._count_value()
        if isinstance(value, str):
            self._string(as_unicode(value), loc)
        elif not isinstance(value, dict | list | tuple):
            self._scalar(value, loc)
        elif len(loc) >= MAX_DEPTH:
            self._fault(loc, f"is nested too deep: a payload has at most {MAX_DEPTH} levels")
        elif isinstance(value, dict):
            self._object(value, loc)
        else:
            self._array(value, loc)

    def _count_value(self) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            raise InvalidDefinition.at(
                (), f"must have at most {MAX_VALUES:,} values, members of lists and objects included"
            )

    def _object(self, members: dict[object, object], loc: Loc) -> None:
        self._syntax("{")
        for position, (key, value) in enumerate(members.items()):
            self._syntax("," if position else "")
            inner = (*loc, as_unicode(key)) if isinstance(key, str) else loc
            self._syntax('"' if isinstance(key, str) else "")
            if self._key(key, inner):
                self._syntax('":')
                self._cut(value, inner)
        self._syntax("}")

    def _key(self, key: object, loc: Loc) -> bool:
        if isinstance(key, str):
            self._chars(as_unicode(key), loc, is_key=True)
            return True
        self._fault(loc, f"has a key of type {type(key).__name__}: keys must be strings, put it in quotes")
        return False

    def _array(self, items: list[object] | tuple[object, ...], loc: Loc) -> None:
        self._syntax("[")
        for position, value in enumerate(items):
            self._syntax("," if position else "")
            self._cut(value, (*loc, position))
        self._syntax("]")

    def _scalar(self, value: object, loc: Loc) -> None:
        if value is not None and not isinstance(value, bool | int | float):
            self._fault(loc, "must be an object, an array, a string, a number, true, false or null")
            return
        try:
            self._syntax(json.dumps(value, allow_nan=False))
        except ValueError:  # Python also declines to write integers of thousands of digits
            self._fault(loc, "must be a finite number that JSON can carry: not NaN, not Infinity")

    def _string(self, text: str, loc: Loc) -> None:
        """A JSON string, or the value of the variable that is all there is in it."""
        whole = _DOLLAR.fullmatch(text) if self._typed else None
        if whole is not None and self._is_place_of_variable(whole):
            self._dollar(whole, loc, self._place.value, is_key=False)
            return
        self._syntax('"')
        self._chars(text, loc)
        self._syntax('"')

    def _is_place_of_variable(self, match: re.Match[str]) -> bool:
        name = _named(match)[0]
        return name is not None and is_variable(name) and name not in self._granted

    def _chars(self, text: str, loc: Loc, *, is_key: bool = False) -> None:
        end = 0
        for match in _DOLLAR.finditer(text):
            self._text(text[end : match.start()])
            self._dollar(match, loc, self._place.text, is_key=is_key)
            end = match.end()
        self._text(text[end:])

    def _text(self, text: str) -> None:
        literal = self._place.literal(text)
        self._count(literal)
        self._literal.append(literal.replace("$", "$$"))

    def _syntax(self, text: str) -> None:
        self._write(self._place.syntax(text))

    def _dollar(self, match: re.Match[str], loc: Loc, way: Way, *, is_key: bool) -> None:
        name, default = _named(match)
        if match["literal"]:
            self._text("$")
        elif name is None:
            self._fault(loc, _UNCLOSED_DEFAULT if _DEFAULT_BEGINS.match(match.string, match.end()) else _UNCLOSED)
        elif name in self._granted:
            self._secret(name, default, loc)
        elif is_key and match["bare"] and not (is_variable(name) and self._may_have(name)):
            self._text(match[0])  # such as `$schema`
        elif not is_variable(name):
            self._unknown(match, name, loc)
        elif not self._may_have(name):
            self._fault(loc, f"{self._event} events have no ${{{name}}}; available: {self._all_available()}")
        elif match["bare"] and name in OBJECTS:
            self._fault(loc, f"${name} is an object: write `${{{name}.<KEY>}}`, or `${{{name}}}` for all of it")
        else:
            self._variable(Slot(name, way, default), loc)

    def _may_have(self, name: str) -> bool:
        """Whether the automation's events can have a variable; those that always were may be named everywhere."""
        key = object_key(name)
        is_new = name in ADDED if key is None else key[0] != "artifact_metadata"
        return not is_new or is_of(self._event, name)

    def _variable(self, slot: Slot, loc: Loc) -> None:
        self._count(slot.name + (slot.default or ""))
        self._parts += ("".join(self._literal), "")
        self._literal.clear()
        self._slots.append(slot)
        if len(self._slots) > MAX_VARIABLE_SLOTS:
            raise InvalidDefinition.at(loc, f"a payload names variables at most {MAX_VARIABLE_SLOTS:,} times")

    def _secret(self, name: str, default: str | None, loc: Loc) -> None:
        if default is not None:
            self._fault(loc, f"{name} is a secret and has a value: leave out `:-` and what follows")
        self._write("${" + self._place.secret + name + "}")
        self._secrets.append(name)
        if len(self._secrets) > MAX_SECRET_SLOTS:
            raise InvalidDefinition.at(loc, f"a payload names secrets at most {MAX_SECRET_SLOTS} times")

    def _unknown(self, match: re.Match[str], name: str, loc: Loc) -> None:
        """Refuse a name, and say what is near it. A name that may be a secret itself is not repeated."""
        known = available_names(self._event, self._granted)
        near: list[str] = []
        what = f"the variable at character {match.start() + 1}"
        if _LOOKS_LIKE_A_NAME.fullmatch(name):
            what = f"${name}" if match["bare"] else f"${{{name}}}"
            near = nearest(name, known)
        elif is_variable(name.partition(":")[0]):
            what += " is no name: `${name:-text}` gives a default, and no other form is known; it"
        elif _LOOKS_LIKE_A_NAME.fullmatch(name.partition(".")[0]):
            near = nearest(name.partition(".")[0], known)
        meant = f"; did you mean {', '.join(f'${{{one}}}' for one in near)}?" if near else ""
        self._fault(
            loc, f"{what} is not available{meant}; available: {self._all_available()}; `$$` writes a literal `$`"
        )

    def _all_available(self) -> str:
        return ", ".join(f"${{{known}}}" for known in available_names(self._event, self._granted))

    def _write(self, text: str) -> None:
        self._count(text)
        self._literal.append(text)

    def _count(self, text: str) -> None:
        """Stops early, so that shared or endless structures cannot grow."""
        self._bytes += len(text.encode())
        if self._bytes > MAX_TEMPLATE_BYTES:
            raise InvalidDefinition.at((), f"must be at most {MAX_TEMPLATE_BYTES} bytes as text")

    def _fault(self, loc: Loc, msg: str) -> None:
        self._faults.append(FieldError(loc, msg))
        if len(self._faults) >= MAX_FAULTS:
            raise InvalidDefinition(*self._faults)


def _named(match: re.Match[str]) -> tuple[str | None, str | None]:
    """The name of a place, and the default that stands there after `:-`; no name in `$$` and in an open `${`."""
    if match["bare"]:
        return match["bare"], None
    if match["braced"] is None:
        return None, None
    name, given, default = match["braced"].partition(":-")
    return name, default if given else None
