"""Payload templates: parsed when an automation is compiled, rendered for each delivery, opened for each attempt.

A delivery is stored without secrets, so rendering has two steps. `Template.render` fills in the event's values and
gives the *sealed* payload: JSON text in which every literal `$` is doubled and each secret is still a slot `${NAME}`.
Read from the left, a `$` there begins either `$$` or a slot, so that no event value can forge one. `open_payload`
then inserts the secrets and undoes the doubling. Sealed text is stored as text: a JSON column would rewrite it.
This module must not evaluate anything inside a payload, and must not put a secret's value anywhere but in the body.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import orjson

from shared.domain.errors import FieldError, HooklineError, InvalidDefinition, Loc
from shared.domain.payloads.sealed import (
    ACCESS_TOKEN,
    MAX_INSERTED_BYTES,
    as_unicode,
    escape_json,
    seal_all,
    utf8_bytes,
)

MAX_TEMPLATE_BYTES = 256 * 1024
MAX_SECRET_SLOTS = 100
MAX_VARIABLE_SLOTS = 1000
"""Each place may be filled with a text of up to an event's size; `sealed.MAX_INSERTED_BYTES` bounds all of them."""
MAX_VALUES = 10_000
"""How many values a payload may have, members of lists and objects included."""
MAX_DEPTH = 64
MAX_FAULTS = 20
"""The faults that one answer names; a payload that was made badly usually has the same one everywhere."""

METADATA_PREFIX = "artifact_metadata."

VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        "project_name": "the project that owns what happened",
        "entity_name": "the entity that owns what happened",
        "event_author": "who did it",
        "event_type": "the event's type",
        "alias": "the alias that was added; blank on other events",
        "tag": "the tag that was added or removed; blank on other events",
        "artifact_collection_name": "the collection's name",
        "artifact_version": "wandb-artifact://_id/<artifact id>",
        "artifact_version_string": "<entity>/<project>/<collection>:<alias, else version>",
        "run_id": "the run's id",
        "run_name": "the run's name",
        "run_state": "the state that the run entered",
        "metric_name": "the metric whose condition held",
        "metric_value": "the metric's newest value",
        "metric_threshold": "what the metric was compared with",
        "webhook_name": "the name of the webhook that a system event is about",
        "webhook_id": "its id",
        "automation_name": "the name of the automation that a notice is about",
        "automation_id": "its id",
        "reason": "why it was disabled, not matched, its circuit opened, or the delivery became a dead letter",
        "dead_letter_id": "the id of the delivery that became a dead letter",
        "dead_letter_automation": "the name of the automation that had fired it",
        "dead_letter_event_type": "the type of the event that it was about",
        "dead_letter_event_id": "the id of that event",
        "event_id": "the event's id",
        "event_time": "when it happened (RFC 3339)",
        "delivery_id": "the delivery's id, the same on every attempt",
    }
)
"""The meaning of each variable; `artifact_metadata.<KEY>`, `ACCESS_TOKEN` and secrets come in addition."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LOOKS_LIKE_A_NAME = re.compile(r"(?=.{1,40}$)(?:[a-z]+(?:_[a-z]+)*|[A-Z]+(?:_[A-Z]+)*)(?:_?[0-9]{1,2})?")
"""An unknown name of this form is repeated in the refusal. Any other may be a secret itself, written where its name
belongs, and refusals get into logs."""
_DOLLAR = re.compile(r"\$(?:(?P<literal>\$)|(?P<bare>[A-Za-z_][A-Za-z0-9_]*)|\{(?:(?P<braced>[^${}]*)\})?)")


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


@dataclass(frozen=True, slots=True)
class Template:
    """An accepted payload. `render` fills in the `variables`, `open_payload` the `secrets`, `ACCESS_TOKEN` included."""

    variables: frozenset[str]
    secrets: frozenset[str]
    metadata: tuple[str, ...]
    """The keys of an artifact's metadata among the variables."""
    _parts: tuple[str, ...] = field(repr=False)
    """Literals of the sealed text, with an empty place for a variable between each two."""
    _slots: tuple[str, ...] = field(repr=False)
    """The variable of each empty place."""

    def render(self, values: Mapping[str, str]) -> str:
        """The sealed payload of one delivery; a variable without a value renders blank.

        Keys that differ in the template but render equal stay two members of the JSON text; most parsers keep the last.

        Raises:
            PayloadTooLarge: when it names large values several times, since an event is at most 1 MiB itself.
        """
        if not self._slots:
            return self._parts[0]
        get = values.get
        texts = [get(name, "") for name in self._slots]
        if (inserted := _bytes_of(texts)) > MAX_INSERTED_BYTES:
            raise PayloadTooLarge.alone(inserted)
        parts = list(self._parts)
        parts[1::2] = seal_all(texts)
        return "".join(parts)

    @property
    def literal_chars(self) -> int:
        """How long it is without what events bring into it."""
        return sum(map(len, self._parts))

    @property
    def metadata_places(self) -> int:
        """How many places values of an artifact's metadata have in it; all other values are short."""
        return sum(name.startswith(METADATA_PREFIX) for name in self._slots)

    def least_bytes(self, values: Mapping[str, str]) -> int:
        """How long the payload is at least, without making it."""
        get = values.get
        return _bytes_of([get(name, "") for name in self._slots])


def _bytes_of(texts: list[str]) -> int:
    """How long they are in UTF-8, or less where they are short enough in any case."""
    chars = sum(map(len, texts))
    return chars if 4 * chars <= MAX_INSERTED_BYTES else sum(map(utf8_bytes, texts))


def parse_payload(payload: object, *, secrets: Collection[str], has_access_token: bool) -> Template:
    """Parse an action's payload, a JSON object, into literals and slots.

    `${name}` and `$NAME` (the longest name) stand for a value inside any string, keys included; `$$` is a literal `$`,
    and so is a `$` before anything but a name or a brace. `secrets` are the names that the webhook was granted; where
    one is also a variable's name, the variable is meant.

    Raises:
        InvalidDefinition: with the path inside the payload and what is accepted there (`MAX_FAULTS` at most): for an
            unknown variable, a secret that was not granted, a value that is not JSON, more than 64 levels; and for
            more than 256 KiB of JSON text, 10,000 values, 1,000 places of variables or 100 of secrets.
    """
    if not isinstance(payload, dict):
        raise InvalidDefinition.at((), "must be a JSON object")
    cutter = _Cutter(secrets=secrets, has_access_token=has_access_token)
    cutter.cut(payload, ())
    return cutter.template()


def available_variables(*, secrets: Collection[str], has_access_token: bool) -> tuple[str, ...]:
    """The names that a payload may use between `${` and `}`."""
    granted = {name for name in secrets if name not in VARIABLES and _NAME.fullmatch(name)}
    token = {ACCESS_TOKEN} if has_access_token else set()
    return (*VARIABLES, f"{METADATA_PREFIX}<KEY>", *sorted(granted | token))


def default_payload(values: Mapping[str, str]) -> str:
    """The sealed payload of an action that defines none: each of `VARIABLES` that has a value, nothing else."""
    members = {name: as_unicode(value) for name in VARIABLES if (value := values.get(name))}
    return orjson.dumps(members).decode().replace("$", "$$")


class _Cutter:
    """Walks a payload once and writes its sealed text, with a gap for each variable that an event fills."""

    def __init__(self, *, secrets: Collection[str], has_access_token: bool) -> None:
        self._available = available_variables(secrets=secrets, has_access_token=has_access_token)
        self._secrets: list[str] = []
        self._slots: list[str] = []
        self._parts: list[str] = []
        self._literal: list[str] = []
        self._bytes = 0
        self._values = 0
        self._faults: list[FieldError] = []

    def template(self) -> Template:
        if self._faults:
            raise InvalidDefinition(*self._faults)
        parts = (*self._parts, "".join(self._literal))
        slots = frozenset(self._slots)
        keys = sorted(name.removeprefix(METADATA_PREFIX) for name in slots if name.startswith(METADATA_PREFIX))
        return Template(slots, frozenset(self._secrets), tuple(keys), parts, tuple(self._slots))

    def cut(self, value: object, loc: Loc) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            raise InvalidDefinition.at(
                (), f"must have at most {MAX_VALUES:,} values, members of lists and objects included"
            )
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

    def _object(self, members: dict[object, object], loc: Loc) -> None:
        self._write("{")
        for position, (key, value) in enumerate(members.items()):
            self._write("," if position else "")
            if isinstance(key, str):
                inner = (*loc, as_unicode(key))
                self._string(as_unicode(key), inner)
                self._write(":")
                self.cut(value, inner)
            else:
                self._fault(loc, f"has a key of type {type(key).__name__}: keys must be strings, put it in quotes")
        self._write("}")

    def _array(self, items: list[object] | tuple[object, ...], loc: Loc) -> None:
        self._write("[")
        for position, value in enumerate(items):
            self._write("," if position else "")
            self.cut(value, (*loc, position))
        self._write("]")

    def _scalar(self, value: object, loc: Loc) -> None:
        if value is not None and not isinstance(value, bool | int | float):
            self._fault(loc, "must be an object, an array, a string, a number, true, false or null")
            return
        try:
            self._write(json.dumps(value, allow_nan=False))
        except ValueError:  # Python also declines to write integers of thousands of digits
            self._fault(loc, "must be a finite number that JSON can carry: not NaN, not Infinity")

    def _string(self, text: str, loc: Loc) -> None:
        self._write('"')
        end = 0
        for match in _DOLLAR.finditer(text):
            self._text(text[end : match.start()])
            self._dollar(match, loc)
            end = match.end()
        self._text(text[end:])
        self._write('"')

    def _text(self, text: str) -> None:
        escaped = escape_json(text)
        self._count(escaped)
        self._literal.append(escaped.replace("$", "$$"))

    def _dollar(self, match: re.Match[str], loc: Loc) -> None:
        name = match["bare"] or match["braced"]
        if match["literal"]:
            self._write("$$")
        elif name is None:
            self._fault(loc, "`${` begins a variable and must be closed: `${name}`; `$$` writes a literal `$`")
        elif name in VARIABLES or (name.startswith(METADATA_PREFIX) and name != METADATA_PREFIX):
            self._count(match[0])
            self._parts += ("".join(self._literal), "")
            self._literal.clear()
            self._slots.append(name)
            if len(self._slots) > MAX_VARIABLE_SLOTS:
                raise InvalidDefinition.at(loc, f"a payload names variables at most {MAX_VARIABLE_SLOTS:,} times")
        elif name in self._available:  # and so a secret
            self._write("${" + name + "}")
            self._secrets.append(name)
            if len(self._secrets) > MAX_SECRET_SLOTS:
                raise InvalidDefinition.at(loc, f"a payload names secrets at most {MAX_SECRET_SLOTS} times")
        else:
            available = ", ".join(f"${{{known}}}" for known in self._available)
            what = match[0] if _LOOKS_LIKE_A_NAME.fullmatch(name) else f"the variable at character {match.start() + 1}"
            self._fault(loc, f"{what} is not available; available: {available}; `$$` writes a literal `$`")

    def _write(self, text: str) -> None:
        self._count(text)
        self._literal.append(text)

    def _count(self, text: str) -> None:
        """Stops early, so that shared or endless structures cannot grow."""
        self._bytes += len(text.encode())
        if self._bytes > MAX_TEMPLATE_BYTES:
            raise InvalidDefinition.at((), f"must be at most {MAX_TEMPLATE_BYTES} bytes of JSON text")

    def _fault(self, loc: Loc, msg: str) -> None:
        self._faults.append(FieldError(loc, msg))
        if len(self._faults) >= MAX_FAULTS:
            raise InvalidDefinition(*self._faults)
