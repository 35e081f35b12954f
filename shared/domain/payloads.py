"""Payload templates: cut once when an automation is compiled, rendered once per delivery, opened once per attempt.

A delivery is stored without secrets, so rendering has two steps. `Template.render` fills in what the event says and
gives the *sealed* payload: JSON text in which every literal `$` is doubled and each secret is still a slot `${NAME}`.
Read from the left, a `$` there begins either `$$` or a slot, so that no event value can forge one. `open_payload`
then inserts the secrets and undoes the doubling. Sealed text is to be kept as text: a database's JSON type would reorder
it. This module must not evaluate anything inside a payload, and must not put a secret's value anywhere but in the body.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import orjson

from shared.domain.errors import FieldError, HooklineError, InvalidDefinition, Loc

MAX_TEMPLATE_BYTES = 256 * 1024
MAX_SEALED_CHARS = 4 << 20
MAX_DEPTH = 64
MAX_FAULTS = 20

ACCESS_TOKEN = "ACCESS_TOKEN"  # noqa: S105 - the variable's name
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
        "event_id": "the event's id",
        "event_time": "when it happened (RFC 3339)",
        "delivery_id": "the delivery's id, the same on every attempt",
    }
)
"""Every variable that an event fills, and its meaning. Besides these there are `artifact_metadata.<KEY>` (a top-level
metadata value), `ACCESS_TOKEN` on a webhook that has one, and the secrets that the webhook was granted."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DOLLAR = re.compile(r"\$(?:(?P<literal>\$)|(?P<bare>[A-Za-z_][A-Za-z0-9_]*)|\{(?:(?P<braced>[^${}]*)\})?)")
_SEALED = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)\})")


class SecretUnavailable(HooklineError):
    """A secret that the payload names has no value now: store it again, or grant it to the webhook, then replay."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"secret {name!r} is not available: store it again, or grant it to the webhook, then replay the delivery"
        )
        self.name = name


class PayloadTooLarge(HooklineError):
    """A rendered payload exceeds `MAX_SEALED_CHARS`: name the large metadata value fewer times in the template."""

    def __init__(self, chars: int) -> None:
        super().__init__(
            f"the rendered payload has {chars} characters, the limit is {MAX_SEALED_CHARS}: "
            "name large metadata values fewer times in the payload"
        )


@dataclass(frozen=True, slots=True)
class Template:
    """A payload that was accepted; `parse_payload` makes it."""

    variables: frozenset[str]
    """What `render` fills in."""
    secrets: frozenset[str]
    """What `open_payload` fills in; `ACCESS_TOKEN` is one of them."""
    _parts: tuple[str, ...] = field(repr=False)
    """Literals of the sealed text, with an empty place for a variable between each two."""
    _slots: tuple[str, ...] = field(repr=False)
    """The variable of each empty place."""

    def render(self, values: Mapping[str, str]) -> str:
        """The sealed payload of one delivery; a variable without a value renders blank.

        Keys that differ in the template but render equal stay two members of the JSON text; most parsers keep the last.

        Raises:
            PayloadTooLarge: when the template repeats large values. One that names each variable once always fits,
                because an event is at most 1 MiB.
        """
        texts = {name: _seal(values.get(name, "")) for name in self.variables}
        parts = list(self._parts)
        parts[1::2] = [texts[name] for name in self._slots]
        if (chars := sum(map(len, parts))) > MAX_SEALED_CHARS:
            raise PayloadTooLarge(chars)
        return "".join(parts)


def parse_payload(payload: object, *, secrets: Collection[str], has_access_token: bool) -> Template:
    """Cuts an action's payload, a JSON object, into literals and slots.

    `${name}` and `$NAME` (the longest name) stand for a value inside any string, keys included; `$$` is a literal `$`,
    and so is a `$` before anything but a name or a brace. `secrets` are the names that the webhook was granted; where
    one is also a variable's name, the variable is meant.

    Raises:
        InvalidDefinition: with the path inside the payload and what is available there, for each unknown variable
            (`MAX_FAULTS` at most) and whatever is not JSON; over 256 KiB of JSON text; deeper than 64.
    """
    if not isinstance(payload, dict):
        raise InvalidDefinition.at((), "must be a JSON object")
    cutter = _Cutter(secrets=secrets, has_access_token=has_access_token)
    cutter.value(payload, ())
    return cutter.template()


def available_variables(*, secrets: Collection[str], has_access_token: bool) -> tuple[str, ...]:
    """The names that a payload may use, as they stand between `${` and `}`."""
    token = [ACCESS_TOKEN] if has_access_token and ACCESS_TOKEN not in secrets else []
    granted = (name for name in secrets if name not in VARIABLES and _NAME.fullmatch(name))
    return (*VARIABLES, f"{METADATA_PREFIX}<KEY>", *token, *sorted(granted))


def default_payload(values: Mapping[str, str]) -> str:
    """The sealed payload of an action that defines none: each of `VARIABLES` that has a value, no metadata, no secrets."""
    return "{" + ",".join(f'"{name}":"{_seal(values[name])}"' for name in VARIABLES if values.get(name)) + "}"


def open_payload(sealed: str, secrets: Mapping[str, str]) -> bytes:
    """The request body (UTF-8 JSON) of a sealed payload; `secrets` maps each of `sealed_secrets` to its value.

    Raises:
        SecretUnavailable: naming the first secret that is missing.
    """
    if "$" not in sealed:
        return sealed.encode()

    def insert(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "$"
        if name not in secrets:
            raise SecretUnavailable(name)
        return _escape(secrets[name])

    return _SEALED.sub(insert, sealed).encode()


def mask_payload(sealed: str) -> str:
    """The payload as people may see it: valid JSON, with `***NAME***` in place of each secret."""
    return _SEALED.sub(lambda match: "$" if match[1] is None else f"***{match[1]}***", sealed)


def sealed_secrets(sealed: str) -> frozenset[str]:
    """The names of the secrets that a sealed payload still needs."""
    return frozenset(match[1] for match in _SEALED.finditer(sealed) if match[1] is not None)


def _escape(text: str) -> str:
    """A JSON string's content; a lone surrogate, which UTF-8 cannot carry, becomes U+FFFD."""
    try:
        return orjson.dumps(text)[1:-1].decode()
    except orjson.JSONEncodeError:
        return orjson.dumps(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))[1:-1].decode()


def _seal(text: str) -> str:
    escaped = _escape(text)
    return escaped.replace("$", "$$") if "$" in escaped else escaped


class _Cutter:
    """Walks a payload once and writes its sealed text, with a gap for each variable that an event fills."""

    def __init__(self, *, secrets: Collection[str], has_access_token: bool) -> None:
        self._available = available_variables(secrets=secrets, has_access_token=has_access_token)
        self._sealed_names = frozenset(self._available) - VARIABLES.keys()
        self._secrets: set[str] = set()
        self._slots: list[str] = []
        self._parts: list[str] = []
        self._literal: list[str] = []
        self._bytes = 0
        self._faults: list[FieldError] = []

    def template(self) -> Template:
        if self._faults:
            raise InvalidDefinition(*self._faults)
        parts = (*self._parts, "".join(self._literal))
        return Template(frozenset(self._slots), frozenset(self._secrets), parts, tuple(self._slots))

    def value(self, value: object, loc: Loc) -> None:
        if len(loc) >= MAX_DEPTH and isinstance(value, dict | list | tuple):
            self._refuse_all(loc, f"is nested too deep; at most {MAX_DEPTH} levels are accepted")
        match value:
            case dict():
                self._object(value, loc)
            case list() | tuple():
                self._array(value, loc)
            case str():
                self._string(value, loc)
            case _:
                self._scalar(value, loc)

    def _object(self, members: dict[object, object], loc: Loc) -> None:
        self._write("{")
        for comma, (key, value) in zip(_commas(), members.items(), strict=False):
            self._write(comma)
            if isinstance(key, str):
                self._string(key, (*loc, key))
                self._write(":")
                self.value(value, (*loc, key))
            else:
                self._fault((*loc, str(key)), "must be a string, as every key of a JSON object; put it in quotes")
        self._write("}")

    def _array(self, items: list[object] | tuple[object, ...], loc: Loc) -> None:
        self._write("[")
        for comma, (index, value) in zip(_commas(), enumerate(items), strict=False):
            self._write(comma)
            self.value(value, (*loc, index))
        self._write("]")

    def _scalar(self, value: object, loc: Loc) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            self._fault(loc, "must be a finite number; JSON has no NaN and no Infinity")
        elif value is None or isinstance(value, bool | int | float):
            self._write(json.dumps(value))
        else:
            self._fault(loc, "must be a JSON value: an object, an array, a string, a number, true, false or null")

    def _string(self, text: str, loc: Loc) -> None:
        self._write('"')
        end = 0
        for match in _DOLLAR.finditer(text):
            self._text(text[end : match.start()])
            end = match.end()
            if match["literal"]:
                self._write("$$")
            else:
                self._slot(match["bare"] or match["braced"], match[0], loc)
        self._text(text[end:])
        self._write('"')

    def _text(self, text: str) -> None:
        self._write(_seal(text))

    def _slot(self, name: str | None, written: str, loc: Loc) -> None:
        if name is None:
            self._fault(loc, "`${` begins a variable and must be closed: `${name}`; `$$` writes a literal `$`")
        elif name in VARIABLES or (name.startswith(METADATA_PREFIX) and name != METADATA_PREFIX):
            self._parts += ("".join(self._literal), "")
            self._literal = []
            self._slots.append(name)
        elif name in self._sealed_names and _NAME.fullmatch(name):
            self._write("${" + name + "}")
            self._secrets.add(name)
        else:
            available = ", ".join(f"${{{known}}}" for known in self._available)
            self._fault(loc, f"{written} is not available; available: {available}; `$$` writes a literal `$`")
        self._count(written)

    def _write(self, sealed: str) -> None:
        self._literal.append(sealed)
        self._count(sealed)

    def _count(self, text: str) -> None: ...
