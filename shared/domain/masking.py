"""Taking secrets out of text that others wrote, such as an endpoint's answer that repeats the request it got.

A value is found as it is and as JSON, Python, percent-encoding and HTML write it, and in JSON inside JSON. Text that
somebody transformed otherwise (compressed, encrypted, base64) can't be recognized.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from urllib.parse import quote, quote_plus

import orjson

SHORTEST_REMNANT = 4
JSON_LEVELS = 3


class Mask:
    """Puts `***NAME***` in place of each secret's value. Make one for a webhook, and use it for all its answers."""

    __slots__ = ("_names", "_pattern")

    def __init__(self, secrets: Mapping[str, str]) -> None:
        """`secrets`: the values by their names; empty values are passed over."""
        self._names = {spelling: name for name, value in secrets.items() if value for spelling in _spellings(value)}
        # The longest first: a value may contain another.
        spellings = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, spellings))) if spellings else None

    def __call__(self, text: str, *, cut: bool = False) -> str:
        """The masked text; `cut`: its end was cut off, so that it may end with the beginning of a value."""
        if self._pattern is None:
            return text
        masked = self._pattern.sub(lambda match: self._mask(match[0]), text)
        return self._without_remnant(masked) if cut else masked

    def _mask(self, spelling: str) -> str:
        return f"***{self._names[spelling]}***"

    def _without_remnant(self, text: str) -> str:
        whole = text.rstrip("\N{REPLACEMENT CHARACTER}")  # a cut through a character's bytes leaves one
        length, spelling = max((_overlap(whole, spelling), spelling) for spelling in self._names)
        return text if length < SHORTEST_REMNANT else whole[:-length] + self._mask(spelling)


def _spellings(value: str) -> set[str]:
    found = {value, quote(value), quote(value, safe=""), quote_plus(value)}
    # Each level in a way of its own: a body in UTF-8 that comes back inside JSON in ASCII, or as a program prints it.
    texts = {value}
    for _ in range(JSON_LEVELS):
        texts = {escape(text) for text in texts for escape in (_json, _ascii_json, _printed)}
        found |= texts
    return found | {html.escape(text) for text in found}


def _json(text: str) -> str:
    return orjson.dumps(text)[1:-1].decode()


def _ascii_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _printed(text: str) -> str:
    """As Python writes it in a list or a dictionary; some other languages do likewise."""
    return repr(text)[1:-1]


def _overlap(text: str, value: str) -> int:
    """The length of the longest end of the text that begins the value."""
    longest = min(len(value) - 1, len(text))
    return next((length for length in range(longest, 0, -1) if text.endswith(value[:length])), 0)
