"""What must be found of a value wherever a filter holds: the entries under which a table of many filters has it.

A *clue* is one thing that can be looked up, such as "the alias is `prod`". A *cover* of a filter is a set of clues of
which at least one is true of every subject that passes. A cover says nothing of the other subjects: whoever finds a
filter by its clues has a candidate, which the filter itself then decides on. So a clue may be true too often, and never
too rarely; a filter of which nothing can be said has no cover.

Must not decide how clues are looked up, nor which cover of a filter is the best.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, TypeAlias

import re2

from shared.domain.filters.terms import INVERTING, Comparison, Node, number_key

MAX_CLUES: Final = 256
"""How many clues a cover may have: each takes memory, and a filter may name ten thousand values."""
MAX_PREFIX_CHARS: Final = 32
"""The longest prefix that is looked up; of a longer one this much is."""


class Marker(Enum):
    """The keys of values that are equal to no text and no number, and that Python takes for some of these."""

    TRUE = auto()
    FALSE = auto()
    NULL = auto()


@dataclass(frozen=True, slots=True)
class Equal:
    """The value, or one of its elements, has this key, as `equality_key` gives it."""

    field: str
    key: Hashable


@dataclass(frozen=True, slots=True)
class Prefix:
    """A text, or one in the list, begins so."""

    field: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Found:
    """A pattern occurs in the text, or in one in the list."""

    field: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Between:
    """A number is within bounds, both included; None is no bound. In a list one may be above and another below."""

    field: str
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Present:
    """The field is there, and is not null."""

    field: str


@dataclass(frozen=True, slots=True)
class Absent:
    """The field is missing."""

    field: str


Clue: TypeAlias = Equal | Prefix | Found | Between | Present | Absent
Cover: TypeAlias = tuple[Clue, ...]


def equality_key(value: object) -> Hashable:
    """A key that equal JSON values have in common; lists and objects of the same size have the same one."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool):
        return Marker.TRUE if value else Marker.FALSE
    if isinstance(value, (int, float)):
        return number_key(value)
    if isinstance(value, (list, tuple)):
        return (list, len(value))
    if isinstance(value, dict):
        return (dict, len(value))
    return Marker.NULL


def covers_of(node: Node, *, negated: bool = False) -> tuple[Cover, ...]:
    """All covers that are found for a term, or for its opposite; several, where several terms must hold together."""
    if isinstance(node, Comparison):
        return _of_comparison(node, negated=negated)
    inside = negated is not (node.op in INVERTING)
    parts = [covers_of(term, negated=inside) for term in node.terms]
    if (node.op == "$or") is not negated and node.op != "$not":
        return _of_alternatives(parts)
    return _with_both_bounds(cover for part in parts for cover in part)


def _of_alternatives(parts: list[tuple[Cover, ...]]) -> tuple[Cover, ...]:
    """Of each alternative one cover, together: the one that is likely to be true of the fewest."""
    chosen: list[Clue] = []
    for covers in parts:
        if not covers:
            return ()
        chosen.extend(min(covers, key=_commonness))
    return (tuple(dict.fromkeys(chosen)),) if len(chosen) <= MAX_CLUES else ()


_COMMONNESS: Final[dict[type, int]] = {Equal: 1, Prefix: 2, Found: 3, Between: 8, Present: 64, Absent: 64}


def _commonness(cover: Iterable[Clue]) -> int:
    return sum(_COMMONNESS[type(clue)] for clue in cover)


def _with_both_bounds(covers: Iterable[Cover]) -> tuple[Cover, ...]:
    """The covers, with one for each field whose numbers must be within several bounds at once."""
    kept: list[Cover] = []
    bounds: dict[str, Between] = {}
    for cover in covers:
        clue = cover[0] if len(cover) == 1 else None
        if not isinstance(clue, Between):
            kept.append(cover)
            continue
        known = bounds.get(clue.field)
        if known is not None:
            low, high = _tighter(known.low, clue.low, max), _tighter(known.high, clue.high, min)
            clue = Between(clue.field, low, high)
        bounds[clue.field] = clue
    return (*dict.fromkeys(kept), *((clue,) for clue in bounds.values()))


def _tighter(one: float | None, other: float | None, choose: Any) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    bound: float = choose(one, other)
    return bound


def _of_comparison(comparison: Comparison, *, negated: bool) -> tuple[Cover, ...]:
    field, op, operand = comparison.field, comparison.op, json.loads(comparison.operand_json)
    if op == "$exists":
        return ((Present(field), Equal(field, Marker.NULL)),) if operand is not negated else ((Absent(field),),)
    if op in ("$ne", "$nin"):
        op, negated = _POSITIVE[op], not negated
    if negated:
        # Most values are other than this or that, and all of them lack most patterns.
        refused = [operand] if op == "$eq" else operand if op == "$in" else ()
        return ((Present(field),),) if None in refused else ()
    if op == "$eq":
        return (_equal_to_any(field, [operand]),)
    if op == "$in":
        return (_equal_to_any(field, operand),)
    if op == "$regex":
        return _of_pattern(field, operand)
    if op == "$contains":
        return ((Found(field, re2.escape(operand)),), (Present(field),))
    if isinstance(operand, str):
        return ((Present(field),),)
    low, high = (operand, None) if op in ("$gt", "$gte") else (None, operand)
    return ((Between(field, low, high),),)


_POSITIVE: Final = {"$ne": "$eq", "$nin": "$in"}


def _equal_to_any(field: str, operands: list[object]) -> Cover:
    keys = dict.fromkeys(map(equality_key, operands))
    clues: list[Clue] = [Equal(field, key) for key in keys] if len(keys) <= MAX_CLUES else [Present(field)]
    if Marker.NULL in keys:
        clues.append(Absent(field))
        if len(keys) > MAX_CLUES:
            clues.append(Equal(field, Marker.NULL))
    return tuple(clues)


def _of_pattern(field: str, pattern: str) -> tuple[Cover, ...]:
    covers: list[Cover] = [(Found(field, pattern),), (Present(field),)]
    prefix, whole = literal_prefix(pattern)
    if prefix and whole:
        return ((Equal(field, prefix),),)
    if prefix:
        covers.insert(0, (Prefix(field, prefix[:MAX_PREFIX_CHARS]),))
    return tuple(covers)


_LITERAL = re.compile(r"\^((?:[^\\^$.|?*+()\[\]{}]|\\[!-/:-@\[-`{-~])*)(\$?)", re.ASCII | re.DOTALL)
_LAST = re.compile(r"(?:\\.|[^\\])\Z", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def literal_prefix(pattern: str) -> tuple[str, bool]:
    """The text with which everything begins in which an accepted pattern occurs, and whether that is all of it.

    Only what is certain: nothing where the pattern has alternatives, flags, or no `^` in front.
    """
    if "|" in pattern or not (found := _LITERAL.match(pattern)):
        return "", False
    literal, end = found.groups()
    rest = pattern[found.end() :]
    if rest[:1] in ("*", "+", "?", "{"):  # it says how often the last character occurs
        if end:
            return "", False
        literal = _LAST.sub("", literal)
    return _ESCAPE.sub(r"\1", literal), bool(end) and not rest
