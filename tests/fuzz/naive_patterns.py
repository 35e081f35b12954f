"""Whether a pattern occurs in a text, told by sets of end positions over Python's parse of the pattern.

Slow but plain, and never exponential. Only for patterns that RE2 and Python's `re` read in the same way.
"""

from __future__ import annotations

import re
import warnings
from importlib import import_module
from typing import Any

# Private to Python, but the only parse of a pattern that it gives; typeshed knows them in part.
codes: Any = import_module("re._constants")
_parser: Any = import_module("re._parser")

MAX_TEXT_CHARS = 200
MAX_PATTERN_CHARS = 60
# No braces, no groups with `?`, no escapes but of classes and punctuation, no class inside a class.
_SHARED = re.compile(
    r"(?:[^\\{}\[\]()]|\\[dDwW.*+?|^$()\-\\]|\((?!\?)|\)|\[\^?(?:[^\\\[\]&~|-]|[a-z0-9]-[a-z0-9])+\])*"
)


class Unsure(Exception):
    """The pattern's meaning is not plain, or it is too long to be worth it."""


def occurs(pattern: str, text: str) -> bool:
    """Whether the pattern occurs anywhere in the text. Raises Unsure."""
    if len(text) > MAX_TEXT_CHARS or len(pattern) > MAX_PATTERN_CHARS or not _SHARED.fullmatch(pattern):
        raise Unsure
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parsed = _parser.parse(pattern, re.ASCII)
    except (re.error, Warning, RecursionError, OverflowError):
        raise Unsure from None
    return bool(_ends(list(parsed), text, set(range(len(text) + 1))))


def _ends(sequence: list[Any], text: str, starts: set[int]) -> set[int]:
    for code, argument in sequence:
        starts = _step(code, argument, text, starts)
    return starts


def _step(code: Any, argument: Any, text: str, starts: set[int]) -> set[int]:
    if code is codes.AT:
        return {at for at in starts if at == _EDGES[argument](text)}
    if code is codes.BRANCH:
        return set().union(*(_ends(list(choice), text, starts) for choice in argument[1]))
    if code is codes.SUBPATTERN:
        return _ends(list(argument[3]), text, starts)
    if code in (codes.MAX_REPEAT, codes.MIN_REPEAT):
        return _repeated(argument, text, starts)
    return {at + 1 for at in starts if at < len(text) and _takes(code, argument, text[at])}


def _repeated(argument: Any, text: str, starts: set[int]) -> set[int]:
    least, most, body = argument
    for _ in range(least):
        starts = _ends(list(body), text, starts)
    found, edge, rounds = set(starts), starts, least
    while edge and rounds < most:
        edge = _ends(list(body), text, edge) - found
        found |= edge
        rounds += 1
    return found


def _takes(code: Any, argument: Any, char: str) -> bool:
    if code is codes.ANY:
        return char != "\n"
    if code is codes.LITERAL:
        return bool(ord(char) == argument)
    if code is codes.NOT_LITERAL:
        return bool(ord(char) != argument)
    if code is codes.IN:
        negated = bool(argument[0][0] is codes.NEGATE)
        return any(_in_class(kind, what, char) for kind, what in argument[negated:]) is not negated
    raise Unsure


def _in_class(code: Any, argument: Any, char: str) -> bool:
    if code is codes.LITERAL:
        return bool(ord(char) == argument)
    if code is codes.RANGE:
        return bool(argument[0] <= ord(char) <= argument[1])
    if code is codes.CATEGORY and argument in _CATEGORIES:
        return re.fullmatch(_CATEGORIES[argument], char, re.ASCII) is not None
    raise Unsure


_EDGES: dict[Any, Any] = {codes.AT_BEGINNING: lambda _text: 0, codes.AT_END: len}
_CATEGORIES: dict[Any, str] = {
    codes.CATEGORY_DIGIT: r"\d",
    codes.CATEGORY_NOT_DIGIT: r"\D",
    codes.CATEGORY_WORD: r"\w",
    codes.CATEGORY_NOT_WORD: r"\W",
}
