"""What made a condition hold, in a line for people: `val_loss 0.28 → 0.9 (+221 %, limit +50 %)`."""

from __future__ import annotations

import math

from shared.domain.conditions.conditions import (
    ChangeCondition,
    ChangeType,
    Condition,
    Direction,
    FiniteCondition,
    Op,
    ThresholdCondition,
    ZScoreCondition,
)

_SIGNS = {Direction.INCREASE: "+", Direction.DECREASE: "-", Direction.ANY: "±"}
_OPS = {Op.GT: ">", Op.GTE: "≥", Op.LT: "<", Op.LTE: "≤", Op.EQ: "=", Op.NE: "≠"}


def summarize(condition: Condition, *, value: float, previous: float | None, aggregate: float | None) -> str:
    """The line.

    Args:
        condition: the one that holds.
        value: the metric's newest value.
        previous: the finite value before it; None when there was none.
        aggregate: what the condition compared with its bound; None where it compares with nothing.
    """
    newest = f"{condition.metric} {_number(value)}"
    if isinstance(condition, FiniteCondition) or aggregate is None:
        return newest
    if isinstance(condition, ThresholdCondition):
        limit = f"limit {_OPS[condition.op]} {_number(condition.threshold)}"
        if condition.aggregate is None:
            return f"{newest} ({limit})"
        return f"{newest} ({condition.aggregate} over {condition.window}: {_number(aggregate)}, {limit})"
    if isinstance(condition, ZScoreCondition):
        limit = f"limit {_SIGNS[condition.zscore.direction]}{_number(condition.zscore.threshold)}"
        return f"{newest} (z-score {_signed(aggregate)}, {limit})"
    return _change(condition, newest, value, previous, aggregate)


def _change(condition: ChangeCondition, newest: str, value: float, previous: float | None, aggregate: float) -> str:
    part = condition.change.type is ChangeType.RELATIVE
    limit = f"limit {_SIGNS[condition.change.direction]}{_amount(condition.change.amount, part=part)}"
    sign = "-" if aggregate < 0 else "+"
    moved = f"{sign}{_amount(abs(aggregate), part=part)}"
    if condition.aggregate is not None:
        windows = f"{condition.aggregate} over {condition.window} against {condition.prior_window} before"
        return f"{newest} ({windows}: {moved}, {limit})"
    if previous is None:
        return f"{newest} ({moved}, {limit})"
    return f"{condition.metric} {_number(previous)} → {_number(value)} ({moved}, {limit})"


def _amount(amount: float, *, part: bool) -> str:
    return f"{_number(amount * 100, digits=3)} %" if part else _number(amount)


def _signed(number: float) -> str:
    return f"{'-' if number < 0 else '+'}{_number(abs(number))}"


def _number(number: float, digits: int = 6) -> str:
    """A number as people write it: few digits, and no needless ones."""
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    # Whole numbers keep their digits: 1234 % is not 1.23e+03 %.
    is_long = 10 ** (digits - 1) <= abs(number) < 1e15
    return f"{round(number)}" if is_long else f"{number:.{digits}g}"
