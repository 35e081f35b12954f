"""A filter's negation normal form: `$and` and `$or` of comparisons and of comparisons in a `$not`, and nothing else.

Two filters with the same normal form match the same events, however they are written. The other way round there is no
promise: nothing is put in order here, and nothing is worked out of operands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from shared.domain.filters.filters import has_operators

Expression = dict[str, Any]

MAX_DEPTH: Final = 100
"""Deeper expressions have no normal form; a filter may nest less deep."""


class NoNormalForm(ValueError):
    """The expression is no filter, or nests deeper than `MAX_DEPTH`."""


def negation_normal_form(expression: Expression) -> Expression:
    """The normal form of a filter in JSON, whose fields and operands need not have been checked.

    `$and` and `$or` alternate and have at least two terms each. A filter that every event passes is `{"$and": []}`, one
    that none passes is `{"$not": {"$and": []}}`; neither is nested in anything.

    Raises:
        NoNormalForm: for an expression that is no filter or nests deeper than `MAX_DEPTH`.
    """
    return _joined("$and", [_term(expression, negated=False, depth=0)])


def same_normal_form(one: Expression, other: Expression) -> bool:
    """Whether two filters have the same normal form, and so match the same events; `1`, `1.0` and `true` all differ."""
    try:
        first, second = negation_normal_form(one), negation_normal_form(other)
    except NoNormalForm:
        return False
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


_EVERYTHING: Final[Expression] = {"$and": []}
_NOTHING: Final[Expression] = {"$not": {"$and": []}}


def _term(expression: object, *, negated: bool, depth: int) -> Expression:
    """An expression of which all members must hold, or its opposite."""
    if depth > MAX_DEPTH or not isinstance(expression, dict):
        raise NoNormalForm
    parts = [_member(key, operand, negated=negated, depth=depth) for key, operand in expression.items()]
    return _joined("$or" if negated else "$and", parts)


def _member(key: str, operand: object, *, negated: bool, depth: int) -> Expression:
    match key, operand:
        case "$not", _:
            return _term(operand, negated=not negated, depth=depth + 1)
        case "$and" | "$or" | "$nor", [*terms]:
            inside = negated is not (key == "$nor")
            joined = "$and" if (key == "$and") is not inside else "$or"
            return _joined(joined, [_term(term, negated=inside, depth=depth + 1) for term in terms])
        case _ if key.startswith("$"):
            raise NoNormalForm
        case _:
            operators = operand if has_operators(operand) else {"$eq": operand}
            return _on_field(key, operators, negated=negated, depth=depth)


def _on_field(field: str, operators: dict[str, Any], *, negated: bool, depth: int) -> Expression:
    """`{"$gt": 1, "$lt": 2}` on one field: a comparison for each operator."""
    if depth > MAX_DEPTH:
        raise NoNormalForm
    parts = []
    for op, operand in operators.items():
        if op == "$not" and has_operators(operand):
            parts.append(_on_field(field, operand, negated=not negated, depth=depth + 1))
        else:
            comparison: Expression = {field: {op: operand}}
            parts.append({"$not": comparison} if negated else comparison)
    return _joined("$or" if negated else "$and", parts)


def _joined(op: str, parts: list[Expression]) -> Expression:
    """The parts in one combination: nested ones of the same kind are unfolded, and neutral ones left out."""
    neutral, deciding = (_EVERYTHING, _NOTHING) if op == "$and" else (_NOTHING, _EVERYTHING)
    terms = [term for part in parts for term in _unfolded(op, part) if term != neutral]
    if deciding in terms:
        return deciding
    if not terms:
        return neutral
    return terms[0] if len(terms) == 1 else {op: terms}


def _unfolded(op: str, part: Expression) -> Iterator[Expression]:
    match part:
        case {**only} if list(only) == [op] and only[op]:
            yield from only[op]
        case _:
            yield part
