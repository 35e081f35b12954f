"""Reading text as it was before somebody escaped it, with a way back to the places in the text as it stands.

An endpoint that repeats a request writes it as its framework does: as JSON in one of a dozen dialects, percent-encoded,
with HTML or XML entities, or one inside another. All of them are undone here by a few general rules instead of being
listed. Must not know what is searched for in what it reads.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate

from shared.domain.errors import HooklineError

MAX_ESCAPES = 10_000
"""How many escapes are undone in one text, all readings together. An ordinary page of 12 KiB has a tenth of that; at
the bound the search costs about 5 ms. A hostile endpoint could make it 30 ms, which others would wait for."""


class TooManyEscapes(HooklineError):
    """A text nests more escapes than can be undone in an acceptable time."""


_Read = list[tuple[str, int]]
"""The characters that an escape stands for, and how many characters of the escape each of them took."""

_NAMED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "0": "\0", "e": "\x1b"}
_BACKSLASH = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # one character in two halves
    r"|\\u\{[0-9a-fA-F]{1,6}\}|\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|(?:\\x[0-9a-fA-F]{2})+|\\[^uUx]"
)
_PERCENT = re.compile(r"(?:%[0-9a-fA-F]{2})+")
_FORM = re.compile(r"(?:%[0-9a-fA-F]{2})+|\+")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


@dataclass(frozen=True, slots=True)
class _Escapes:
    """A family of escapes: the text that each contains, what one looks like, and what one means."""

    mark: str
    pattern: re.Pattern[str]
    read: Callable[[str], _Read]


def _read_backslash(escape: str) -> _Read:
    kind, rest = escape[1], escape[2:]
    if kind == "x":
        return _read_bytes(bytes.fromhex(escape.replace("\\x", "")), 4)
    if kind not in "uU":
        return [(_NAMED.get(kind, kind), 2)]
    if len(escape) == 12:
        halves = bytes.fromhex(escape[2:6] + escape[8:])
        return [(halves.decode("utf-16-be"), 12)]
    number = int(rest.strip("{}"), 16)
    return [(chr(number) if number <= 0x10FFFF else "\ufffd", len(escape))]


def _read_percent(escape: str) -> _Read:
    return [(" ", 1)] if escape == "+" else _read_bytes(bytes.fromhex(escape.replace("%", "")), 3)


def _read_bytes(encoded: bytes, width: int) -> _Read:
    """Bytes that were written as `width` characters each: UTF-8, and Latin-1 where they are not."""
    text = encoded.decode("utf-8", "surrogateescape")
    read = []
    for char in text:
        lone = "\udc80" <= char <= "\udcff"
        read.append((chr(ord(char) - 0xDC00) if lone else char, width * (1 if lone else len(char.encode()))))
    return read


def _read_entity(escape: str) -> _Read:
    if escape[1] != "#":
        return [(html.unescape(escape), len(escape))]
    # Not as HTML reads it, which takes control characters away and others for Windows-1252's: the writer meant itself.
    number = int(escape[3:-1], 16) if escape[2] in "xX" else int(escape[2:-1])
    return [(chr(number) if number <= 0x10FFFF else "\ufffd", len(escape))]


_FAMILIES = {
    "J": _Escapes("\\", _BACKSLASH, _read_backslash),
    "P": _Escapes("%", _PERCENT, _read_percent),
    "F": _Escapes("+", _FORM, _read_percent),
    "H": _Escapes("&", _ENTITY, _read_entity),
}


@lru_cache(maxsize=8192)
def _meant(family: str, escape: str) -> str:
    """The characters that an escape stands for. Cached, since an answer repeats the few escapes that it has."""
    return "".join(char for char, _ in _FAMILIES[family].read(escape))


# The order in which escapes are undone, the outermost first. Each layer that frameworks are known to add stands here:
# JSON in JSON (a log line of a log line), a page that shows JSON, a form inside JSON, and so on. One more layer costs a
# pass over the answer for each attempt whose answer has such escapes at all, some 0.1 ms for 16 KiB.
_CHAINS = (
    *("J", "P", "F", "H"),
    *("JJ", "JJJ", "JJJJ", "JH", "HJ", "JP", "JF", "PJ", "FJ", "PP", "HH", "HP", "PH"),
    *("HJJ", "JJH", "JJP", "PJJ"),
)


@dataclass(slots=True)
class Reading:
    """A text as it reads once some escapes are undone; `span` leads back to the places in the original."""

    text: str
    _before: Reading | None = None
    _escapes: _Escapes | None = None
    _ends: list[int] = field(default_factory=list)
    """Where each character ends in `_before`; computed for the first match, since most readings have none."""

    def undo(self, family: str) -> tuple[Reading | None, int]:
        """The text with one family of escapes undone, None where it has none of them; and how many there were."""
        escapes = _FAMILIES[family]
        if escapes.mark not in self.text:
            return None, 0
        text, count = escapes.pattern.subn(lambda match: _meant(family, match[0]), self.text)
        return None if text == self.text else Reading(text, self, escapes), count

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where in the original text the characters from `start` to `end` stand, the escapes of the last included."""
        reading = self
        while reading._before is not None:
            ends = reading._ends or reading._find_ends()
            start, end = (ends[start - 1] if start else 0), ends[end - 1]
            reading = reading._before
        return start, end

    def _find_ends(self) -> list[int]:
        assert self._before is not None  # noqa: S101 - `span` asks
        assert self._escapes is not None  # noqa: S101
        widths: list[int] = []
        at = 0
        for match in self._escapes.pattern.finditer(self._before.text):
            widths.extend([1] * (match.start() - at))
            for text, width in self._escapes.read(match[0]):
                # An entity may stand for two characters: the first takes all of it.
                widths.extend([width] + [0] * (len(text) - 1))
            at = match.end()
        widths.extend([1] * (len(self._before.text) - at))
        self._ends = list(accumulate(widths))
        return self._ends


def readings(text: str, *, spaces: bool) -> Iterator[Reading]:
    """The text as it stands, and as it reads once escapes are undone, in each order that frameworks are known to nest.

    `spaces`: whether what is searched for may contain a space, which forms write as `+`.

    Raises:
        TooManyEscapes: when more than `MAX_ESCAPES` would have to be undone in all.
    """
    left = MAX_ESCAPES
    known: dict[str, Reading | None] = {"": Reading(text)}
    yield Reading(text)
    seen = {text}
    for chain in _CHAINS:
        if "F" in chain and not spaces:
            continue
        before = known.get(chain[:-1])
        reading, count = (None, 0) if before is None else before.undo(chain[-1])
        known[chain] = reading
        left -= count
        if left < 0:
            raise TooManyEscapes
        if reading is not None and reading.text not in seen:
            seen.add(reading.text)
            yield reading
