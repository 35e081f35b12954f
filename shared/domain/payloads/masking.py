"""Taking secrets out of text that others wrote, such as an endpoint's answer that repeats the request it got.

A value is found as it is, as JSON, Python, percent-encoding and HTML write it, in JSON inside JSON, in hexadecimal, and
in base64 of it or of a text that contains it. What somebody transformed otherwise (compressed, encrypted, base64 in
lines) can't be recognized.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote, quote_plus

import orjson

SHORTEST_REMNANT = 4
JSON_LEVELS = 3
SHORTEST_CODED = 8
"""Base64 and hexadecimal of fewer characters than this are passed over: they would be found in innocent words."""
HEAD_CHARS = 48
"""So much of a spelling's beginning is looked for; only of values of which one is found is all else made."""
_SLACK_CHARS = 16
"""What is cut may break an escape at its end, so a little more than what counts is made."""


class Mask:
    """Puts `***NAME***` in place of each secret's value. Make one for a webhook, and use it for all its answers."""

    __slots__ = ("_secrets", "_shortest")

    def __init__(self, secrets: Mapping[str, str]) -> None:
        """`secrets`: the values by their names; empty values are passed over."""
        self._secrets = tuple((name, value) for name, value in secrets.items() if value)
        self._shortest = min((len(value) for _name, value in self._secrets), default=0)

    def __call__(self, text: str, *, cut: bool = False) -> str:
        """The masked text; `cut`: its end was cut off, so that it may end with the beginning of a value."""
        if not self._secrets or (len(text) < self._shortest and not cut):
            return text  # most answers are brief, and no spelling is shorter than its value
        # A spelling that is longer than the text is not in it; of what is longer only the beginning may be its end.
        longest = 1 << max(12, len(text).bit_length())
        spelled = {
            spelling: name
            for name, value in self._secrets
            if any(head in text for head in _heads(value))
            for spelling in _spellings(value, longest)
        }
        # The longest first: a value may contain another.
        there = sorted((spelling for spelling in spelled if spelling in text), key=len, reverse=True)
        if there:
            text = re.sub("|".join(map(re.escape, there)), lambda match: f"***{spelled[match[0]]}***", text)
        return self._without_remnant(text, spelled) if cut else text

    def _without_remnant(self, text: str, spelled: Mapping[str, str]) -> str:
        beginnings = {head: name for name, value in self._secrets for head in _heads(value)} | dict(spelled)
        # A cut through a character's bytes leaves a replacement character, which may also be the value's own.
        for whole in (text, text.rstrip("\N{REPLACEMENT CHARACTER}")):
            length, beginning = max((_overlap(whole, beginning), beginning) for beginning in beginnings)
            if length >= SHORTEST_REMNANT:
                return f"{whole[:-length]}***{beginnings[beginning]}***"
        return text


@lru_cache(maxsize=4096)
def _heads(value: str) -> frozenset[str]:
    """How each spelling of a value begins. Kept, since a webhook's secrets are the same for days."""
    return frozenset(spelling[:HEAD_CHARS] for spelling in _spell(value, HEAD_CHARS + _SLACK_CHARS))


@lru_cache(maxsize=64)
def _spellings(value: str, longest: int) -> frozenset[str]:
    """Each spelling of a value, or its beginning where it is longer than `longest`."""
    return frozenset(spelling[: longest + 1] for spelling in _spell(value, longest + _SLACK_CHARS))


def _spell(value: str, most: int) -> set[str]:
    """The spellings of a value; from about `most` characters on they may end in any way.

    Each of them spells one character after another, so that the beginning of a value gives the beginning of them all.
    """
    value = value[:most]
    found = {value, quote(value), quote(value, safe=""), quote_plus(value)}
    # Each level in a way of its own: a body in UTF-8 that comes back inside JSON in ASCII, or as a program prints it.
    texts = {value}
    for _ in range(JSON_LEVELS):
        texts = {
            escape(text)[:most] for text in texts for escape in (_json, _ascii_json, _python_repr, _python_repr_escaped)
        }
        found |= texts
    found |= {html.escape(text) for text in found} | _encode_all(value.encode("utf-8", "surrogatepass"))
    found |= {text.replace("/", "\\/") for text in found}  # as PHP writes JSON
    return found | {_PERCENT.sub(lambda match: match[0].lower(), text) for text in found}


_PERCENT = re.compile("%[0-9A-F]{2}")


def _encode_all(value: bytes) -> set[str]:
    """In hexadecimal and base64, wherever in a longer text the value stands."""
    found = {value.hex(), value.hex().upper(), base64.b64encode(value).decode()}
    for before in range(3):
        whole = base64.b64encode(bytes(before) + value).decode()
        # Six bits a character: only those that no neighbour of the value has a share in.
        found.add(whole[-(-before * 8 // 6) : (before + len(value)) * 8 // 6])
    found |= {text.translate(_URL_SAFE) for text in found} | {quote(text, safe="") for text in found}
    return {text for text in found if len(text) >= SHORTEST_CODED}


_URL_SAFE = str.maketrans("+/", "-_")


def _json(text: str) -> str:
    return orjson.dumps(text)[1:-1].decode()


def _ascii_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _python_repr(text: str, quote: str = "'") -> str:
    """As Python writes it in a list or a dictionary, here in double quotes; some other languages do likewise."""
    # With a double quote before it each part is written in single quotes, and none is escaped.
    return quote.join(repr(f'"{part}')[2:-1] for part in text.split("'"))


def _python_repr_escaped(text: str) -> str:
    """The same in single quotes, which it takes where the text has double ones as well."""
    return _python_repr(text, "\\'")


def _overlap(text: str, value: str) -> int:
    """The length of the longest end of the text that begins the value, without being all of it."""
    at = text.find(value[:SHORTEST_REMNANT], max(0, len(text) - len(value) + 1))
    while at >= 0 and not value.startswith(text[at:]):
        at = text.find(value[:SHORTEST_REMNANT], at + 1)
    return len(text) - at if at >= 0 else 0
