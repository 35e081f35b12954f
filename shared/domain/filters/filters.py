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
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias, TypeGuard, TypeVar

from shared.domain.errors import FieldError, InvalidDefinition, Loc
from shared.domain.filters.budget import FREE_UNITS, charge
from shared.domain.filters.clues import Cover, covers_of
from shared.domain.filters.patterns import pattern_fault
from shared.domain.filters.terms import (
    INVERTING,
    MISSING,
    TESTS,
    Combination,
    Comparison,
    Getter,
    Missing,
    Node,
    Term,
    explain_node,
)
from shared.domain.json_values import is_unicode, whole_number_fault

__all__ = ["MISSING", "Filter", "Getter", "Missing", "Predicate", "Term", "has_operators", "parse_filter"]

MAX_DEPTH: Final = 32
"""How deep expressions, and the values in them, may nest."""
MAX_TERMS: Final = 1_000
"""How many comparisons and combinations a filter may have; also how many faults are reported at most."""
MAX_VALUES: Final = 10_000
"""How many values, members of lists and objects included, all comparisons of a filter may have."""
MAX_PATTERNS: Final = 20
"""How many `$regex` a filter may have."""
MAX_FILTER_CHARS: Final = 256 << 10
"""How long the names of fields and the operands of a filter may be together, as JSON text."""
MAX_FIELD_CHARS: Final = 512
"""How long the name of a field may be, such as `metadata.` and a key: as long as any name."""

T = TypeVar("T")
Predicate: TypeAlias = Callable[[T], bool]


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed filter. Two are equal when they have the same terms in the same order."""

    root: Node

    @property
    def matches_everything(self) -> bool:
        """Whether every subject passes because of the filter's form alone, as with `{}` and `{"$and": []}`."""
        return _fold(self.root) is True

    @property
    def fields(self) -> frozenset[str]:
        """The names of all fields that the filter reads."""
        return frozenset(comparison.field for comparison in _comparisons(self.root))

    @property
    def chars(self) -> int:
        """How long the names of its fields and its operands are together: about a tenth of the bytes that it takes."""
        return sum(len(one.field) + len(one.operand_json) for one in _comparisons(self.root))

    @property
    def patterns(self) -> frozenset[str]:
        """All its regular expressions."""
        return frozenset(
            json.loads(comparison.operand_json) for comparison in _comparisons(self.root) if comparison.op == "$regex"
        )

    @property
    def covers(self) -> tuple[Cover, ...]:
        """Sets of clues: where the filter holds, at least one of each set is true. None where nothing is certain."""
        folded = _fold(self.root)
        return () if isinstance(folded, bool) else covers_of(folded)

    def compile(self, resolve: Callable[[str], Getter[T]]) -> Predicate[T]:
        """The filter as nested closures; `resolve` is called now, once per comparison, never while matching.

        The predicate raises FilterTooCostly where it would take more than is left of the budget that is applied.
        """
        folded = _fold(self.root)
        if isinstance(folded, bool):
            return partial(_always, folded)
        predicate = _compile(folded, resolve)
        beyond = _cost(folded) - FREE_UNITS
        return partial(_counted, beyond, predicate) if beyond > 0 else predicate

    def explain(self, resolve: Callable[[str], Getter[T]], subject: T) -> Term:
        """Evaluate each term on `subject`; the root's `held` is the compiled filter's answer."""
        return explain_node(self.root, resolve, subject)

    def to_json(self) -> dict[str, Any]:
        """The filter as a JSON object in normal form: one key per object, an operator in every comparison.

        Parsing it gives an equal filter. What the W&B SDK sends is in normal form already.
        """
        return _to_json(self.root)


OperandCheck: TypeAlias = Callable[[str, str, Any], Iterable[tuple[tuple[int, ...], str]]]
"""Gives the faults of an operand, by field and operator: each with its place in the operand, and what is accepted."""


def parse_filter(
    expression: object, known_field: Callable[[str], str | None], operand_faults: OperandCheck | None = None
) -> Filter:
    """A filter from a decoded JSON object.

    `known_field` gives None for a field that may be used, otherwise a message with what is accepted. `operand_faults`
    may refuse operands that are well formed.

    Raises:
        InvalidDefinition: with every fault, each at its place in the expression, e.g. `("$or", 0, "alias", "$regex")`.
    """
    parser = _Parser(known_field, operand_faults)
    root = parser.expression(expression, (), 1)
    if parser.faults:
        raise InvalidDefinition(*parser.faults)
    return Filter(root)


def _comparisons(node: Node) -> Iterator[Comparison]:
    if isinstance(node, Comparison):
        yield node
    else:
        for term in node.terms:
            yield from _comparisons(term)


def _cost(node: Node) -> int:
    return sum(comparison.cost for comparison in _comparisons(node))


def _to_json(node: Node) -> dict[str, Any]:
    if isinstance(node, Comparison):
        return {node.field: {node.op: json.loads(node.operand_json)}}
    terms = [_to_json(term) for term in node.terms]
    return {node.op: terms[0] if node.op == "$not" else terms}


def _fold(node: Node) -> Node | bool:
    """The predicate without terms that are always true or always false; a bool when no other term is left."""
    if isinstance(node, Comparison):
        return node
    deciding = node.op != "$and"  # one false term decides an $and, one true term the others
    inverting = node.op in INVERTING
    parts = [_fold(term) for term in node.terms]
    if any(part is deciding for part in parts):
        return deciding is not inverting
    live = tuple(part for part in parts if not isinstance(part, bool))
    if not live:
        return deciding is inverting
    return live[0] if len(live) == 1 and not inverting else Combination(node.op, live)


def _always(answer: bool, _subject: object) -> bool:
    return answer


def _counted(units: int, predicate: Predicate[T], subject: T) -> bool:
    charge(units)
    return predicate(subject)


def _compile(node: Node, resolve: Callable[[str], Getter[T]]) -> Predicate[T]:
    if isinstance(node, Comparison):
        return node.predicate(resolve(node.field))
    deciding = node.op != "$and"
    outcome = deciding is not (node.op in INVERTING)
    return partial(_combine, tuple(_compile(term, resolve) for term in node.terms), deciding, outcome)


def _combine(predicates: tuple[Predicate[T], ...], deciding: bool, outcome: bool, subject: T) -> bool:
    """`outcome` as soon as one predicate answers `deciding`, else its opposite."""
    for term in predicates:
        if term(subject) is deciding:
            return outcome
    return not outcome


_LISTS: Final = ("$and", "$or", "$nor")
_EVERYTHING: Final = Combination("$and", ())
_EXPRESSION: Final = 'must be an object such as {"alias": {"$regex": "^prod"}}'
_OPERATORS: Final = ", ".join([*TESTS, "$not"])
_ORDERED: Final = ((int, float, str), "must be a number or a string")
_ACCEPTED: Final[dict[str, tuple[tuple[type, ...], str]]] = {
    **dict.fromkeys(("$gt", "$gte", "$lt", "$lte"), _ORDERED),
    **dict.fromkeys(("$in", "$nin"), ((list, tuple), "must be a list of values")),
    "$regex": ((str,), "must be a string, an RE2 pattern"),
    "$contains": ((str,), "must be a string"),
    "$exists": ((bool,), "must be true or false"),
}


_as_json: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode
"""Made once: `json.dumps` makes an encoder for each text."""


def has_operators(operand: object) -> TypeGuard[dict[Any, Any]]:
    """Whether an operand is an object of operators, and no value that is an object."""
    return isinstance(operand, dict) and any(str(key).startswith("$") for key in operand)


def _depth_within(members: dict[Any, Any], depth: int) -> int:
    """The depth of the members in normal form, which has an `$and` around several: normal forms are parsed again."""
    return depth + (len(members) > 1)


def _scalar_fault(value: object) -> str | None:
    """Why `value` is no JSON string, number, boolean or null that all parts can encode; None when it is one."""
    if isinstance(value, str):
        return None if is_unicode(value) else "must be valid Unicode text, without lone surrogates"
    if isinstance(value, float):
        return None if math.isfinite(value) else "must be a finite number"
    if isinstance(value, int):
        return whole_number_fault(value)
    return None if value is None else "must be a JSON value: a string, number, true, false, null, list or object"


def _operand_fault(op: str, operand: object) -> str | None:
    types, message = _ACCEPTED.get(op, ((object,), ""))
    if not isinstance(operand, types) or (isinstance(operand, bool) and int in types):
        return message
    return pattern_fault(operand) if op == "$regex" and isinstance(operand, str) else None


class _Parser:
    """Reads one expression and collects its faults; a faulty part is read as matching everything."""

    def __init__(self, known_field: Callable[[str], str | None], operand_faults: OperandCheck | None) -> None:
        self.faults: list[FieldError] = []
        self._known_field = known_field
        self._operand_faults = operand_faults
        self._terms = 0
        self._values = 0
        self._patterns = 0
        self._chars = 0
        self._field_is_known = True
        """Whether the field that is being read may be used."""

    def expression(self, value: object, loc: Loc, depth: int) -> Node:
        if not isinstance(value, dict):
            return self._fault(loc, _EXPRESSION)
        depth = _depth_within(value, depth)
        if self._too_deep(loc, depth):
            return _EVERYTHING
        nodes = [self._member(str(key), operand, (*loc, str(key)), depth) for key, operand in value.items()]
        return self._all_of(nodes)

    def _all_of(self, nodes: list[Node]) -> Node:
        return nodes[0] if len(nodes) == 1 else self._combination("$and", nodes)

    def _combination(self, op: str, nodes: list[Node]) -> Node:
        self._count_term()
        return Combination(op, tuple(nodes))

    def _member(self, key: str, operand: object, loc: Loc, depth: int) -> Node:
        if key in _LISTS:
            return self._list(key, operand, loc, depth)
        if key == "$not":
            return self._combination(key, [self.expression(operand, loc, depth + 1)])
        if key.startswith("$"):
            return self._fault(loc, f"unknown operator; accepted here: {', '.join(_LISTS)}, $not, or a field's name")
        if len(key) > MAX_FIELD_CHARS:
            return self._fault(loc[:-1], f"must not name a field by more than {MAX_FIELD_CHARS} characters")
        faults_before = len(self.faults)
        if refusal := self._known_field(key):
            self._fault(loc, refusal)
        self._field_is_known = len(self.faults) == faults_before
        return self._on_field(key, operand, loc, depth)

    def _list(self, op: str, operand: object, loc: Loc, depth: int) -> Node:
        if not isinstance(operand, (list, tuple)):
            return self._fault(loc, "must be a list of expressions")
        if not operand and op != "$and":
            return self._fault(loc, 'needs at least one expression; {"$and": []} matches everything')
        return self._combination(
            op, [self.expression(term, (*loc, index), depth + 1) for index, term in enumerate(operand)]
        )

    def _on_field(self, field: str, operand: object, loc: Loc, depth: int) -> Node:
        if not has_operators(operand):
            return self._comparison(field, "$eq", operand, loc, depth)
        depth = _depth_within(operand, depth)
        if self._too_deep(loc, depth):
            return _EVERYTHING
        nodes = [self._operator(field, str(op), value, (*loc, str(op)), depth) for op, value in operand.items()]
        return self._all_of(nodes)

    def _operator(self, field: str, op: str, operand: object, loc: Loc, depth: int) -> Node:
        if op in TESTS:
            return self._comparison(field, op, operand, loc, depth)
        if op != "$not":
            return self._fault(loc, f"unknown operator; accepted here: {_OPERATORS}")
        if not has_operators(operand):
            return self._fault(loc, 'must be an object of operators such as {"$regex": "^prod"}')
        return self._combination(op, [self._on_field(field, operand, loc, depth + 1)])

    def _comparison(self, field: str, op: str, operand: object, loc: Loc, depth: int) -> Node:
        self._count_term()
        faults_before = len(self.faults)
        self._value(operand, loc, depth + 1)
        self._count_pattern(op)
        if len(self.faults) == faults_before and (message := _operand_fault(op, operand)):
            self._fault(loc, message)
        if len(self.faults) == faults_before and self._field_is_known and self._operand_faults is not None:
            for place, message in self._operand_faults(field, op, operand):
                self._fault((*loc, *place), message)
        if len(self.faults) > faults_before:
            return _EVERYTHING
        operand_json = _as_json(operand)
        self._count_chars(len(field) + len(operand_json))
        return Comparison(field, op, operand_json)

    def _value(self, value: object, loc: Loc, depth: int) -> None:
        """Collects what keeps `value` from being a JSON value that can be stored and shown everywhere."""
        self._values += 1
        if self._values > MAX_VALUES:
            raise InvalidDefinition(*self.faults, FieldError((), f"must have at most {MAX_VALUES:,} values"))
        if isinstance(value, (list, tuple)):
            members: Iterable[tuple[str | int, object]] = enumerate(value)
        elif isinstance(value, dict):
            if not all(isinstance(key, str) and is_unicode(key) for key in value):
                self._fault(loc, "must have valid Unicode text as member names")
            members = [(str(key), member) for key, member in value.items()]
        else:
            if message := _scalar_fault(value):
                self._fault(loc, message)
            return
        if not self._too_deep(loc, depth):
            for key, member in members:
                self._value(member, (*loc, key), depth + 1)

    def _too_deep(self, loc: Loc, depth: int) -> bool:
        if depth > MAX_DEPTH:
            self._fault(loc, f"must not nest deeper than {MAX_DEPTH} levels")
        return depth > MAX_DEPTH

    def _count_term(self) -> None:
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise InvalidDefinition(*self.faults, FieldError((), f"must have at most {MAX_TERMS:,} terms"))

    def _count_pattern(self, op: str) -> None:
        """Ends before a pattern is compiled that is one too many: compiling takes longest of all."""
        self._patterns += op == "$regex"
        if self._patterns > MAX_PATTERNS:
            message = f"must have at most {MAX_PATTERNS} $regex: one pattern can hold several, as in ^(dev|test)-"
            raise InvalidDefinition(*self.faults, FieldError((), message))

    def _count_chars(self, chars: int) -> None:
        self._chars += chars
        if self._chars > MAX_FILTER_CHARS:
            message = f"must have at most {MAX_FILTER_CHARS:,} characters in names of fields and values"
            raise InvalidDefinition(*self.faults, FieldError((), message))

    def _fault(self, loc: Loc, message: str) -> Node:
        self.faults.append(FieldError(loc, message))
        if len(self.faults) >= MAX_TERMS:
            raise InvalidDefinition(*self.faults)
        return _EVERYTHING
