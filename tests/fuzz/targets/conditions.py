"""Metric conditions: series of samples against a model that keeps every value in a list and reckons in fractions.

Where rounding could decide, any answer is taken, and the model goes on from it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from shared.domain.conditions.conditions import (
    ChangeCondition,
    Condition,
    FiniteCondition,
    ThresholdCondition,
    ZScoreCondition,
    condition_to_json,
    parse_conditions,
)
from shared.domain.conditions.windows import Observation, WindowState, compile_conditions, explain
from shared.domain.errors import InvalidDefinition
from tests.fuzz.oracles import check_refusal, in_time, members_of
from tests.fuzz.strategies import as_json
from tests.fuzz.target import Target

MAX_EVENTS = 200
RECKONABLE = 1e100
"""Beyond it squares overflow, and the model does not know where."""
CLOSE = Fraction(1, 10**9)
Truths = frozenset[bool | None]
ANY: Truths = frozenset({True, False, None})
Event = tuple[int | None, dict[str, float], int, int]
"""A step, samples, the token of the event and the run's start."""


def check(data: bytes) -> None:
    """`{"conditions": […], "events": [[step, {metric: value}, token, start], …]}`; the last two may be left out."""
    members = members_of(data)
    raw = members.get("conditions")
    try:
        conditions = parse_conditions(raw)
    except InvalidDefinition as refusal:
        check_refusal(refusal, raw)
        return
    assert parse_conditions([condition_to_json(one) for one in conditions]) == conditions
    assert all(one.text for one in conditions)
    events = list(_events(members.get("events")))
    with in_time(data):
        compiled = compile_conditions(conditions)
        state, model = compiled.new_state(), _Model(conditions)
    for event in events:
        step, metrics, token, start = event
        with in_time(data):
            seen = compiled.observe(state, step, metrics, token=token, start=start)
        model.compare(event, seen, state)
        again = WindowState.from_bytes(state.to_bytes())
        assert again == state
        state = again


def _events(raw: Any) -> Iterator[Event]:
    """What a checked event may bring: a step of 63 bits, and floats."""
    for number, item in enumerate(raw[:MAX_EVENTS] if isinstance(raw, list) else [], 1):
        match item:
            case [int() | None as step, dict() as samples, *more] if all(isinstance(one, int) for one in more):
                numbers = {key: value for key, value in samples.items() if isinstance(value, int | float)}
                token, start = (abs(one) % 2**32 for one in (*more[:2], *(number, 0)[len(more[:2]) :]))
                known = None if step is None else abs(step) % 2**63
                yield known, {key: _float(value) for key, value in numbers.items()}, token, start


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


@dataclass
class _Model:
    """Everything that ever happened to one automation in one run."""

    conditions: tuple[Condition, ...]
    values: dict[str, list[float]] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    newest: dict[str, float] = field(default_factory=dict)
    armed: bool = True
    start: int = 0
    unstepped: list[int] = field(default_factory=list)

    def _new(self, event: Event, watched: set[str]) -> set[str]:
        """The metrics whose samples count, after going back where the run does."""
        step, _, token, start = event
        if not step and token in self.unstepped:
            return set()
        if (
            start not in (self.start, 0)
            and step is not None
            and any(step <= self.steps.get(one, -2) for one in watched)
        ):
            self.values, self.steps, self.newest, self.armed = {}, {}, {}, True
        new = {
            metric
            for metric in watched
            if step is None or metric not in self.steps or step > self.steps[metric] or step == self.steps[metric] == 0
        }
        if new:
            self.start = start or self.start
            if not step:
                self.unstepped = [*self.unstepped, token][-1000:]
        return new

    def compare(self, event: Event, seen: Observation, state: WindowState) -> None:
        """Hold what was observed to what the lists say."""
        step, metrics, _, _ = event
        watched = {one.metric for one in self.conditions} & metrics.keys()
        new = self._new(event, watched)
        assert seen.ignored_samples == len(watched) - len(new)
        before = list(state.held)
        for metric in new:
            self.steps[metric] = self.steps.get(metric, -1) if step is None else step
            self.newest[metric] = metrics[metric]
            if math.isfinite(metrics[metric]):
                self.values.setdefault(metric, []).append(metrics[metric])
        for index, one in enumerate(self.conditions):
            if one.metric in new:
                finite = math.isfinite(metrics[one.metric])
                if isinstance(one, FiniteCondition):
                    allowed: Truths = frozenset({one.finite is finite})
                else:
                    allowed = truths(one, self.values[one.metric]) if finite else frozenset({False})
                assert before[index] in allowed, f"{one.text}: {before[index]}, not one of {set(allowed)}"
            elif one.metric not in self.steps:
                assert before[index] is None
        held = all(one is True for one in state.held)
        assert seen.held is held
        assert seen.fired is bool(new and held and self.armed)
        assert (seen.condition_index is None) is not bool(new)
        assert not seen.fired or seen.metric_value is not None
        if held:
            self.armed = False
        elif new:
            self.armed = self.armed or any(
                truth is not True and self._compares(one)
                for one, truth in zip(self.conditions, state.held, strict=True)
            )
        for term, truth in zip(explain(self.conditions, state), state.held, strict=True):
            assert term.held is truth
            if "finite number" in term.text:
                continue
            assert (term.value is None) is not (term.reason is None)
            assert truth is None or term.value is not None or not state.series[_metric_of(term.text, self)].finite

    def _compares(self, condition: Condition) -> bool:
        return isinstance(condition, FiniteCondition) or math.isfinite(self.newest.get(condition.metric, 0.0))


def _metric_of(text: str, model: _Model) -> str:
    return next(one.metric for one in model.conditions if one.text == text)


def truths(condition: Condition, values: list[float]) -> Truths:
    """What may be said of a condition after all these finite values; more than one where rounding may decide."""
    if isinstance(condition, ThresholdCondition):
        return _threshold_truths(condition, values)
    if isinstance(condition, ChangeCondition):
        return _change_truths(condition, values)
    assert isinstance(condition, ZScoreCondition)
    return _z_score_truths(condition, values)


def _threshold_truths(condition: ThresholdCondition, values: list[float]) -> Truths:
    window = values[-condition.window :] if condition.aggregate else values[-1:]
    if condition.aggregate and len(window) < condition.window:
        return frozenset({None})
    if max(map(abs, window)) > RECKONABLE:
        return ANY
    measured = _aggregated(condition.aggregate, window)
    scale = max(map(abs, map(Fraction, window)))
    if condition.aggregate == "AVERAGE" and len(set(window)) > 1 and _is_close(measured, condition.threshold, scale):
        return ANY
    return frozenset({_COMPARISONS[condition.op](measured, Fraction(condition.threshold))})


def _change_truths(condition: ChangeCondition, values: list[float]) -> Truths:
    size, before = (condition.window, condition.prior_window) if condition.aggregate else (1, 1)
    if len(values) < size + before:
        return frozenset({None})
    tail = values[-size - before :]
    if max(map(abs, tail)) > RECKONABLE:
        return ANY
    prior, current = (_aggregated(condition.aggregate, part) for part in (tail[:before], tail[before:]))
    scale = max(map(abs, map(Fraction, tail)))
    measured = current - prior
    if condition.change.type == "RELATIVE":
        if prior == 0 or abs(prior) < scale * CLOSE:
            return frozenset({None}) if scale == 0 else ANY
        measured, scale = measured / abs(prior), scale / abs(prior)
    return _moved(condition.change.direction, measured, condition.change.amount, scale + abs(measured))


def _z_score_truths(condition: ZScoreCondition, values: list[float]) -> Truths:
    if len(values) < condition.window + 1:
        return frozenset({None})
    tail = [Fraction(value) for value in values[-condition.window - 1 :]]
    if max(map(abs, tail)) > RECKONABLE:
        return ANY
    *window, newest = tail
    mean = sum(window, Fraction(0)) / len(window)
    variance = sum(((value - mean) * (value - mean) for value in window), Fraction(0)) / len(window)
    if variance == 0:
        return frozenset({None})
    scale = max(abs(value - window[0]) for value in window) + max(map(abs, window)) * Fraction(1, 10**15)
    if variance < (scale * Fraction(1, 10**4)) ** 2 or variance < Fraction(1, 10**200):
        return ANY
    deviation = Fraction(math.sqrt(variance))
    z_score: Fraction = (newest - mean) / deviation
    return _moved(condition.zscore.direction, z_score, condition.zscore.threshold, 10**4 * (1 + abs(z_score)))


def _moved(direction: str, measured: Fraction, limit: float, scale: Fraction) -> Truths:
    if any(_is_close(measured, bound, scale) for bound in (limit, -limit)):
        return ANY
    rises, falls = measured >= Fraction(limit), measured <= -Fraction(limit)
    return frozenset({{"INCREASE": rises, "DECREASE": falls, "ANY": rises or falls}[direction]})


def _is_close(measured: Fraction, limit: float, scale: Fraction) -> bool:
    return abs(measured - Fraction(limit)) <= CLOSE * max(scale, abs(Fraction(limit)))


def _aggregated(aggregate: str | None, values: list[float]) -> Fraction:
    exact = [Fraction(value) for value in values]
    if aggregate == "AVERAGE":
        return sum(exact, Fraction(0)) / len(exact)
    return {"MAX": max, "MIN": min}[aggregate](exact) if aggregate else exact[-1]


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
    "$eq": operator.eq,
    "$ne": operator.ne,
}

WORDS = (
    *_COMPARISONS,
    *("metric", "aggregate", "window", "prior_window", "op", "threshold", "change", "zscore", "type", "direction"),
    *(
        "finite",
        "amount",
        "MAX",
        "MIN",
        "average",
        "ABSOLUTE",
        "RELATIVE",
        "INCREASE",
        "DECREASE",
        "ANY",
        "acc",
        "loss",
    ),
)
_metrics = st.sampled_from(["acc", "loss"])
_numbers = st.one_of(
    st.integers(-4, 4).map(lambda halves: halves / 2),
    st.floats(),
    st.sampled_from([1e16, 1e16 + 2, 0.1, 0.2, 0.30000000000000004, 5e-324, 1.7e308]),
)
_finite = _numbers.filter(math.isfinite)
_positive = _finite.map(abs).filter(bool)
_windows = st.integers(1, 4)
_common = {"metric": _metrics}
_sized = {"aggregate": st.sampled_from(["MAX", "MIN", "AVERAGE"]), "window": _windows}
_directions = st.sampled_from(["INCREASE", "DECREASE", "ANY"])
_change = st.fixed_dictionaries(
    {"amount": _positive}, optional={"type": st.sampled_from(["ABSOLUTE", "RELATIVE"]), "direction": _directions}
)
_conditions = st.one_of(
    st.fixed_dictionaries(_common | {"op": st.sampled_from(list(_COMPARISONS)), "threshold": _finite}, optional=_sized),
    st.fixed_dictionaries(_common | {"change": _change}, optional=_sized | {"prior_window": _windows}),
    st.fixed_dictionaries(
        _common | {"zscore": st.fixed_dictionaries({}, optional={"direction": _directions, "threshold": _positive})},
        optional={"window": st.integers(2, 4)},
    ),
    st.fixed_dictionaries(_common | {"finite": st.booleans()}),
)
_steps = st.integers(0, 12)
_samples = st.dictionaries(_metrics, _numbers, max_size=2)
_series = st.lists(st.tuples(_steps, _samples), max_size=15)
_going_back = st.lists(
    st.tuples(st.none() | st.integers(0, 3), _samples, st.integers(1, 4), st.integers(0, 2)), max_size=15
)
_rising = st.lists(st.dictionaries(_metrics, _numbers, min_size=1, max_size=2), max_size=15).map(
    lambda samples: list(enumerate(samples))
)
_inputs = st.fixed_dictionaries(
    {"conditions": st.lists(_conditions, min_size=1, max_size=3), "events": _rising | _series | _going_back}
)

TARGET = Target(check, inputs=as_json(_inputs, WORDS), words=WORDS)
