"""The line that tells people what made a condition hold."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.conditions.conditions import parse_conditions
from shared.domain.conditions.measures import compile_condition
from shared.domain.conditions.summaries import summarize

JUMP = {"metric": "val_loss", "change": {"direction": "INCREASE", "amount": 0.5}}


def line(raw: dict[str, Any], values: list[float]) -> str:
    """The line for the newest of these values."""
    (condition,) = parse_conditions([raw])
    compiled = compile_condition(condition)
    aggregate = compiled.value(values) if compiled.finite is None else None
    return summarize(condition, value=values[-1], previous=values[-2] if len(values) > 1 else None, aggregate=aggregate)


@pytest.mark.parametrize(
    ("raw", "values", "expected"),
    [
        (JUMP, [0.28, 0.9], "val_loss 0.28 → 0.9 (+221 %, limit +50 %)"),
        (
            {**JUMP, "change": {"direction": "DECREASE", "amount": 0.1}},
            [0.9, 0.45],
            "val_loss 0.9 → 0.45 (-50 %, limit -10 %)",
        ),
        (
            {**JUMP, "change": {"type": "ABSOLUTE", "amount": 0.5}},
            [1, 12345],
            "val_loss 1 → 12345 (+12344, limit ±0.5)",
        ),
        (
            {**JUMP, "aggregate": "AVERAGE", "window": 2, "prior_window": 2},
            [1, 1, 2, 4],
            "val_loss 4 (AVERAGE over 2 against 2 before: +200 %, limit +50 %)",
        ),
        ({"metric": "acc", "op": "$gte", "threshold": 0.95}, [0.97], "acc 0.97 (limit ≥ 0.95)"),
        (
            {"metric": "acc", "op": "$lt", "threshold": -1, "aggregate": "MAX", "window": 2},
            [-3, -2],
            "acc -2 (MAX over 2: -2, limit < -1)",
        ),
        (
            {"metric": "grad", "zscore": {"direction": "ANY", "threshold": 3}, "window": 4},
            [1, 2, 1, 2, 9],
            "grad 9 (z-score +15, limit ±3)",
        ),
        ({"metric": "loss", "finite": False}, [0.1, math.nan], "loss NaN"),
        ({"metric": "loss", "finite": False}, [math.inf], "loss Infinity"),
    ],
)
def test_the_line_has_what_was_what_is_and_the_limit(raw: dict[str, Any], values: list[float], expected: str) -> None:
    assert line(raw, values) == expected


numbers = st.floats(-1e300, 1e300) | st.integers(-(10**9), 10**9) | st.floats(-1e-300, 1e-300)


@given(numbers, numbers)
def test_any_numbers_make_a_line(previous: float, value: float) -> None:
    (condition,) = parse_conditions([JUMP])
    for aggregate in (None, -1e308, 0.0, 1e308, value):
        made = summarize(condition, value=value, previous=previous, aggregate=aggregate)
        assert made.startswith("val_loss ") and "\n" not in made and len(made) < 200
