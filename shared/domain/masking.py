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
        sought = _sought(self._secrets)
        masked = sought.pattern.sub(lambda match: sought.mask(match[0]), text)
        return sought.without_remnant(masked) if cut else masked


class _Sought:
    """All spellings of some values, and the pattern that finds them."""

    def __init__(self, secrets: tuple[tuple[str, str], ...]) -> None:
        self._names = {spelling: name for name, value in secrets for spelling in _spellings(value)}
        # The longest first: a value may contain another.
        self.pattern = re.compile("|".join(map(re.escape, sorted(self._names, key=len, reverse=True))))

    def mask(self, spelling: str) -> str:
        return f"***{self._names[spelling]}***"

    def without_remnant(self, text: str) -> str:
        whole = text.rstrip("\N{REPLACEMENT CHARACTER}")  # a cut through a character's bytes leaves one
        length, spelling = max((_overlap(whole, spelling), spelling) for spelling in self._names)
        return text if length < SHORTEST_REMNANT else whole[:-length] + self.mask(spelling)


@lru_cache(maxsize=256)
def _sought(secrets: tuple[tuple[str, str], ...]) -> _Sought:
    """Kept, since making one takes milliseconds and a webhook's secrets are the same for days."""
    return _Sought(secrets)


def _spellings(value: str) -> set[str]:
    found = {value, quote(value), quote(value, safe=""), quote_plus(value)}
    # Each level in a way of its own: a body in UTF-8 that comes back inside JSON in ASCII, or as a program prints it.
    texts = {value}
    for _ in range(JSON_LEVELS):
        texts = {escape(text) for text in texts for escape in (_json, _ascii_json, _printed)}
        found |= texts
    found |= {html.escape(text) for text in found} | _coded(value.encode("utf-8", "surrogatepass"))
    found |= {text.replace("/", "\\/") for text in found}  # as PHP writes JSON
    return found | {_PERCENT.sub(lambda match: match[0].lower(), text) for text in found}


_PERCENT = re.compile("%[0-9A-F]{2}")


def _coded(value: bytes) -> set[str]:
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


def _printed(text: str) -> str:
    """As Python writes it in a list or a dictionary; some other languages do likewise."""
    return repr(text)[1:-1]


def _overlap(text: str, value: str) -> int:
    """The length of the longest end of the text that begins the value."""
    longest = min(len(value) - 1, len(text))
    return next((length for length in range(longest, 0, -1) if text.endswith(value[:length])), 0)
