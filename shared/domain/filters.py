"""The filter language: Mongo-style expressions over named fields of a subject, parsed, compiled and explained.

Combinations are `$and`, `$or`, `$nor` (lists) and `$not`; comparisons `$eq $ne $gt $gte $lt $lte $in $nin $regex
$contains $exists`. `{"field": value}` is `$eq`, and several keys of one object must all hold. A list satisfies a
comparison when any element does; `$ne` and `$nin` are the exact negations of `$eq` and `$in`; values of different types
are neither equal nor ordered, `true` is not 1, and NaN and infinities satisfy no ordering.

This module knows neither which fields exist nor how a subject is read: callers pass both in. A compiled filter must not
walk the expression again, nor raise, whatever the subject holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from shared.domain.errors import InvalidDefinition
from shared.domain.filter_explain import (
    INVERTING,
    MISSING,
    Combination,
    Comparison,
    Getter,
    Missing,
    Node,
    Term,
    Test,
    explained,
)

__all__ = ["MISSING", "Filter", "Getter", "Missing", "Predicate", "Term", "parse_filter"]

MAX_DEPTH: Final = 32
"""How deep expressions, and the values in them, may nest."""
MAX_TERMS: Final = 1_000
"""How many comparisons and combinations a filter may have; also how many faults are reported at most."""
MAX_VALUES: Final = 10_000
"""How many values, members of lists and objects included, all comparisons of a filter may have."""

T = TypeVar("T")
Predicate: TypeAlias = Callable[[T], bool]


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed filter. Two are equal when they have the same terms in the same order."""

    root: Node

    @property
    def matches_everything(self) -> bool:
        """Whether every subject passes because of the filter's form alone, as with `{}` and `{"$and": []}`."""
        return _folded(self.root) is True

    @property
    def fields(self) -> frozenset[str]:
        """The names of all fields that the filter reads."""
        return frozenset(_fields(self.root))

    def compile(self, resolve: Callable[[str], Getter[T]]) -> Predicate[T]:
        """The filter as nested closures; `resolve` is called now, once per comparison, never while matching."""
        folded = _folded(self.root)
        return (lambda _: folded) if isinstance(folded, bool) else _compiled(folded, resolve)

    def explain(self, resolve: Callable[[str], Getter[T]], subject: T) -> Term:
        """What each term says about `subject`; the root's `held` is what the compiled filter answers."""
        return explained(self.root, resolve, subject)

    def to_json(self) -> dict[str, Any]:
        """The filter as a JSON object in normal form: one key per object, an operator in every comparison.

        Parsing it gives an equal filter. What the W&B SDK sends is in normal form already.
        """
        return _to_json(self.root)


def parse_filter(expression: object, known_field: Callable[[str], str | None]) -> Filter:
    """A filter from a decoded JSON object.

    `known_field` gives None for a field that may be used, else a message saying what is accepted. Raises
    `InvalidDefinition` with every fault, each at its place in the expression, e.g. `("$or", 0, "alias", "$regex")`.
    """
    parser = _Parser(known_field)
    root = parser.expression(expression, (), 1)
    if parser.faults:
        raise InvalidDefinition(*parser.faults)
    return Filter(root)


def _fields(node: Node) -> Iterator[str]:
    if isinstance(node, Comparison):
        yield node.field
    else:
        for term in node.terms:
            yield from _fields(term)


def _to_json(node: Node) -> dict[str, Any]:
    if isinstance(node, Comparison):
        return {node.field: {node.op: json.loads(node.operand_json)}}
    terms = [_to_json(term) for term in node.terms]
    return {node.op: terms[0] if node.op == "$not" else terms}


def _folded(node: Node) -> Node | bool:
    """The same predicate without terms that are always true or always false; a bool where nothing else is left."""
    if isinstance(node, Comparison):
        return node
    deciding = node.op != "$and"  # one false term decides an $and, one true term the others
    inverting = node.op in INVERTING
    parts = [_folded(term) for term in node.terms]
    if any(part is deciding for part in parts):
        return deciding is not inverting
    live = tuple(part for part in parts if not isinstance(part, bool))
    if not live:
        return deciding is inverting
    return live[0] if len(live) == 1 and not inverting else Combination(node.op, live)


def _compiled(node: Node, resolve: Callable[[str], Getter[T]]) -> Predicate[T]:
    if isinstance(node, Comparison):
        return _on_field(resolve(node.field), node.test())
    predicates = tuple(_compiled(term, resolve) for term in node.terms)
    if node.op == "$and":
        return _until(False, predicates)
    return _until(True, predicates, decided=node.op not in INVERTING)


def _on_field(get: Getter[T], test: Test) -> Predicate[T]:
    return lambda subject: test(get(subject))


def _first(deciding): ...
