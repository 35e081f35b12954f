"""Masking secrets in finished log lines: known values anywhere, and credentials in URLs and headers by their form."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote

from pydantic import SecretStr

from shared.config.server_urls import split_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared.settings import Settings

MASK = "**********"


MIN_MASKED_CHARS = 8  # a shorter value would also mask innocent words


_URL_CREDENTIALS = re.compile(r"(://[^\s/:@'\"]*):[^\s/@'\"]+@")


_BEARER = re.compile(r"(?i)\b(bearer\s+)[\w.~+/=-]+")


_PATH_OF_A_SOURCE = "/v1/in/"
_TOKENS = re.compile(r"(/v1/in/)[^\s\"'\\?#]+")
"""The URL of a webhook in is known to its sender alone: it is half of what proves a request."""


class LogMask:
    """Masks secrets in a finished line. It never changes once it is made, so any thread may use it."""

    def __init__(self, settings: Settings) -> None:
        self._values = tuple(sorted(set(_secret_values(settings)), key=len, reverse=True))

    def __call__(self, line: str) -> str:
        for value in self._values:
            line = line.replace(value, MASK)
        line = _URL_CREDENTIALS.sub(rf"\1:{MASK}@", line)
        if _PATH_OF_A_SOURCE in line:
            line = _TOKENS.sub(rf"\1{MASK}", line)
        # To look for a word in any case takes ten times as long as to find that it is not there.
        return _BEARER.sub(rf"\1{MASK}", line) if "bearer" in line.lower() else line


def _url_passwords(text: str) -> list[str]:
    """The passwords in a URL or in several, as they are written there and as they are meant."""
    try:
        parts = [split_url(url) for url in text.split(";")]
        queried = [value for one in parts for name, value in parse_qsl(one.query) if name.endswith("password")]
        written = [*(one.password or "" for one in parts), *queried]
    except ValueError:  # it is no URL, which its user will report
        return []
    return [*written, *map(unquote, written), *(quote(one, safe="") for one in queried)]


def _secret_values(settings: Settings) -> Iterator[str]:
    """Every secret that the settings hold, in every spelling that a line may have of it."""
    for value in (getattr(settings, name) for name in type(settings).model_fields):
        if isinstance(value, SecretStr):
            parts = [value.get_secret_value(), *value.get_secret_value().split(",")]
        elif isinstance(value, str):
            parts = _url_passwords(value)
        else:
            continue
        for part in map(str.strip, parts):
            if len(part) >= MIN_MASKED_CHARS:
                yield from _spellings(part)


def _spellings(value: str) -> Iterator[str]:
    """The value itself, as Python shows text or bytes that contain it, and each of these inside a JSON string."""
    # A trailing quote makes `repr` choose the other kind, and so escape that kind inside.
    for shown in (repr(value + '"')[1:-2], repr(value.encode() + b'"')[2:-2]):
        for spelling in (value, shown, shown.replace("\\'", "'")):
            yield from (spelling, json.dumps(spelling)[1:-1], json.dumps(spelling, ensure_ascii=False)[1:-1])
