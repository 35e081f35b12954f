"""Filters: parsed and compiled ones answer as a plain reading of the expression does, and so do their explanations.

Patterns are judged by sets of positions, which no pattern can make slow, and only where RE2 and Python read the same
syntax.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import strategies as st

from shared.domain.errors import InvalidDefinition
from shared.domain.filters.budget import EVENT_UNITS, FilterBudget, FilterTooCostly
from shared.domain.filters.filters import MISSING, Filter, Getter, parse_filter
from shared.domain.filters.terms import Term
from shared.domain.json_values import is_unicode
from tests.fuzz.naive_patterns import Unsure, occurs
from tests.fuzz.oracles import check_refusal, in_time, members_of
from tests.fuzz.strategies import as_json, json_values
from tests.fuzz.target import Target

FIELDS = ("alias", "tags", "count", "metadata.k")
Subject = dict[str, Any]


def check(data: bytes) -> None:
    """`{"filter": …, "subject": {field: value}}`."""
    members = members_of(data)
    expression, subject = members.get("filter"), members.get("subject")
    if not isinstance(subject, dict):
        subject = {}
    with in_time(data):
        try:
            parsed = parse_filter(expression, _known)
        except InvalidDefinition as refusal:
            check_refusal(refusal, expression)
            return
        predicate = parsed.compile(_getter)
        answer = predicate(subject)
        explained = parsed.explain(_getter, subject)
    _check_budget(predicate, subject, answer)
    _check_round_trip(parsed)
    assert explained.held is answer
    assert _recombined(explained) is answer
    assert answer or not parsed.matches_everything
    assert parsed.fields <= set(FIELDS)
    try:
        expected = holds(expression, subject)
    except Unsure:
        return
    assert answer is expected


def _known(name: str) -> str | None:
    return None if name in FIELDS else f"accepted: {', '.join(FIELDS)}"


def _getter(name: str) -> Getter[Subject]:
    return lambda subject: subject.get(name, MISSING)


def _check_budget(predicate: Callable[[Subject], bool], subject: Subject, answer: bool) -> None:
    """Whatever is left of a budget, a filter answers as it would without one, or not at all."""
    for units in (0, 1_000, 100_000, EVENT_UNITS):
        budget = FilterBudget(units)
        with budget.applied(), suppress(FilterTooCostly):
            assert predicate(subject) is answer
        assert 0 <= budget.left <= units


def _check_round_trip(parsed: Filter) -> None:
    normal = json.loads(json.dumps(parsed.to_json()))
    again = parse_filter(normal, _known)
    assert again == parsed
    assert again.to_json() == normal


def _recombined(term: Term) -> bool:
    """What the terms below say together."""
    assert all(one.terms is None for one in term.decisive())
    if term.terms is None:
        return term.held
    answers = [_recombined(inner) for inner in term.terms]
    combined = all(answers) if term.text == "$and" else any(answers) is (term.text == "$or")
    assert combined is term.held
    return combined


def holds(expression: Any, subject: Subject) -> bool:
    """An accepted expression's answer, read off the raw JSON. Raises Unsure where a pattern's meaning is not plain."""
    answers = [_member_holds(key, operand, subject) for key, operand in expression.items()]
    return all(answers)


def _member_holds(key: str, operand: Any, subject: Subject) -> bool:
    if key == "$not":
        return not holds(operand, subject)
    if key in ("$and", "$or", "$nor"):
        answers = [holds(term, subject) for term in operand]
        return all(answers) if key == "$and" else any(answers) is (key == "$or")
    return _field_holds(operand, subject.get(key, MISSING))


def _field_holds(operand: Any, value: Any) -> bool:
    if isinstance(operand, dict) and any(op.startswith("$") for op in operand):
        answers = [_operator_holds(op, wanted, value) for op, wanted in operand.items()]
        return all(answers)
    return _operator_holds("$eq", operand, value)


def _operator_holds(op: str, operand: Any, value: Any) -> bool:
    if op == "$not":
        return not _field_holds(operand, value)
    if op == "$exists":
        return (value is not MISSING) is operand
    if op in ("$ne", "$nin"):
        return not _operator_holds("$eq" if op == "$ne" else "$in", operand, value)
    one = _ONE[op]
    against = [value, *value] if isinstance(value, list) else [value]
    answers = [one(operand, item) for item in against]
    return any(answers)


def _equal(operand: Any, value: Any) -> bool:
    if operand is None:
        return value is None or value is MISSING
    return _same(operand, value)


def _same(left: Any, right: Any) -> bool:
    if _kind(left) != _kind(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(_same(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, dict):
        return sorted(left) == sorted(right) and all(_same(left[key], right[key]) for key in left)
    return bool(left == right)


def _kind(value: Any) -> type:
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def one(operand: Any, value: Any) -> bool:
        if _kind(operand) is not _kind(value) or value in (math.inf, -math.inf):
            return False
        return compare(value, operand)

    return one


def _matches(pattern: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    if not is_unicode(value):
        raise Unsure
    return occurs(pattern, value)


_ONE: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": _equal,
    "$in": lambda operand, value: any(_equal(one, value) for one in operand),
    "$gt": _ordered(operator.gt),
    "$gte": _ordered(operator.ge),
    "$lt": _ordered(operator.lt),
    "$lte": _ordered(operator.le),
    "$regex": _matches,
    "$contains": lambda operand, value: isinstance(value, str) and operand in value,
}

OPERATORS = (*_ONE, "$ne", "$nin", "$exists", "$not")
WORDS = (
    *FIELDS,
    *OPERATORS,
    *("$and", "$or", "$nor", "^prod", "prod", "(a|b)*c", "[^a-c]+$", "a??b", "v[0-9]", "(?i)prod", "\\d\\w\\s", "."),
)
_patterns = st.text(alphabet="ab.*+?|()[]^$-", max_size=8)
_operands = {
    "$in": st.lists(json_values, max_size=4),
    "$nin": st.lists(json_values, max_size=4),
    "$regex": _patterns,
    "$contains": st.text(alphabet="ab", max_size=2),
    "$exists": st.booleans(),
}
_comparison = st.one_of(
    json_values,
    *(
        st.fixed_dictionaries({op: _operands.get(op, json_values)})
        for op in OPERATORS
        if op not in ("$not",)
    ),
)  # fmt: skip
_expressions = st.recursive(
    st.dictionaries(st.sampled_from(FIELDS), _comparison | st.fixed_dictionaries({"$not": _comparison}), max_size=3),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$not": inner}),
        *(st.fixed_dictionaries({op: st.lists(inner, min_size=1, max_size=3)}) for op in ("$and", "$or", "$nor")),
    ),
    max_leaves=6,
)
_subjects = st.dictionaries(st.sampled_from(FIELDS), json_values | st.text(alphabet="abc\n", max_size=6), max_size=4)

TARGET = Target(
    check,
    inputs=as_json(st.fixed_dictionaries({"filter": _expressions, "subject": _subjects}), WORDS),
    words=WORDS,
)
