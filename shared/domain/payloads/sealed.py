"""Payloads whose secrets are still sealed: opening them for a request, masking them for people.

A sealed payload is the text of a request's body in which every literal `$` is doubled and each secret is still a slot:
`${NAME}` in a JSON string, `${form:NAME}` in a form, `${form-json:NAME}` in a JSON string in a form, `${plain:NAME}` in
plain text. A body that is not `application/json` has a line before it, `@` and its content type, which no JSON text
begins with. Read from the left, a `$` begins either `$$` or a slot, so that no event value can forge one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import orjson

from shared.domain.errors import HooklineError
from shared.domain.json_text import read_json
from shared.domain.payloads.content_types import JSON, escape_form, is_json

MAX_INSERTED_BYTES = 1 << 20
"""The most that event values may add to one payload, in bytes of UTF-8: as much as an event may have."""
MAX_SECRET_CHARS = 1 << 20
ACCESS_TOKEN = "ACCESS_TOKEN"  # noqa: S105 - the variable's name


class SlotKind(StrEnum):
    """Where a secret's slot is, which decides how its value is escaped."""

    JSON = ""
    FORM = "form:"
    FORM_JSON = "form-json:"
    PLAIN = "plain:"


_SEALED = re.compile(r"\$(?:\$|\{(form:|form-json:|plain:|)([A-Za-z_][A-Za-z0-9_]*)\})")


class SecretUnavailable(HooklineError):
    """A secret that the payload names has no value now: store it again, or grant it to the webhook, then replay."""

    def __init__(self, name: str) -> None:
        super().__init__(f"secret {name!r} is not available: store it again, or grant it to the webhook, then replay")
        self.name = name


class SecretsTooLarge(HooklineError):
    """A payload's secrets are more than `MAX_SECRET_CHARS` in all: many such bodies are made at the same time."""

    def __init__(self) -> None:
        super().__init__(
            f"the payload's secrets are more than {MAX_SECRET_CHARS} characters in total, as written in it"
        )


def with_content_type(text: str, content_type: str) -> str:
    """A sealed payload of this content type."""
    return text if content_type == JSON else f"@{content_type}\n{text}"


def content_type_of(sealed: str) -> str:
    """The content type of a sealed payload."""
    return sealed[1 : sealed.index("\n")] if sealed.startswith("@") else JSON


def _text_of(sealed: str) -> str:
    return sealed.partition("\n")[2] if sealed.startswith("@") else sealed


def open_payload(sealed: str, secrets: Mapping[str, str]) -> bytes:
    """The request body (UTF-8) of a sealed payload; `secrets` maps each of `sealed_secrets` to its value.

    Raises:
        SecretUnavailable: naming the first secret that is missing.
        SecretsTooLarge: before more than `MAX_SECRET_CHARS` are inserted.
    """
    text = _text_of(sealed)
    if "$" not in text:
        return text.encode()
    room = MAX_SECRET_CHARS

    def insert(match: re.Match[str]) -> str:
        nonlocal room
        name = match[2]
        if name is None:
            return "$"
        if name not in secrets:
            raise SecretUnavailable(name)
        escaped = _ESCAPES[match[1]](secrets[name])
        if (room := room - len(escaped)) < 0:
            raise SecretsTooLarge
        return escaped

    return _SEALED.sub(insert, text).encode()


def mask_payload(sealed: str) -> str:
    """The body as people may see it, with `***NAME***` in place of each secret: valid JSON where it is JSON."""
    return _SEALED.sub(lambda match: "$" if match[2] is None else f"***{match[2]}***", _text_of(sealed))


def shown_payload(sealed: str) -> Any:
    """The body as programs get it, masked: the value of its JSON; the text of a form or plain text."""
    masked = mask_payload(sealed)
    return read_json(masked) if is_json(content_type_of(sealed)) else masked


def sealed_secrets(sealed: str) -> frozenset[str]:
    """The names of the secrets that a sealed payload still needs."""
    return frozenset(match[2] for match in _SEALED.finditer(sealed) if match[2] is not None)


def utf8_bytes(text: str) -> int:
    """How long a text is in UTF-8, without making that where it is ASCII."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def as_unicode(text: str) -> str:
    """The text with pairs of surrogates joined, and lone ones, which UTF-8 cannot carry, replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def escape_json(text: str) -> str:
    """A JSON string's content."""
    try:
        return orjson.dumps(text)[1:-1].decode()
    except orjson.JSONEncodeError:
        return orjson.dumps(as_unicode(text))[1:-1].decode()


_ESCAPES: Mapping[str, Callable[[str], str]] = {
    SlotKind.JSON: escape_json,
    SlotKind.FORM: lambda value: escape_form(as_unicode(value)),
    SlotKind.FORM_JSON: lambda value: escape_form(escape_json(value)),
    # As it is: it is nobody's but the administrator's, and an answer that repeats it has to be recognized.
    SlotKind.PLAIN: as_unicode,
}


def seal_all(texts: list[str]) -> list[str]:
    """Each text escaped, its `$` doubled. One call does all: indented items are lines, and no string holds a break."""
    try:
        items = orjson.dumps(texts, option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONEncodeError:
        items = orjson.dumps([as_unicode(text) for text in texts], option=orjson.OPT_INDENT_2).decode()
    if "$" in items:
        items = items.replace("$", "$$")
    return items[5:-3].split('",\n  "')
