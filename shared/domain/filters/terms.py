"""The terms of a filter: their tests of a field's value, and the record of their answers about one subject.

A dry run shows that record to explain why nothing fired. The same tests serve compiled filters, so an explanation
cannot disagree with a match. Terms are checked where they are parsed (`filters.py`), not here; a test must not raise,
whatever the value.
"""

from __future__ import annotations

import json
import math
import operator
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final, TypeAlias, TypeGuard, TypeVar

from shared.domain.filters.budget import charge
from shared.domain.filters.patterns import CALL_UNITS, REMEMBERED_TEXT_CHARS, pattern_of
from shared.domain.visible_text import shortened

MAX_OPERAND_CHARS: Final = 200
"""Longer operands are cut in `Term.text`."""

FEW_ELEMENTS: Final = 16
"""The longest list whose elements are examined without being counted against the event's budget."""
COMPARISON_UNITS: Final = 50
ELEMENT_UNITS: Final = 16
"""The cost of a comparison, and that of each element of a list, in the units of a filter's budget."""

T = TypeVar("T")
Getter: TypeAlias = Callable[[T], object]
"""Reads one field of a subject; gives `MISSING` where the subject has no such field."""
Test: TypeAlias = Callable[[object], bool]
"""Whether a comparison holds for a field's value, or for `MISSING`."""
INVERTING: Final = frozenset({"$not", "$nor"})


class Missing(Enum):
    """The type of `MISSING`, which unlike a bare object stays itself when copied or pickled."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING
"""The value of an absent field; a field that is present and null is None."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One operator on one field. The operand stays JSON text: immutable, and there `true` differs from `1`."""

    field: str
    op: str
    operand_json: str

    def test(self) -> Test:
        """A fresh test for values of the field."""
        return TESTS[self.op](json.loads(self.operand_json))

    def predicate(self, get: Getter[T]) -> Callable[[T], bool]:
        """The test with the reading of the field, in one call where there is a way for the operator and operand.

        These are partial functions and no closures: of many thousands of filters each would hold its own.
        """
        operand = json.loads(self.operand_json)
        if self.op in _ON_TEXT and isinstance(operand, str):
            return partial(_ON_TEXT[self.op], get, operand)
        if self.op in _ORDERS and isinstance(operand, (int, float)):
            return partial(_is_ordered, get, _ORDERS[self.op], operand, TESTS[self.op](operand))
        return partial(_on_field, get, TESTS[self.op](operand))

    @property
    def cost(self) -> int:
        """The part of a test's worst cost that is not counted while matching, in the units of a filter's budget."""
        if self.op == "$regex":
            return CALL_UNITS + REMEMBERED_TEXT_CHARS * pattern_of(json.loads(self.operand_json)).size
        operand = json.loads(self.operand_json)
        compared = operand if self.op in ("$in", "$nin") else [operand]
        # Lists and objects are compared member by member; a number or a text is found in a set in one step.
        structured = [json.dumps(each) for each in compared if isinstance(each, (list, dict))]
        return COMPARISON_UNITS + ELEMENT_UNITS * sum(map(len, structured))

    def __str__(self) -> str:
        return f"{self.field} {self.op} {shortened(self.operand_json, MAX_OPERAND_CHARS)}"


@dataclass(frozen=True, slots=True)
class Combination:
    """`$and`, `$or` or `$nor` of any number of terms, or `$not` of one."""

    op: str
    terms: tuple[Node, ...]

    def holds(self, answers: Iterator[bool]) -> bool:
        """The combination's answer, given its terms'."""
        return all(answers) if self.op == "$and" else any(answers) is not (self.op in INVERTING)


Node: TypeAlias = Comparison | Combination


@dataclass(frozen=True, slots=True)
class Term:
    """The answer of one term of a filter about a subject."""

    text: str
    """`alias $regex "^prod"` for a comparison; the operator alone for `$and`, `$or`, `$nor`, `$not`."""
    held: bool
    """Whether the term was true of the subject."""
    value: object
    """The value a comparison saw; `MISSING` where the subject has no such field, and for a combination."""
    terms: tuple[Term, ...] | None = None
    """The terms of a combination; None for a comparison."""

    def decisive(self) -> Iterator[Term]:
        """The comparisons that made this term hold or fail.

        Of a failed `$and` these are the ones that failed; of a failed `$not`, the ones that held.
        """
        if self.terms is None:
            yield self
            return
        wanted = self.held is not (self.text in INVERTING)
        for term in self.terms:
            if term.held is wanted:
                yield from term.decisive()


def explain_node(node: Node, resolve: Callable[[str], Getter[T]], subject: T) -> Term:
    """Evaluate `node` and every term below it on `subject`, also those that the answer does not depend on."""
    if isinstance(node, Comparison):
        value = resolve(node.field)(subject)
        return Term(str(node), node.test()(value), value)
    terms = tuple(explain_node(term, resolve, subject) for term in node.terms)
    return Term(node.op, node.holds(term.held for term in terms), MISSING, terms)


def _any_element(test: Test) -> Test:
    """A list passes when any element does, or when it does as a whole."""

    def holds(value: object) -> bool:
        if test(value):
            return True
        if not isinstance(value, (list, tuple)):
            return False
        _count_elements(value)
        return any(map(test, value))

    return holds


def _count_elements(value: Sequence[object]) -> None:
    if len(value) > FEW_ELEMENTS:
        charge(len(value) * ELEMENT_UNITS)


def _negate(make: Callable[[Any], Test], operand: object) -> Test:
    test = make(operand)
    return lambda value: not test(value)


def _same(operand: object, value: object) -> bool:
    """Equality of JSON values: true is not 1, 1 is 1.0, a tuple is a list. Recurs no deeper than the operand."""
    if isinstance(operand, bool) or isinstance(value, bool):
        return operand is value
    if isinstance(operand, list):
        if not isinstance(value, (list, tuple)) or len(operand) != len(value):
            return False
        charge(len(operand) * ELEMENT_UNITS)
        return all(map(_same, operand, value))
    if isinstance(operand, dict):
        if not isinstance(value, dict) or len(operand) != len(value):
            return False
        charge(len(operand) * ELEMENT_UNITS)
        return operand.keys() == value.keys() and all(_same(member, value[key]) for key, member in operand.items())
    return operand == value


def _equal_to(operand: object) -> Test:
    if isinstance(operand, str):
        return lambda value: value == operand
    if operand is None:
        return lambda value: value is None or value is MISSING
    return partial(_same, operand)


def _equal(operand: object) -> Test:
    return _any_element(_equal_to(operand))


def _one_of(operands: list[object]) -> Test:
    # Numbers are equal whatever their type, as their keys are; true is not 1.
    scalars: frozenset[Hashable] = frozenset(
        [operand for operand in operands if isinstance(operand, str)]
        + [number_key(operand) for operand in operands if _is_number(operand)]
    )
    others = [_equal_to(operand) for operand in operands if not isinstance(operand, str) and not _is_number(operand)]

    def test(value: object) -> bool:
        if isinstance(value, str):
            return value in scalars
        if _is_number(value):
            return number_key(value) in scalars
        if len(others) > FEW_ELEMENTS:
            charge(len(others) * ELEMENT_UNITS)
        return any(other(value) for other in others)

    return _any_element(test)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_MODULUS: Final = sys.hash_info.modulus


def number_key(number: float) -> Hashable:
    """A number as a key of sets and dictionaries: equal numbers have equal keys.

    Python's hash of a number is its remainder by 2^61 - 1, so anybody can write thousands of whole numbers that share
    one, and make a set of them, and each look into it, take as many comparisons. Hashes of texts can't be foreseen.
    """
    if -_MODULUS < number < _MODULUS or (not isinstance(number, int) and not math.isfinite(number)):
        return number
    return int, hex(int(number))


def _order_test(compare: Callable[[Any, Any], bool], operand: float | str) -> Test:
    if isinstance(operand, str):
        return _any_element(lambda value: isinstance(value, str) and compare(value, operand))
    return _any_element(lambda value: _is_finite_number(value) and compare(value, operand))


def _is_finite_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -math.inf < value < math.inf


def _regex(pattern: str) -> Test:
    return partial(_occurs, pattern)


def _contains(part: str) -> Test:
    def test(value: object) -> bool:
        if not isinstance(value, str):
            return False
        if len(value) > REMEMBERED_TEXT_CHARS:
            charge(len(value))
        return part in value

    return _any_element(test)


def _exists(wanted: bool) -> Test:
    return lambda value: (value is not MISSING) is wanted


def _on_field(get: Getter[T], test: Test, subject: T) -> bool:
    return test(get(subject))


def _is_ordered(
    get: Getter[T], compare: Callable[[Any, Any], bool], operand: float, otherwise: Test, subject: T
) -> bool:
    """Compare a float, as metrics mostly are, directly; any other value by the test, which checks its type."""
    value = get(subject)
    if value.__class__ is float:
        return compare(value, operand) and -math.inf < value < math.inf
    return otherwise(value)


def _is_text(get: Getter[T], operand: str, subject: T) -> bool:
    value = get(subject)
    return value == operand or (isinstance(value, (list, tuple)) and _is_among(operand, value))


def _is_not_text(get: Getter[T], operand: str, subject: T) -> bool:
    value = get(subject)
    return value != operand and not (isinstance(value, (list, tuple)) and _is_among(operand, value))


def _is_among(operand: str, value: Sequence[object]) -> bool:
    _count_elements(value)
    return operand in value


def _has_pattern(get: Getter[T], pattern: str, subject: T) -> bool:
    return _occurs(pattern, get(subject))


def _occurs(pattern: str, value: object) -> bool:
    if isinstance(value, str):
        return pattern_of(pattern).occurs(value)
    if not isinstance(value, (list, tuple)):
        return False
    searched = pattern_of(pattern)
    if len(value) > FEW_ELEMENTS:
        charge(len(value) * (CALL_UNITS + REMEMBERED_TEXT_CHARS * searched.size))
    return any(isinstance(element, str) and searched.occurs(element) for element in value)


# Patterns are looked up where they are searched for, so that only those in use take memory.
_ON_TEXT: Final[dict[str, Callable[[Any, str, Any], bool]]] = {
    "$eq": _is_text,
    "$ne": _is_not_text,
    "$regex": _has_pattern,
}
_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
TESTS: Final[dict[str, Callable[[Any], Test]]] = {
    "$eq": _equal,
    "$ne": partial(_negate, _equal),
    **{op: partial(_order_test, compare) for op, compare in _ORDERS.items()},
    "$in": _one_of,
    "$nin": partial(_negate, _one_of),
    "$regex": _regex,
    "$contains": _contains,
    "$exists": _exists,
}
"""By comparison operator, how a checked operand becomes a test."""
