"""Computing a metric condition: a measure of the newest values of a metric, and its comparison.

Pure arithmetic over a list of finite floats, oldest first, compiled to closures because it runs once per sample. This
module must not know of runs, steps or stored state: that is `windows.py` beside it. Adjacent windows, inclusive
comparisons and the kinds of aggregate follow W&B's documentation of automation events; where that is silent (which
values a z-score is measured against, what a prior value of 0 means) the rules here decide. No tolerance is added
anywhere: a bound is met or it is not.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

from shared.domain.conditions.conditions import (
    Aggregate,
    ChangeCondition,
    ChangeType,
    Condition,
    Direction,
    FiniteCondition,
    Op,
    ThresholdCondition,
    ZScoreCondition,
)

_Values = list[float]
_Measure = Callable[[_Values], float]


@dataclass(frozen=True, slots=True)
class CompiledCondition:
    """One condition as closures over the newest values of its metric."""

    needed: int
    measure: _Measure
    satisfied: Callable[[float], bool]
    finite: bool | None = None
    """What it asks of the newest sample where it asks nothing else: whether it is finite."""

    def value(self, values: _Values) -> float:
        """The measure of at least `needed` values. Raises ArithmeticError when it is undefined."""
        measured = self.measure(values)
        if not math.isfinite(measured):
            raise OverflowError
        return measured

    def truth(self, values: _Values) -> bool | None:
        """Whether the condition holds; None while there are too few values, or when the measure is undefined."""
        if len(values) < self.needed:
            return None
        try:
            return self.satisfied(self.value(values))
        except ArithmeticError:
            return None


def compile_condition(condition: Condition) -> CompiledCondition:
    """Turn a definition into closures, so that it is not read again for each sample."""
    if isinstance(condition, FiniteCondition):
        return CompiledCondition(condition.needed_values, _newest, math.isfinite, condition.finite)
    return CompiledCondition(condition.needed_values, _measure(condition), _satisfied(condition))


def why_undefined(condition: Condition, error: ArithmeticError) -> str:
    """The words for an error of `CompiledCondition.value`."""
    if not isinstance(error, ZeroDivisionError):
        return "the values are too large to compute with"
    if isinstance(condition, ZScoreCondition):
        return "the values of the window do not vary: their standard deviation is 0"
    return "the prior value is 0: a relative change cannot be computed"


_Measured = ThresholdCondition | ChangeCondition | ZScoreCondition


def _satisfied(condition: _Measured) -> Callable[[float], bool]:
    limit = condition.reported_threshold
    if isinstance(condition, ThresholdCondition):
        compare = _COMPARISONS[condition.op]
        return lambda value: compare(value, limit)
    direction = (condition.change if isinstance(condition, ChangeCondition) else condition.zscore).direction
    if direction is Direction.INCREASE:
        return lambda value: value >= limit
    if direction is Direction.DECREASE:
        return lambda value: value <= -limit
    return lambda value: abs(value) >= limit


def _measure(condition: _Measured) -> _Measure:
    if isinstance(condition, ThresholdCondition):
        return _aggregate_of_window(condition)
    if isinstance(condition, ChangeCondition):
        return _change_between_windows(condition)
    return _z_score_of_newest(condition)


def _aggregate_of_window(condition: ThresholdCondition) -> _Measure:
    aggregate, window = _AGGREGATES[condition.aggregate], condition.window
    return lambda values: aggregate(values[-window:])


def _change_between_windows(condition: ChangeCondition) -> _Measure:
    aggregate, window, needed = _AGGREGATES[condition.aggregate], condition.window, condition.needed_values
    relative = condition.change.type is ChangeType.RELATIVE

    def change(values: _Values) -> float:
        prior = aggregate(values[-needed:-window])
        difference = aggregate(values[-window:]) - prior
        return difference / abs(prior) if relative else difference

    return change


def _z_score_of_newest(condition: ZScoreCondition) -> _Measure:
    """The window ends before the newest value, so that an outlier does not widen the spread it is measured by."""
    window, needed = condition.window, condition.needed_values

    def z_score(values: _Values) -> float:
        # Seen from its first value, a window far from 0 keeps the digits of its spread, and a level one has none.
        first = values[-needed]
        offsets = [value - first for value in values[-needed:-1]]
        mean = math.fsum(offsets) / window
        variance = math.fsum([(offset - mean) ** 2 for offset in offsets]) / window
        return (values[-1] - first - mean) / math.sqrt(variance)

    return z_score


def _average(values: _Values) -> float:
    # The quotient's rounding can leave the values' range by a hair; the average of a plateau has to be the plateau.
    return min(max(math.fsum(values) / len(values), min(values)), max(values))


_newest = operator.itemgetter(-1)
_AGGREGATES: dict[Aggregate | None, Callable[[_Values], float]] = {
    None: _newest,
    Aggregate.MAX: max,
    Aggregate.MIN: min,
    Aggregate.AVERAGE: _average,
}
_COMPARISONS: dict[Op, Callable[[float, float], bool]] = {
    Op.GT: operator.gt,
    Op.GTE: operator.ge,
    Op.LT: operator.lt,
    Op.LTE: operator.le,
    Op.EQ: operator.eq,
    Op.NE: operator.ne,
}
