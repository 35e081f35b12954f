"""Payloads whose secrets are still sealed: opening them for a request, masking them for people."""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson

from shared.domain.errors import HooklineError

MAX_INSERTED_BYTES = 1 << 20
"""The most that event values may add to one payload, in bytes of UTF-8: as much as an event may have."""
MAX_SECRET_CHARS = 1 << 20
ACCESS_TOKEN = "ACCESS_TOKEN"  # noqa: S105 - the variable's name


_SEALED = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)\})")


class SecretUnavailable(HooklineError):
    """A secret that the payload names has no value now: store it again, or grant it to the webhook, then replay."""

    def __init__(self, name: str) -> None:
        super().__init__(f"secret {name!r} is not available: store it again, or grant it to the webhook, then replay")
        self.name = name


class SecretsTooLarge(HooklineError):
    """A payload's secrets are more than `MAX_SECRET_CHARS` in all: many such bodies are made at the same time."""

    def __init__(self) -> None:
        super().__init__(f"the payload's secrets are more than {MAX_SECRET_CHARS} characters of JSON in total")


def open_payload(sealed: str, secrets: Mapping[str, str]) -> bytes:
    """The request body (UTF-8 JSON) of a sealed payload; `secrets` maps each of `sealed_secrets` to its value.

    Raises:
        SecretUnavailable: naming the first secret that is missing.
        SecretsTooLarge: before more than `MAX_SECRET_CHARS` are inserted.
    """
    if "$" not in sealed:
        return sealed.encode()
    room = MAX_SECRET_CHARS

    def insert(match: re.Match[str]) -> str:
        nonlocal room
        name = match[1]
        if name is None:
            return "$"
        if name not in secrets:
            raise SecretUnavailable(name)
        escaped = escape_json(secrets[name])
        if (room := room - len(escaped)) < 0:
            raise SecretsTooLarge
        return escaped

    return _SEALED.sub(insert, sealed).encode()


def mask_payload(sealed: str) -> str:
    """The payload as people may see it: valid JSON, with `***NAME***` in place of each secret."""
    return _SEALED.sub(lambda match: "$" if match[1] is None else f"***{match[1]}***", sealed)


def sealed_secrets(sealed: str) -> frozenset[str]:
    """The names of the secrets that a sealed payload still needs."""
    return frozenset(match[1] for match in _SEALED.finditer(sealed) if match[1] is not None)


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


def seal_all(texts: list[str]) -> list[str]:
    """Each text escaped, its `$` doubled. One call does all: indented items are lines, and no string holds a break."""
    try:
        items = orjson.dumps(texts, option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONEncodeError:
        items = orjson.dumps([as_unicode(text) for text in texts], option=orjson.OPT_INDENT_2).decode()
    if "$" in items:
        items = items.replace("$", "$$")
    return items[5:-3].split('",\n  "')
