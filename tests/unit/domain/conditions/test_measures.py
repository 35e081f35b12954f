"""What a condition computes and how it compares that, rule by rule; properties over series are in test_windows."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shared.domain.conditions.conditions import parse_conditions
from shared.domain.conditions.measures import CompiledCondition, compile_condition

Raw = dict[str, Any]

HUGE = 1.7e308


def compiled(raw: Raw) -> CompiledCondition:
    (condition,) = parse_conditions([{"metric": "m"} | raw])
    return compile_condition(condition)


def threshold(op: str, bound: float, **keys: object) -> Raw:
    return {"op": op, "threshold": bound} | keys


def change(amount: float, type_: str, direction: str = "ANY", **keys: object) -> Raw:
    return {"change": {"amount": amount, "type": type_, "direction": direction}} | keys


def z_score(bound: float, window: int, direction: str = "ANY") -> Raw:
    return {"zscore": {"threshold": bound, "direction": direction}, "window": window}


@pytest.mark.parametrize(
    ("op", "below", "at", "above"),
    [
        ("$gt", False, False, True),
        ("$gte", False, True, True),
        ("$lt", True, False, False),
        ("$lte", True, True, False),
        ("$eq", False, True, False),
        ("$ne", True, False, True),
    ],
)
def test_threshold_operators(op: str, below: bool, at: bool, above: bool) -> None:
    condition = compiled(threshold(op, 0.5))
    assert [condition.truth([value]) for value in (0.25, 0.5, 0.75)] == [below, at, above]


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [(None, 4.0), ("MAX", 8.0), ("MIN", 0.0), ("AVERAGE", 4.0)],
)
def test_threshold_looks_at_the_last_window_only(aggregate: str | None, expected: float) -> None:
    condition = compiled(threshold("$gt", 0, aggregate=aggregate, window=3))
    assert condition.value([100.0, -100.0, 8.0, 0.0, 4.0]) == expected


@pytest.mark.parametrize(
    ("raw", "needed"),
    [
        (threshold("$ne", 9, aggregate="MAX", window=3), 3),
        (change(0.1, "ABSOLUTE", aggregate="MAX", window=2, prior_window=3), 5),
        (change(0.1, "ABSOLUTE", window=2, prior_window=3), 2),
        (z_score(0.1, 3), 4),
    ],
)
def test_no_truth_before_the_windows_are_full(raw: Raw, needed: int) -> None:
    condition = compiled(raw)
    values = [1.0, 2.0, 4.0, 7.0, 11.0]
    assert condition.truth(values[: needed - 1]) is None
    assert condition.truth(values[:needed]) is True


@pytest.mark.parametrize(
    ("direction", "up", "still", "down"),
    [("INCREASE", True, False, False), ("DECREASE", False, False, True), ("ANY", True, False, True)],
)
@pytest.mark.parametrize(("type_", "amount"), [("ABSOLUTE", 1.0), ("RELATIVE", 0.25)])
def test_change_is_inclusive_in_its_direction(
    type_: str, amount: float, direction: str, up: bool, still: bool, down: bool
) -> None:
    condition = compiled(change(amount, type_, direction))
    assert [condition.truth([4.0, value]) for value in (5.0, 4.5, 3.0)] == [up, still, down]


@pytest.mark.parametrize(
    ("raw", "values", "expected"),
    [
        # Adjacent windows that do not overlap: the last 2 against the 3 before them, and nothing before those.
        (change(1, "ABSOLUTE", aggregate="AVERAGE", window=2, prior_window=3), [99.0, 1, 2, 3, 10, 20], 13.0),
        (change(1, "ABSOLUTE", aggregate="MAX", window=2, prior_window=3), [99.0, 1, 2, 3, 10, 20], 17.0),
        (change(1, "ABSOLUTE", aggregate="MIN", window=2, prior_window=3), [99.0, 1, 2, 3, 10, 20], 9.0),
        (change(1, "ABSOLUTE", window=2, prior_window=3), [99.0, 1, 2, 3, 10, 20], 10.0),
        (change(1, "RELATIVE", aggregate="AVERAGE", window=2, prior_window=3), [99.0, 1, 2, 3, 10, 20], 6.5),
        # Relative to the size of the prior value: a rise is positive from below 0, too.
        (change(1, "RELATIVE"), [-4.0, -3.0], 0.25),
        (change(1, "RELATIVE"), [-4.0, -5.0], -0.25),
        (change(1, "RELATIVE"), [-4.0, 4.0], 2.0),
    ],
)
def test_change_values(raw: Raw, values: list[float], expected: float) -> None:
    assert compiled(raw).value(values) == expected


@pytest.mark.parametrize(
    ("direction", "up", "still", "down"),
    [("INCREASE", True, False, False), ("DECREASE", False, False, True), ("ANY", True, False, True)],
)
def test_z_score_is_inclusive_in_its_direction(direction: str, up: bool, still: bool, down: bool) -> None:
    condition = compiled(z_score(3, 4, direction))
    # Mean 1, population standard deviation 1 (a sample's would be 1.15).
    assert [condition.truth([0.0, 2.0, 0.0, 2.0, value]) for value in (4.0, 3.5, -2.0)] == [up, still, down]


def test_an_outlier_is_not_part_of_the_window_it_is_measured_by() -> None:
    condition = compiled(z_score(3, 4))
    assert condition.value([50.0, 0.0, 2.0, 0.0, 2.0, 101.0]) == 100.0


@pytest.mark.parametrize("level", [0.0, 0.1, 0.94, -1 / 3, 1e9 + 0.1, 1e-300])
def test_no_z_score_where_the_window_does_not_vary(level: float) -> None:
    condition = compiled(z_score(3, 7))
    with pytest.raises(ZeroDivisionError):
        condition.value([level] * 7 + [level + 1])
    assert condition.truth([level] * 7 + [level + 1]) is None


@pytest.mark.parametrize("prior", [0.0, -0.0])
def test_no_relative_change_from_0(prior: float) -> None:
    assert compiled(change(0.1, "RELATIVE")).truth([prior, 5.0]) is None
    assert compiled(change(0.1, "ABSOLUTE")).truth([prior, 5.0]) is True


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        (threshold("$ne", 0, aggregate="AVERAGE", window=2), [HUGE, HUGE]),
        (change(1, "ABSOLUTE"), [-HUGE, HUGE]),
        (change(1, "RELATIVE"), [5e-324, HUGE]),
        (z_score(1, 2), [-HUGE, HUGE, 0.0]),
        (z_score(1, 2), [1e200, -1e200, 5e200]),
        (z_score(1, 2), [0.0, 1e-150, HUGE]),
    ],
)
def test_an_overflow_never_satisfies(raw: Raw, values: list[float]) -> None:
    with pytest.raises(OverflowError):
        compiled(raw).value(values)
    assert compiled(raw).truth(values) is None


@pytest.mark.parametrize(("level", "window"), [(0.11, 5), (0.94, 7), (0.96, 30)])
def test_the_average_of_a_plateau_is_the_plateau(level: float, window: int) -> None:
    condition = compiled(threshold("$eq", level, aggregate="AVERAGE", window=window))
    assert condition.truth([level] * window) is True


def test_the_average_keeps_what_naive_summation_loses() -> None:
    assert compiled(threshold("$gt", 0, aggregate="AVERAGE", window=3)).value([1e16, 1.5, -1e16]) == 0.5


@settings(max_examples=100)
@given(
    st.lists(st.floats(-1, 1).map(lambda value: round(value, 3)), min_size=4, max_size=40),
    st.sampled_from([0.0, 1.0, -1e6, 1e9]),
)
def test_z_score_keeps_its_digits_far_from_0(near: list[float], far: float) -> None:
    *window, newest = (Fraction(value + far) for value in near)
    mean = sum(window) / len(window)
    variance = sum((value - mean) ** 2 for value in window) / len(window)
    assume(variance > 0)
    exact = float(newest - mean) / math.sqrt(variance)
    measured = compiled(z_score(1, len(window))).value([value + far for value in near])
    assert math.isclose(measured, exact, rel_tol=1e-9, abs_tol=1e-9)
