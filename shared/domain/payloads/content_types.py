"""The content types of request bodies, and how a value is written into each so that it can't break out of its place."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final
from urllib.parse import quote_plus

from shared.domain.errors import InvalidDefinition

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
PLAIN: Final = "text/plain"
ACCEPTED: Final = f"{JSON}, application/<name>+json, {FORM} or {PLAIN}"

OTHER_JSON: Final = r"application/[a-z0-9][a-z0-9.-]{0,80}\+json"
"""The form of further types whose bodies are JSON (RFC 6839, section 3.1)."""
_OTHER_JSON = re.compile(OTHER_JSON)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class PayloadTypes(StrEnum):
    """The rule for a string of a payload that is one variable and nothing else."""

    #: It is replaced by the value, with the type that this has: a number, a list, an object, true, null.
    JSON = "json"
    #: It stays a string, as in W&B.
    TEXT = "text"


def parse_content_type(raw: object) -> str:
    """A content type that payloads can be written in. Raises InvalidDefinition."""
    if isinstance(raw, str) and (raw in (JSON, FORM, PLAIN) or _OTHER_JSON.fullmatch(raw)):
        return raw
    raise InvalidDefinition.at((), f"must be {ACCEPTED}; bodies are UTF-8, so it takes no parameters")


def is_json(content_type: str) -> bool:
    """Whether a body of this type is one JSON value."""
    return content_type not in (FORM, PLAIN)


def header_of(content_type: str) -> str:
    """The `Content-Type` header. Text says its encoding, since receivers assume others for it (RFC 9110, 8.3.2)."""
    return f"{PLAIN}; charset=utf-8" if content_type == PLAIN else content_type


def escape_form(text: str) -> str:
    """A name or a value of a form, as the URL standard's `application/x-www-form-urlencoded` serializer writes it."""
    return quote_plus(text, safe="*", errors="replace").replace("~", "%7E")


def one_line(text: str) -> str:
    """A value in plain text: each control character or line break is a space, so that no value begins a line."""
    return _CONTROL.sub(" ", text)
