"""The filter language: its operators, its refusals, and its agreement with a separate reference evaluator."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.filters.filters import (
    MAX_DEPTH,
    MAX_TERMS,
    MAX_VALUES,
    MISSING,
    Filter,
    Getter,
    Predicate,
    Term,
    parse_filter,
)
from shared.domain.filters.patterns import MAX_PATTERN_CHARS, REMEMBERED_TEXT_CHARS, pattern_fault, pattern_of

Subject = Mapping[str, object]
FIELDS = ("alias", "aliases", "count")


def known_field(name: str) -> str | None:
    return None if name in FIELDS else f"no field {name!r}; accepted: {', '.join(FIELDS)}"


def resolve(name: str) -> Getter[Subject]:
    return lambda subject: subject.get(name, MISSING)


def parsed(expression: object) -> Filter:
    return parse_filter(expression, known_field)


def compiled(expression: object) -> Predicate[Subject]:
    return parsed(expression).compile(resolve)


def faults(expression: object) -> tuple[FieldError, ...]:
    with pytest.raises(InvalidDefinition) as refused:
        parsed(expression)
    return refused.value.errors


ABSENT: Any = MISSING


@pytest.mark.parametrize(
    ("comparison", "holds_for", "fails_for"),
    [
        (
            "prod",
            ["prod", ["v1", "prod"], ("prod",)],
            ["production", "Prod", "", None, ABSENT, [], [["prod"]], {"prod": 1}],
        ),
        ({"$eq": 1}, [1, 1.0, [0, 1]], [True, "1", 2, None, ABSENT, math.nan, [True]]),
        ({"$eq": True}, [True, [False, True]], [1, 1.0, "true", False, None, ABSENT, [1]]),
        ({"$eq": False}, [False], [0, 0.0, "", None, ABSENT, []]),
        ({"$eq": None}, [None, ABSENT, [None, 1]], [0, False, "", [], {}]),
        ({"$eq": ["a", 1]}, [["a", 1], ("a", 1.0), [["a", 1]]], [["a"], ["a", True], [1, "a"], "a", ABSENT]),
        ({"$eq": []}, [[], (), [[]]], [ABSENT, None, "", ["a"]]),
        (
            {"$eq": {"k": [1]}},
            [{"k": [1]}, {"k": (1.0,)}, [{"k": [1]}]],
            [{"k": [True]}, {"k": [1], "l": 2}, {}, "k", ABSENT],
        ),
        ({"k": 1, "l": None}, [{"l": None, "k": 1}], [{"k": 1}, {"k": 1, "l": 0}]),
        ({}, [{}, [{}]], [ABSENT, None, {"k": 1}, []]),
        ({"$ne": "prod"}, ["x", None, ABSENT, [], ["v1"], 1], ["prod", ["v1", "prod"]]),
        ({"$ne": None}, [0, "", []], [None, ABSENT, [None]]),
        ({"$ne": 1}, [True, "1", [True]], [1, 1.0, [2, 1]]),
        ({"$gt": 5}, [6, 5.5, 10**400, [1, 6]], [5, True, "6", None, ABSENT, math.inf, math.nan, [5], {"k": 6}]),
        ({"$gte": 5}, [5, 5.0, 6], [4.999, math.inf, "5", [[5]]]),
        ({"$lt": 5}, [4, -(10**400), 0.1], [5, False, -math.inf, math.nan, None, ABSENT, "4"]),
        ({"$lte": 5.5}, [5.5, 5], [5.6, -math.inf, True]),
        ({"$gt": "b"}, ["ba", "c", "é", ["a", "c"]], ["b", "B", "", 5, None, ABSENT]),
        ({"$lt": "\U0001f600"}, ["\uffff", "z"], ["\U0001f601"]),  # by code point, not by UTF-16 unit
        ({"$lte": "b"}, ["b", "B", ""], ["ba", 1, ABSENT]),
        ({"$gte": "b"}, ["b", "c"], ["a", None]),
        ({"$in": ["a", 1, None]}, ["a", 1.0, None, ABSENT, ["x", "a"]], ["b", True, [], ["x"]]),
        ({"$in": [["a"], True, {"k": 1}]}, [["a"], True, [True], {"k": 1}], ["a", 1, False, ["b"], {"k": True}]),
        ({"$in": []}, [], ["a", None, ABSENT, []]),
        ({"$nin": ["a", 1]}, ["b", True, None, ABSENT, [], ["b"]], ["a", 1, 1.0, ["b", "a"]]),
        ({"$nin": []}, ["a", None, ABSENT], []),
        (
            {"$regex": "^prod(uction)?$"},
            ["prod", "production", ["v1", "prod"]],
            ["prod-eu", "prod\n", None, ABSENT, 1, []],
        ),
        ({"$regex": "o"}, ["prod"], ["", "PROD"]),
        ({"$regex": "(?i)PROD"}, ["a prod b"], ["pro"]),
        ({"$regex": ""}, ["", "x"], [None, 0, ABSENT, [1]]),
        ({"$regex": "^.é.$"}, ["aéb"], ["aeb", "aéé b"]),
        ({"$regex": "v"}, ["v\ud800"], ["\ud800", "\ud800" * REMEMBERED_TEXT_CHARS]),
        ({"$contains": "ro"}, ["prod", ["v1", "pro"]], ["pRod", "", None, 1, ABSENT, ["r", "o"], {"ro": 1}]),
        ({"$contains": ""}, ["", "x", [""]], [None, ABSENT, []]),
        ({"$exists": True}, [None, "", 0, [], False], [ABSENT]),
        ({"$exists": False}, [ABSENT], [None, "", [], False]),
        ({"$not": {"$regex": "^prod"}}, ["x", None, ABSENT, []], ["prod", ["v1", "prod"]]),
        ({"$not": {"$gt": 1, "$lt": 5}}, [1, 5, "3"], [2, 4]),
        ({"$not": {"$not": {"$gt": 1}}}, [2], [1, ABSENT]),
        ({"$gt": 1, "$lt": 5}, [3, [0, 6]], [1, 5, 7]),  # each operator may be met by another element
    ],
)
def test_comparison(comparison: object, holds_for: list[object], fails_for: list[object]) -> None:
    holds = compiled({"alias": comparison})

    def subject(value: object) -> Subject:
        return {} if value is MISSING else {"alias": value}

    assert [value for value in holds_for if not holds(subject(value))] == []
    assert [value for value in fails_for if holds(subject(value))] == []


A, B = {"alias": "a"}, {"count": 1}


@pytest.mark.parametrize(
    ("expression", "neither", "only_a", "both"),
    [
        ({}, True, True, True),
        ({"$and": []}, True, True, True),
        ({"$or": [{"$and": []}]}, True, True, True),
        ({"$or": [{"$and": [{}]}]}, True, True, True),
        ({"$nor": [{}]}, False, False, False),
        ({"$not": {}}, False, False, False),
        ({"$not": {"$not": {}}}, True, True, True),
        ({"$or": [A, {}]}, True, True, True),
        ({"$or": [A, {"$not": {}}]}, False, True, True),
        ({"$and": [A, {}]}, False, True, True),
        ({"$and": [A, {"$nor": [{}]}]}, False, False, False),
        ({"$nor": [A, {"$not": {}}]}, True, False, False),
        ({"$and": [A, B]}, False, False, True),
        (A | B, False, False, True),
        ({"$or": [A, B]}, False, True, True),
        ({"$nor": [A, B]}, True, False, False),
        ({"$not": A}, True, False, False),
        ({"$not": A | B}, True, True, False),
        ({"$not": {"$not": A}}, False, True, True),
        (A | {"$not": B}, False, True, False),
        ({"$or": [{"$and": [{"$or": [A, B]}]}]}, False, True, True),
    ],
)
def test_combination(expression: object, neither: bool, only_a: bool, both: bool) -> None:
    holds = compiled(expression)
    assert [holds({}), holds({"alias": "a"}), holds({"alias": "a", "count": 1})] == [neither, only_a, both]
    assert parsed(expression).matches_everything is (neither and only_a and both)


def test_constant_parts_cost_nothing_when_matching() -> None:
    read: list[str] = []

    def recording(name: str) -> Getter[Subject]:
        read.append(name)
        return resolve(name)

    assert parsed({"$or": [A, {}]}).compile(recording)({})
    assert read == []
    holds = parsed({"$or": [{"$and": [A, {}]}]}).compile(recording)
    assert (holds({"alias": "a"}), holds({"alias": "b"})) == (True, False)
    assert read == ["alias"]


NESTED_NOT: Any = {"$regex": "x"}
for _ in range(MAX_DEPTH):
    NESTED_NOT = {"$not": NESTED_NOT}


NESTED_LISTS: Any = A
for _ in range(MAX_DEPTH):
    NESTED_LISTS = {"$and": [NESTED_LISTS]}


def nested(depth: int) -> dict[str, Any]:
    expression: dict[str, Any] = {}
    for _ in range(depth - 1):
        expression = {"$not": expression}
    return expression


@pytest.mark.parametrize(
    ("expression", "loc", "words"),
    [
        ('{"alias": "a"}', (), "must be an object such as"),
        (None, (), "must be an object"),
        ([A], (), "must be an object"),
        ({"$and": A}, ("$and",), "must be a list of expressions"),
        ({"$and": [A, "b"]}, ("$and", 1), "must be an object"),
        ({"$or": []}, ("$or",), 'needs at least one expression; {"$and": []} matches everything'),
        ({"$nor": []}, ("$nor",), "needs at least one expression"),
        ({"$not": [A]}, ("$not",), "must be an object"),
        ({"$weird": 1}, ("$weird",), "unknown operator; accepted here: $and, $or, $nor, $not, or a field's name"),
        ({"$eq": 1}, ("$eq",), "unknown operator; accepted here: $and"),
        ({"nope": 1}, ("nope",), "no field 'nope'; accepted: alias, aliases, count"),
        ({7: 1}, ("7",), "no field '7'"),
        (
            {"alias": {"$weird": 1}},
            ("alias", "$weird"),
            "unknown operator; accepted here: "
            "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $regex, $contains, $exists, $not",
        ),
        ({"alias": {"$or": [{"$eq": 1}]}}, ("alias", "$or"), "unknown operator"),
        ({"alias": {"$eq": 1, "k": 2}}, ("alias", "k"), "unknown operator"),
        ({"alias": {"$not": "a"}}, ("alias", "$not"), "must be an object of operators"),
        ({"alias": {"$not": {"k": 1}}}, ("alias", "$not"), "must be an object of operators"),
        ({"alias": {"$not": {"$size": 1}}}, ("alias", "$not", "$size"), "unknown operator"),
        ({"alias": {"$regex": 5}}, ("alias", "$regex"), "must be a string, an RE2 pattern"),
        ({"alias": {"$regex": "("}}, ("alias", "$regex"), "must be a valid RE2 pattern: missing )"),
        ({"alias": {"$not": {"$regex": "["}}}, ("alias", "$not", "$regex"), "missing ]"),
        ({"alias": {"$in": "a"}}, ("alias", "$in"), "must be a list of values"),
        ({"alias": {"$nin": {"a": 1}}}, ("alias", "$nin"), "must be a list of values"),
        ({"alias": {"$exists": 1}}, ("alias", "$exists"), "must be true or false"),
        ({"alias": {"$contains": ["a"]}}, ("alias", "$contains"), "must be a string"),
        ({"count": {"$gt": True}}, ("count", "$gt"), "must be a number or a string"),
        ({"count": {"$gte": None}}, ("count", "$gte"), "must be a number or a string"),
        ({"count": {"$lt": [1]}}, ("count", "$lt"), "must be a number or a string"),
        ({"count": {"$lte": {}}}, ("count", "$lte"), "must be a number or a string"),
        ({"count": {"$gt": math.nan}}, ("count", "$gt"), "must be a finite number"),
        ({"count": -math.inf}, ("count",), "must be a finite number"),
        ({"count": {"$in": [1, math.inf]}}, ("count", "$in", 1), "must be a finite number"),
        ({"count": {"k": [0, math.nan]}}, ("count", "k", 1), "must be a finite number"),
        ({"count": 10**4000}, ("count",), "at most 4000 digits"),
        ({"alias": "\ud800"}, ("alias",), "valid Unicode"),
        ({"alias": {"\ud800": 1}}, ("alias",), "valid Unicode"),
        ({"alias": {"k": {3: 1}}}, ("alias", "k"), "member names"),
        ({"alias": b"a"}, ("alias",), "must be a JSON value"),
        ({"alias": {"$in": [{"a", "b"}]}}, ("alias", "$in", 0), "must be a JSON value"),
        (nested(MAX_DEPTH + 1), ("$not",) * MAX_DEPTH, "must not nest deeper than 32 levels"),
        (NESTED_LISTS, ("$and", 0) * MAX_DEPTH, "must not nest deeper"),
        ({"alias": NESTED_NOT}, ("alias",) + ("$not",) * MAX_DEPTH, "must not nest deeper"),
        (
            {"alias": json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)},
            ("alias",) + (0,) * (MAX_DEPTH - 1),
            "must not nest",
        ),
        ({"$or": [A] * MAX_TERMS}, (), "must have at most 1,000 terms"),
        ({"alias": {"$in": [1] * MAX_VALUES}}, (), "must have at most 10,000 values"),
    ],
)
def test_refusal(expression: object, loc: tuple[str | int, ...], words: str) -> None:
    (fault,) = faults(expression)
    assert fault.loc == loc
    assert words in fault.msg


def test_all_faults_are_reported_at_once() -> None:
    expression = {
        "$or": [{"alias": {"$regex": "(?=a)", "$in": 3}}, {"nope": {"$gt": math.nan}}],
        "$size": 1,
        "count": {"$exists": "yes"},
    }
    assert [fault.loc for fault in faults(expression)] == [
        ("$or", 0, "alias", "$regex"),
        ("$or", 0, "alias", "$in"),
        ("$or", 1, "nope"),
        ("$or", 1, "nope", "$gt"),
        ("$size",),
        ("count", "$exists"),
    ]


def test_limits_are_inclusive() -> None:
    assert parsed(nested(MAX_DEPTH)) == parsed(nested(MAX_DEPTH))
    terms = parsed({"$or": [{"alias": str(index)} for index in range(MAX_TERMS - 1)]})
    holds = terms.compile(resolve)
    assert (holds({"alias": str(MAX_TERMS - 2)}), holds({"alias": "x"})) == (True, False)
    assert compiled({"count": {"$in": list(range(MAX_VALUES - 1))}})({"count": MAX_VALUES - 2})
    assert compiled({"count": {"$in": [2**64 - 1, -(2**63)]}})({"count": -(2**63)})


@pytest.mark.parametrize("junk", [["x"] * 5_000, [{"$weird": 1}] * 5_000, [{"nope": 1}] * 5_000, [{}] * 5_000])
def test_a_flood_of_faults_is_cut(junk: list[object]) -> None:
    assert len(faults({"$and": junk})) <= MAX_TERMS


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(?=a)", "look-ahead and look-behind are not available"),
        ("a(?!b)", "look-ahead and look-behind are not available"),
        ("(?<=a)b", "look-ahead and look-behind are not available"),
        ("(?<!a)b", "look-ahead and look-behind are not available"),
        (r"(a)\1", "back-references are not available"),
        (r"(?P<n>a)(?P=n)", "back-references are not available"),
        (r"(?<n>a)\k<n>", "back-references are not available"),
        ("a**", "bad repetition operator: **"),
        ("a{2000}", "invalid repetition size: {2000}"),
        ("[z-a]", "invalid character class range: z-a"),
        (r"(\pL{1,10}){30}", "grows too large"),
        ("é(", "missing )"),
        ("x" * (MAX_PATTERN_CHARS + 1), "at most 1,000 characters, not 1,001"),
        ("\udfff", "valid Unicode"),
    ],
)
def test_refused_pattern(pattern: str, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert words in (pattern_fault(pattern) or "")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("pattern", ["", "^prod-.*$", "x" * MAX_PATTERN_CHARS, r"\d+\pL", "(?i)é", "(?P<n>a)", "a|b|"])
def test_accepted_pattern(pattern: str) -> None:
    assert pattern_fault(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "text", "occurs"),
    [
        ("(a+)+$", "a" * 100_000 + "!", False),
        ("(a+)+$", "a" * 100_000, True),
        ("(x*)*y", "x" * 100_000, False),
        ("(x*)*y", "x" * 100_000 + "y", True),
        ("^(([a-z])+.)+[A-Z]([a-z])+$", "a" * 100_000, False),
        (".*.*.*=.*", "x" * 100_000, False),
        ("(.|[^b]){1,100}z$", "ab" * 50_000, False),
    ],
)
def test_hostile_pattern_ends(pattern: str, text: str, occurs: bool) -> None:
    assert compiled({"alias": {"$regex": pattern}})({"alias": text}) is occurs


def test_remembered_answers_stay_right() -> None:
    occurs = pattern_of("7$").occurs
    texts = [str(number) for number in range(500)] * 2 + ["x" * REMEMBERED_TEXT_CHARS + "7"]
    assert [text for text in texts if occurs(text) is not text.endswith("7")] == []


def test_explanation_names_the_refusing_term_and_its_value() -> None:
    rule = parsed({"$and": [{"alias": {"$regex": "^prod"}}, {"$or": [{"count": {"$gt": 3}}, {"aliases": "v1"}]}]})
    explanation = rule.explain(resolve, {"alias": "production", "count": 2})
    assert explanation == Term(
        "$and",
        False,
        MISSING,
        (
            Term('alias $regex "^prod"', True, "production"),
            Term("$or", False, MISSING, (Term("count $gt 3", False, 2), Term('aliases $eq "v1"', False, MISSING))),
        ),
    )
    assert [term.text for term in explanation.decisive()] == ["count $gt 3", 'aliases $eq "v1"']


@pytest.mark.parametrize(
    ("expression", "held", "decisive"),
    [
        ({"alias": "a"}, True, ['alias $eq "a"']),
        ({"alias": {"$not": {"$regex": "é"}}}, True, ['alias $regex "é"']),
        ({"$not": {"$or": [A, {"alias": "b"}]}}, False, ['alias $eq "a"']),
        ({"$nor": [A, {"alias": "b"}]}, False, ['alias $eq "a"']),
        ({"$nor": [{"alias": "c"}, {"alias": "b"}]}, True, ['alias $eq "c"', 'alias $eq "b"']),
        ({"$or": [A, {"alias": "b"}]}, True, ['alias $eq "a"']),
        ({"$and": []}, True, []),
        ({"$not": {}}, False, []),
    ],
)
def test_decisive_terms(expression: object, held: bool, decisive: list[str]) -> None:
    explanation = parsed(expression).explain(resolve, {"alias": "a"})
    assert explanation.held is held
    assert [term.text for term in explanation.decisive()] == decisive


def test_overlong_operand_is_cut_in_the_explanation() -> None:
    explanation = parsed({"alias": {"$in": ["x" * 50] * 50}}).explain(resolve, {"alias": "y"})
    assert len(explanation.text) < 250
    assert explanation.text.endswith("…")


@pytest.mark.parametrize(
    "expression",
    [
        {"$or": [{"$and": []}]},
        {"$or": [{"$and": [{"alias": {"$eq": "prod"}}]}]},
        {"$or": [{"$and": [{"alias": {"$regex": "^prod-.*$"}}, {"$not": {"aliases": {"$eq": "a"}}}]}]},
        {"$or": [{"$and": [{"$or": [{"alias": {"$in": ["a", "b"]}}, {"alias": {"$eq": ["a", "b"]}}]}]}]},
        {"$and": [{"alias": {"$contains": "abc"}}, {"$nor": [{"count": {"$lte": 3}}]}]},
    ],
)
def test_what_the_wandb_sdk_sends_is_in_normal_form(expression: dict[str, Any]) -> None:
    assert parsed(expression).to_json() == expression


@pytest.mark.parametrize(
    ("expression", "normal"),
    [
        ({}, {"$and": []}),
        ({"alias": "a"}, {"alias": {"$eq": "a"}}),
        ({"alias": ("a",)}, {"alias": {"$eq": ["a"]}}),
        ({"alias": "a", "count": 1}, {"$and": [{"alias": {"$eq": "a"}}, {"count": {"$eq": 1}}]}),
        ({"count": {"$gt": 1, "$lt": 5}}, {"$and": [{"count": {"$gt": 1}}, {"count": {"$lt": 5}}]}),
        ({"alias": {"$not": {"$regex": "x"}}}, {"$not": {"alias": {"$regex": "x"}}}),
    ],
)
def test_normal_form(expression: object, normal: object) -> None:
    assert parsed(expression).to_json() == normal


def test_filters_are_values() -> None:
    operand = ["a"]
    rule = parsed({"alias": {"$in": operand}})
    operand.append("b")
    rule.to_json()["alias"]["$in"].append("c")
    assert rule == parsed({"alias": {"$in": ["a"]}})
    assert hash(rule) == hash(parsed({"alias": {"$in": ["a"]}}))
    assert parsed({"count": 1}) != parsed({"count": True})
    assert parsed({"count": {"k": 1, "l": 2}}) == parsed({"count": {"l": 2, "k": 1}})
    assert copy.deepcopy(rule) == rule
    assert copy.deepcopy(MISSING) is MISSING


def test_fields() -> None:
    rule = parsed({"$or": [{"alias": "a"}, {"$not": {"count": {"$gt": 1, "$lt": 3}}}, {}]})
    assert rule.fields == {"alias", "count"}
    assert parsed({}).fields == frozenset()


# Properties. The reference below walks the expression as written and shares nothing with the code under test.

SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([-1.0, 0.5, 1.0, 2.0]),
    st.text("abc", max_size=3),
)
JSON_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("kl"), inner, max_size=2),
    max_leaves=4,
)
PATTERNS = st.builds(
    lambda start, atoms, end: start + "".join(atoms) + end,
    st.sampled_from(["", "^"]),
    st.lists(st.sampled_from(["a", "b", "c", ".", "[ab]", "[^a]", "a*", "b+", "c?", "(ab|c)"]), max_size=4),
    st.sampled_from(["", "$"]),
)
ORDERABLE = st.one_of(st.integers(-2, 2), st.sampled_from([-1.0, 0.5, 1.0]), st.text("abc", max_size=2))
OPERATORS: dict[str, st.SearchStrategy[Any]] = {
    "$eq": JSON_VALUES,
    "$ne": JSON_VALUES,
    "$gt": ORDERABLE,
    "$gte": ORDERABLE,
    "$lt": ORDERABLE,
    "$lte": ORDERABLE,
    "$in": st.lists(JSON_VALUES, max_size=3),
    "$nin": st.lists(JSON_VALUES, max_size=3),
    "$regex": PATTERNS,
    "$contains": st.text("abc", max_size=2),
    "$exists": st.booleans(),
}
COMPARISONS = st.fixed_dictionaries({}, optional=OPERATORS).filter(bool)
NEGATABLE = COMPARISONS | st.builds(lambda inner: {"$not": inner}, COMPARISONS)
EXPRESSIONS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(st.sampled_from(FIELDS), NEGATABLE | JSON_VALUES, max_size=2),
    lambda inner: st.one_of(
        st.builds(lambda terms: {"$and": terms}, st.lists(inner, max_size=3)),
        st.builds(lambda terms: {"$or": terms}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda terms: {"$nor": terms}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda term, more: {**more, "$not": term}, inner, inner),
    ),
    max_leaves=5,
)
VALUES = JSON_VALUES | st.sampled_from([math.nan, math.inf, -math.inf, ("a", "b"), (1, True)])
SUBJECTS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(st.sampled_from(FIELDS), VALUES)


def reference(expression: dict[str, Any], subject: Subject) -> bool:
    return all(reference_member(key, operand, subject) for key, operand in expression.items())


def reference_member(key: str, operand: Any, subject: Subject) -> bool:
    match key:
        case "$and":
            return all(reference(term, subject) for term in operand)
        case "$or":
            return any(reference(term, subject) for term in operand)
        case "$nor":
            return not any(reference(term, subject) for term in operand)
        case "$not":
            return not reference(operand, subject)
    if isinstance(operand, dict) and any(name.startswith("$") for name in operand):
        return all(reference_operator(op, wanted, key, subject) for op, wanted in operand.items())
    return reference_operator("$eq", operand, key, subject)


def reference_operator(op: str, wanted: Any, field: str, subject: Subject) -> bool:
    value = subject.get(field)
    match op:
        case "$exists":
            return (field in subject) is wanted
        case "$ne":
            return not reference_operator("$eq", wanted, field, subject)
        case "$nin":
            return not reference_operator("$in", wanted, field, subject)
        case "$not":
            return not reference_member(field, wanted, subject)
    candidates = [value, *value] if isinstance(value, list | tuple) else [value]
    return any(REFERENCE[op](candidate, wanted) for candidate in candidates)


def canonical(value: object) -> str:
    """Text that tells apart exactly the JSON values that differ: true from 1, but not 1 from 1.0."""
    if isinstance(value, list | tuple):
        return f"[{','.join(canonical(member) for member in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{canonical(value[key])}' for key in sorted(value))}}}"
    return repr(float(value)) if type(value) is int else repr(value)


def comparable(value: object, wanted: object) -> bool:
    if type(value) is str or type(wanted) is str:
        return type(value) is type(wanted)
    return type(value) in (int, float) and math.isfinite(float(str(value)))


REFERENCE: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda value, wanted: canonical(value) == canonical(wanted),
    "$in": lambda value, wanted: canonical(value) in {canonical(each) for each in wanted},
    "$gt": lambda value, wanted: comparable(value, wanted) and value > wanted,
    "$gte": lambda value, wanted: comparable(value, wanted) and value >= wanted,
    "$lt": lambda value, wanted: comparable(value, wanted) and value < wanted,
    "$lte": lambda value, wanted: comparable(value, wanted) and value <= wanted,
    "$regex": lambda value, wanted: type(value) is str and re.search(wanted, value) is not None,
    "$contains": lambda value, wanted: type(value) is str and wanted in value,
}


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS, SUBJECTS)
def test_agrees_with_the_reference(expression: dict[str, Any], subject: Subject) -> None:
    rule = parsed(expression)
    expected = reference(expression, subject)
    assert rule.compile(resolve)(subject) is expected
    assert rule.explain(resolve, subject).held is expected


@settings(max_examples=50, deadline=None)
@given(EXPRESSIONS)
def test_normal_form_parses_to_an_equal_filter(expression: dict[str, Any]) -> None:
    rule = parsed(expression)
    assert parsed(json.loads(json.dumps(rule.to_json()))) == rule
    assert parsed(rule.to_json()).to_json() == rule.to_json()


@settings(max_examples=80, deadline=None)
@given(EXPRESSIONS, EXPRESSIONS, SUBJECTS)
def test_boolean_laws(f: dict[str, Any], g: dict[str, Any], subject: Subject) -> None:
    def holds(expression: object) -> bool:
        return compiled(expression)(subject)

    assert holds({"$not": {"$not": f}}) is holds(f)
    assert holds({"$not": {"$and": [f, g]}}) is holds({"$or": [{"$not": f}, {"$not": g}]})
    assert holds({"$not": {"$or": [f, g]}}) is holds({"$and": [{"$not": f}, {"$not": g}]}) is holds({"$nor": [f, g]})


@settings(max_examples=80, deadline=None)
@given(EXPRESSIONS, SUBJECTS)
def test_decisive_terms_decide(expression: dict[str, Any], subject: Subject) -> None:
    """Other subjects may give the other terms any answer: as long as the decisive ones stay, so does the outcome."""
    rule = parsed(expression)
    explanation = rule.explain(resolve, subject)
    decisive = {id(term) for term in explanation.decisive()}

    def outcome(term: Term, otherwise: bool) -> bool:
        if term.terms is None:
            return term.held if id(term) in decisive else otherwise
        answers = [outcome(inner, otherwise) for inner in term.terms]
        return {"$and": all(answers), "$or": any(answers)}.get(term.text, not any(answers))

    assert outcome(explanation, True) is outcome(explanation, False) is explanation.held


@settings(max_examples=60, deadline=None)
@given(st.recursive(VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner), max_leaves=8))
def test_nonsense_is_parsed_or_refused_but_never_crashes(nonsense: object) -> None:
    try:
        rule = parsed(nonsense)
    except InvalidDefinition as refused:
        assert refused.errors
    else:
        assert isinstance(rule.compile(resolve)({}), bool)
