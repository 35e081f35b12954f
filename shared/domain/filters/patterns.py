"""Regular expressions of filters: RE2, so that no pattern, however hostile, costs more than time linear in the text.

A pattern comes from whoever defines an automation and a text from whoever publishes an event; neither is trusted.
This module decides which patterns are accepted and remembers recent answers. It knows nothing of filters, and it
must not fall back to Python's `re`, whose backtracking can take exponential time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import re2

from shared.domain.json_values import is_unicode

MAX_PATTERN_CHARS: Final = 1_000
"""Longest accepted pattern, in characters."""

PATTERN_MEMORY_BYTES: Final = 1 << 20
"""What RE2 may spend on one pattern: its program and the states it discovers while searching."""

REMEMBERED_TEXTS: Final = 64
"""Answers remembered per pattern: aliases and tags repeat, and RE2's call costs twenty times a look-up."""

REMEMBERED_TEXT_CHARS: Final = 256
"""Longer texts are searched afresh, so that remembered answers stay small."""

_SHARED_PATTERNS: Final = 2_048
"""Compiled patterns kept; one that is used less than so many others is compiled again when it is."""
_LOOK_AROUNDS: Final = ("(?=", "(?!", "(?<=", "(?<!")
_BACK_REFERENCES: Final = (*(f"\\{digit}" for digit in range(1, 10)), "\\k", "\\g", "(?P")


def pattern_fault(pattern: str) -> str | None:
    """Why `pattern` is refused, in words for its author; None when it is accepted.

    The syntax is RE2's: https://github.com/google/re2/wiki/Syntax.
    """
    if not is_unicode(pattern):
        return "must be valid Unicode text, without lone surrogates"
    if len(pattern) > MAX_PATTERN_CHARS:
        return f"must have at most {MAX_PATTERN_CHARS:,} characters, not {len(pattern):,}"
    try:
        _compiled(pattern)
    except re2.error as error:
        return f"must be a valid RE2 pattern: {_in_plain_words(_reason(error))}"
    return None


@lru_cache(maxsize=_SHARED_PATTERNS)
def pattern_search(pattern: str) -> Callable[[str], bool]:
    """A function that tells whether `pattern`, one that `pattern_fault` accepts, occurs anywhere in a text.

    Filters with the same pattern share one function and so its memory.
    """
    search = _compiled(pattern).search

    def occurs(text: str) -> bool:
        # A lone surrogate, which JSON can smuggle in, must not raise while matching.
        return search(text.encode("utf-8", "surrogatepass")) is not None

    remembered = lru_cache(maxsize=REMEMBERED_TEXTS)(occurs)
    return lambda text: remembered(text) if len(text) <= REMEMBERED_TEXT_CHARS else occurs(text)


def _compiled(pattern: str) -> re2._Regexp[str]:
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
        return "it grows too large when its repetitions are written out; use smaller repetition counts"
    return reason
