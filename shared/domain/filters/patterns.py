"""Regular expressions of filters: RE2, so that no pattern, however hostile, costs more than time linear in the text.

Linear is not cheap: at worst RE2 takes the text's length times the size of the pattern's program. So programs are
bounded, and searching long texts is counted (`budget`).

A pattern comes from the author of an automation and a text from the publisher of an event; neither is trusted. This
module decides which patterns are accepted, and remembers recent answers. It must not know filters, and must not fall
back to Python's `re`, whose backtracking can take exponential time.
"""

from __future__ import annotations

from threading import Lock
from typing import Final

import re2

from shared.domain.bounded_cache import BoundedCache
from shared.domain.filters.budget import FREE_UNITS, charge
from shared.domain.json_values import is_unicode

MAX_PATTERN_CHARS: Final = 1_000
"""Longest accepted pattern, in characters."""

MAX_PROGRAM_SIZE: Final = 2_000
"""The most instructions in RE2's program of a pattern: `\\pL+` has 1,201, `^.{1,200}$` 1,801, `^prod-` 6."""

PATTERN_MEMORY_BYTES: Final = 64 << 10
"""The memory of one pattern in RE2: its program, and the states that it discovers while searching."""

REMEMBERED_TEXTS: Final = 32
"""The number of answers remembered for each pattern: aliases and tags repeat, and a call costs twenty look-ups."""

REMEMBERED_TEXT_CHARS: Final = 64
"""The longest text whose answer is remembered. Searching a longer one is counted against the event's budget."""

KEPT_PATTERN_BYTES: Final = 32 << 10
LEAST_PATTERN_BYTES: Final = 4 << 10
INSTRUCTION_BYTES: Final = 256
"""The memory of a cached pattern with its remembered answers: that of a small one and that of each of its instructions,
and the most of any (measured: `team-7$` with 13 instructions takes up to 7.4 kB, one with 1,203 up to 20)."""

KEPT_PATTERNS_BYTES: Final = 32 << 20
"""The memory for all cached patterns; a pattern that is dropped is compiled again when it is used."""

CALL_UNITS: Final = 600
"""The cost of a call of RE2 for the shortest text, in the units of a filter's budget."""

_one_by_one: Final = Lock()
"""Held for costly searches. RE2 lets other threads run meanwhile: as many searches as there are threads would take all
cores, from whoever has cheap ones. It is held for no longer than one event's budget lasts."""

_LOOK_AROUNDS: Final = ("(?=", "(?!", "(?<=", "(?<!")
_BACK_REFERENCES: Final = (*(f"\\{digit}" for digit in range(1, 10)), "\\k", "\\g", "(?P")
_TOO_LARGE: Final = "it grows too large when its repetitions and classes are written out"


class Pattern:
    """A compiled pattern, with its answers for recent texts.

    Threads share it without a lock, since each step on a dictionary is atomic: two that clear the answers at the same
    moment work some out again.
    """

    __slots__ = ("_answers", "_search", "size")

    def __init__(self, compiled: re2._Regexp[str]) -> None:
        self._search = compiled.search
        self._answers: dict[str, bool] = {}
        self.size: int = compiled.programsize
        """The number of instructions in its program."""

    def occurs(self, text: str) -> bool:
        """Whether the pattern occurs anywhere in a text. Raises FilterTooCostly."""
        if len(text) > REMEMBERED_TEXT_CHARS:
            units = self.size * (len(text) if text.isascii() else 3 * len(text))
            charge(units)
            if units > FREE_UNITS:
                with _one_by_one:
                    return self._occurs(text)
            return self._occurs(text)
        known = self._answers.get(text)
        if known is None:
            if len(self._answers) >= REMEMBERED_TEXTS:
                self._answers.clear()
            known = self._answers[text] = self._occurs(text)
        return known

    def _occurs(self, text: str) -> bool:
        # A lone surrogate, which JSON can smuggle in, must not raise while matching.
        return self._search(text.encode("utf-8", "surrogatepass")) is not None


def pattern_fault(pattern: str) -> str | None:
    """Why `pattern` is refused, in words for its author; None when it is accepted.

    The syntax is RE2's: https://github.com/google/re2/wiki/Syntax.
    """
    if not is_unicode(pattern):
        return "must be valid Unicode text, without lone surrogates"
    if len(pattern) > MAX_PATTERN_CHARS:
        return f"must have at most {MAX_PATTERN_CHARS:,} characters, not {len(pattern):,}"
    try:
        size = pattern_of(pattern).size
    except re2.error as error:
        return f"must be a valid RE2 pattern: {_in_plain_words(_reason(error))}"
    if size > MAX_PROGRAM_SIZE:
        return (
            f"must be a smaller RE2 pattern: {_TOO_LARGE}, to {size:,} instructions; at most {MAX_PROGRAM_SIZE:,} are"
            " accepted; use smaller repetition counts and classes"
        )
    return None


def pattern_of(pattern: str) -> Pattern:
    """The compiled pattern, which `pattern_fault` accepts. Equal patterns of filters share it and its answers."""
    found = _kept.get(pattern)
    if found is None:
        found = Pattern(_compile(pattern))
        _kept.put(pattern, found)
    return found


def forget_pattern(pattern: str) -> None:
    """Drop a pattern from the cache, since it may not be used any more; if it is, it is compiled again."""
    _kept.forget(pattern)


_kept: BoundedCache[str, Pattern] = BoundedCache(
    KEPT_PATTERNS_BYTES,
    lambda pattern: min(KEPT_PATTERN_BYTES, LEAST_PATTERN_BYTES + INSTRUCTION_BYTES * pattern.size),
)


def _compile(pattern: str) -> re2._Regexp[str]:
    options = re2.Options()
    options.log_errors = False  # otherwise RE2 writes every refused pattern to stderr
    options.max_mem = PATTERN_MEMORY_BYTES
    options.never_capture = True
    return re2.compile(pattern, options)


def _reason(error: re2.error) -> str:
    reason = error.args[0]  # RE2 gives bytes, cut from the pattern at any place
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)


def _in_plain_words(reason: str) -> str:
    fragment = reason.rpartition(": ")[2]
    if fragment in _LOOK_AROUNDS:
        return f"look-ahead and look-behind are not available ({reason}); combine $and, $not and $regex instead"
    if fragment in _BACK_REFERENCES:
        return f"back-references are not available ({reason})"
    if reason.startswith("pattern too large"):
        return f"{_TOO_LARGE}; use smaller repetition counts and classes"
    return reason
