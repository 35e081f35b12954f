"""Reading members of decoded bodies that somebody else wrote: nothing is taken for granted.

What is missing, or is of another type, reads as blank; a value that no event may have as a label is made fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from shared.domain.events.values import MAX_NAME_LENGTH

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_RFC_3339 = re.compile(r"[0-9-]{10}T[0-9:]{8}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII | re.IGNORECASE)
_FIT_KEY = re.compile(r"[A-Za-z0-9._:/@#+=~-]{1,200}", re.ASCII)
MAX_PARTS: Final = 100
"""How many tags of a version are taken over."""


def object_of(value: object) -> Mapping[str, Any]:
    """An object, or an empty one."""
    return value if isinstance(value, dict) else {}


def text_of(value: object) -> str:
    """Text that an event may have as a label: a string or a number in one line of bounded length, otherwise blank."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return _CONTROL.sub(" ", str(value)).strip()[:MAX_NAME_LENGTH]


def labels_of(values: Mapping[str, Any]) -> list[str]:
    """Pairs as tags, `key:value`; of services whose tags have values."""
    return [pair(key, value) for key, value in list(values.items())[:MAX_PARTS] if text_of(key)]


def pair(key: object, value: object) -> str:
    """A key and its value as one tag; the key alone where the value is blank."""
    told = text_of(value)
    return text_of(f"{text_of(key)}:{told}" if told else text_of(key))


def time_or_none(value: object) -> str | None:
    """A time that an event may have; None where it is written otherwise."""
    return value if isinstance(value, str) and _RFC_3339.fullmatch(value) else None


def fit_key(*parts: object) -> str:
    """A part of an event's id: the parts as they are where an id may hold them, or a digest of them."""
    text = "/".join(str(part) for part in parts)
    return text if _FIT_KEY.fullmatch(text) else sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def value_at(value: object, path: str, missing: object) -> object:
    """The member at a dotted path: a whole key that has dots wins, and a number is a place in a list."""
    while path:
        if isinstance(value, dict) and path in value:
            return value[path]
        head, _, path = path.partition(".")
        if isinstance(value, dict) and head in value:
            value = value[head]
        elif isinstance(value, list) and head.isdecimal() and len(head) < 6 and int(head) < len(value):
            value = value[int(head)]
        else:
            return missing
    return value
