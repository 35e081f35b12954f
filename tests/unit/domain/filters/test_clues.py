"""Clues and their tables: what is certain of a pattern or filter, and what a look-up finds at least."""

from __future__ import annotations

import random
from typing import Any

import pytest
import re2
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shared.domain.filters.bounds_table import BoundsTable
from shared.domain.filters.clues import MAX_CLUES, Absent, Between, Cover, Equal, Found, Marker, Prefix, Present
from shared.domain.filters.clues import literal_prefix as prefix_of
from shared.domain.filters.filters import parse_filter
from shared.domain.filters.pattern_sets import MAX_SET_SIZE, MAX_WAITING, Allowance, PatternTable


def covers(expression: object) -> list[Cover]:
    return list(parse_filter(expression, lambda _field: None).covers)


@pytest.mark.parametrize(
    ("pattern", "prefix", "whole"),
    [
        ("^prod", "prod", False),
        ("^prod$", "prod", True),
        (r"^v1\.2$", "v1.2", True),
        ("^prod-[0-9]+$", "prod-", False),
        ("^prod?", "pro", False),
        ("^prod*", "pro", False),
        ("^prod+", "pro", False),
        ("^prod{2}", "pro", False),
        (r"^prod\.?", "prod", False),
        ("^é{2}", "", False),
        ("^(prod)", "", False),
        ("prod", "", False),
        ("^prod|dev", "", False),
        ("(?i)^prod", "", False),
        (r"^\d", "", False),
        (r"^a\pL", "a", False),
        (r"^a\Qb\E", "a", False),
        ("^^a", "", False),
        ("^*a", "", False),
        ("^a$b", "a", False),
        ("^$", "", True),
    ],
)
def test_the_literal_prefix_of_a_pattern(pattern: str, prefix: str, whole: bool) -> None:
    assert prefix_of(pattern) == (prefix, whole)


@settings(max_examples=600, deadline=None)
@given(st.text("ab^$.|?*+()[]{}\\-1,QEéi:", max_size=10), st.lists(st.text("ab^$.-1QEé\n", max_size=6), max_size=12))
def test_whatever_a_pattern_occurs_in_begins_with_its_prefix(rest: str, subjects: list[str]) -> None:
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile("^" + rest, options)
    except re2.error:
        assume(False)
    prefix, whole = prefix_of("^" + rest)
    for subject in [*subjects, prefix, prefix + "a", rest, prefix[:-1]]:
        if compiled.search(subject.encode()) is not None:
            assert subject.startswith(prefix)
            assert subject == prefix or not whole


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ({"a": 1}, [(Equal("a", 1),)]),
        ({"a": True}, [(Equal("a", Marker.TRUE),)]),
        ({"a": None}, [(Equal("a", Marker.NULL), Absent("a"))]),
        ({"a": [1, 2]}, [(Equal("a", (list, 2)),)]),
        ({"a": {"$ne": 1}}, []),
        ({"a": {"$ne": None}}, [(Present("a"),)]),
        ({"$not": {"a": {"$ne": "x"}}}, [(Equal("a", "x"),)]),
        ({"$nor": [{"a": {"$nin": ["x", "y"]}}, {"b": 1}]}, [(Equal("a", "x"), Equal("a", "y"))]),
        ({"$not": {"$and": [{"a": {"$ne": 1}}, {"b": {"$ne": 2}}]}}, [(Equal("a", 1), Equal("b", 2))]),
        ({"a": {"$gt": 1, "$lte": 5}, "b": {"$lt": 2}}, [(Between("a", 1, 5),), (Between("b", None, 2),)]),
        ({"$not": {"a": {"$gt": 1}}}, []),
        ({"a": {"$regex": "^x-"}}, [(Prefix("a", "x-"),), (Found("a", "^x-"),), (Present("a"),)]),
        ({"a": {"$regex": "^x$"}}, [(Equal("a", "x"),)]),
        ({"a": {"$contains": "x.y"}}, [(Found("a", r"x\.y"),), (Present("a"),)]),
        ({"a": {"$gt": "x"}}, [(Present("a"),)]),
        ({"a": {"$exists": True}}, [(Present("a"), Equal("a", Marker.NULL))]),
        ({"a": {"$exists": False}}, [(Absent("a"),)]),
        ({"$or": [{"a": 1}, {"b": {"$ne": 2}}]}, []),
        ({"$or": [{"a": 1, "b": {"$gt": 2}}, {"a": 3}]}, [(Equal("a", 1), Equal("a", 3))]),
        ({"a": {"$in": list(range(MAX_CLUES + 1))}}, [(Present("a"),)]),
        ({"a": {"$in": []}}, [()]),
        ({}, []),
        ({"$and": []}, []),
        ({"$or": [{"$and": []}, {"a": 1}]}, []),
    ],
)
def test_the_covers_of_a_filter(expression: Any, expected: list[Cover]) -> None:
    assert covers(expression) == expected


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_bounds_find_exactly_what_a_number_is_within(data: st.DataObject) -> None:
    number = st.one_of(st.integers(-20, 20), st.floats(-20, 20))
    bound = st.one_of(st.none(), number)
    bounds = data.draw(st.lists(st.tuples(bound, bound), max_size=150))
    table: BoundsTable[int] = BoundsTable()
    for place, (low, high) in enumerate(bounds):
        table.add(low, high, place)
        if place % 40 == 7:
            table.find(0, 0, [])
    for least, greatest in data.draw(st.lists(st.tuples(number, number).map(sorted), max_size=5)):
        found: list[int] = []
        table.find(least, greatest, found)
        assert sorted(found) == [
            place
            for place, (low, high) in enumerate(bounds)
            if (low is None or low <= greatest) and (high is None or high >= least)
        ]


def test_sets_of_patterns_find_each_pattern_whenever_it_was_added() -> None:
    table: PatternTable[int] = PatternTable()
    draw = random.Random(7)
    patterns: list[str] = []
    for number in range(3000):
        patterns.append(draw.choice(("^x{}-", "team-{}$", "[a-z]+{}", "{}")).format(number % 1500))
        table.add(patterns[-1], number)
        if number % 97 == 0:
            table.find("nothing", Allowance(), [])
    for text in ("x7-dev", "team-12", "dev1499", "x1", "", "-", "1234", "\ud800team-3"):
        found: list[int] = []
        table.find(text, Allowance(0), found)
        body = text.encode("utf-8", "surrogatepass")
        true = {number for number, pattern in enumerate(patterns) if re2.search(pattern.encode(), body)}
        assert true <= set(found)
        assert len(set(found) - true) <= 2 * MAX_WAITING


def test_a_text_that_is_long_for_so_many_patterns_finds_all_of_them_and_costs_nothing() -> None:
    table: PatternTable[int] = PatternTable()
    for number in range(1000):
        table.add(f"team-{number}-prod", number)
    few: list[int] = []
    table.find("x" * 2000, Allowance(), [])
    table.find("team-7-prod" + "x" * 200, Allowance(), few)
    assert few == [7]
    found: list[int] = []
    table.find("x" * 200, allowance := Allowance(100), found)
    assert sorted(found) == list(range(1000))
    assert allowance.left == 100


def test_sets_are_bounded() -> None:
    table: PatternTable[int] = PatternTable()
    for number in range(3000):
        table.add(f"(?i)[a-z0-9]+-{number}-[0-9]{{4}}-(dev|prod|staging)$", number)
    table.find("x", Allowance(), [])
    sets, waiting = table._state
    assert waiting == []
    assert len(sets) > 1
    assert max(one.size for one in sets) <= MAX_SET_SIZE
