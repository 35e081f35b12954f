"""Metric conditions at work: the newest values of a run's metrics, and whether conditions hold over them.

`compile_conditions` turns definitions into closures once; `CompiledConditions.observe` then feeds them one event of a
run after the other. A `WindowState` belongs to one automation and one run and is the only thing that changes here. This
module must not store states, look at an event's other fields, or know of cooldowns.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple

import orjson

from shared.domain.conditions.conditions import Condition, needed_values
from shared.domain.conditions.measures import CompiledCondition, compile_condition, why_undefined
from shared.domain.errors import UnreadableState as UnreadableState

_CODEC_VERSION = 1
"""To be raised when the bytes change: a state of another version is unreadable and starts anew."""
_PREFIX = struct.Struct("<BI")
_TRUTHS = frozenset({bool, type(None)})


@dataclass(slots=True)
class Series:
    """The newest values of one metric of one run, oldest first; made by the metric's first sample."""

    last_step: int
    values: list[float] = field(default_factory=list)
    finite: bool = True
    """False while the newest sample is NaN or infinite; such a sample is not among the values."""

    def _is_sound(self) -> bool:
        if type(self.last_step) is not int or type(self.finite) is not bool:
            return False
        # A sum is finite only if all are; it takes a third of the time of asking each, but finite values may overflow.
        return math.isfinite(sum(self.values)) or all(map(math.isfinite, self.values))


@dataclass(slots=True)
class WindowState:
    """The state of one automation's conditions in one run; void once the conditions change."""

    held: list[bool | None]
    """The latest truth of each condition; None while its window is not full, or its measure is undefined."""
    series: dict[str, Series] = field(default_factory=dict)
    armed: bool = True
    """Whether the conjunction was false, or never looked at, so that it fires on becoming true."""

    def copy(self) -> WindowState:
        """A state of its own with the same values."""
        series = {name: Series(one.last_step, list(one.values), one.finite) for name, one in self.series.items()}
        return WindowState(list(self.held), series, self.armed)

    def to_bytes(self) -> bytes:
        """A version byte, length and JSON of everything but the values, then the values as little-endian doubles."""
        shapes = [(name, one.last_step, one.finite, len(one.values)) for name, one in self.series.items()]
        header = orjson.dumps((self.armed, self.held, shapes))
        every = [one.values for one in self.series.values()]
        values = every[0] if len(every) == 1 else tuple(chain.from_iterable(every))
        return _PREFIX.pack(_CODEC_VERSION, len(header)) + header + struct.pack(f"<{len(values)}d", *values)

    @classmethod
    def from_bytes(cls, data: bytes) -> WindowState:
        """Read what `to_bytes` wrote, every float exactly. Raises `UnreadableState`."""
        try:
            version, length = _PREFIX.unpack_from(data)
            if version != _CODEC_VERSION:
                raise UnreadableState(f"a run state of version {version}; this Hookline reads {_CODEC_VERSION}")
            start = _PREFIX.size + length
            armed, held, shapes = orjson.loads(data[_PREFIX.size : start])
            if len(shapes) == 1:
                [(name, last_step, finite, count)] = shapes
                series = {name: Series(last_step, list(struct.unpack(f"<{count}d", data[start:])), finite)}
            else:
                values = iter(struct.unpack(f"<{sum(shape[3] for shape in shapes)}d", data[start:]))
                series = {
                    name: Series(last_step, list(islice(values, count)), finite)
                    for name, last_step, finite, count in shapes
                }
        except (struct.error, LookupError, TypeError, ValueError) as error:
            raise UnreadableState("a damaged run state") from error
        state = cls(held, series, armed)
        if not state._is_sound():
            raise UnreadableState("a damaged run state")
        return state

    def _is_sound(self) -> bool:
        """Whether all is of its type, so that no damage comes to light while samples are taken."""
        if type(self.armed) is not bool or type(self.held) is not list or not _TRUTHS.issuperset(map(type, self.held)):
            return False
        return all(type(name) is str and one._is_sound() for name, one in self.series.items())


class Observation(NamedTuple):
    """The effect of one event on one automation's conditions in one run."""

    fired: bool
    """The conjunction of all conditions became true with this event."""
    held: bool
    """The conjunction of all conditions is true now."""
    ignored_samples: int
    """Watched samples at or before their metric's last step; they changed nothing."""
    condition_index: int | None = None
    """The first condition whose metric took a sample from this event; the facts below are about it. None: no sample."""
    metric_name: str | None = None
    metric_value: float | None = None
    """The sample itself, not the aggregate; finite whenever `fired`."""
    metric_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class ConditionTerm:
    """One condition's part in "why did it not fire": the value it compared, or the reason why there is none."""

    text: str
    held: bool | None
    value: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class _Watch:
    """One watched metric and the conditions on it, each with its index."""

    metric: str
    needed: int
    terms: tuple[tuple[int, CompiledCondition], ...]

    def take(self, state: WindowState, step: int, value: float) -> bool:
        """Add a sample and settle the truth of the conditions; False: the sample is not newer than the last."""
        series = state.series.get(self.metric)
        if series is None:
            series = state.series[self.metric] = Series(step)
        elif step <= series.last_step:
            return False
        series.last_step = step
        series.finite = math.isfinite(value)
        if series.finite:
            series.values.append(float(value))
            del series.values[: -self.needed]
        for index, compiled in self.terms:
            state.held[index] = series.finite and compiled.truth(series.values)
        return True


@dataclass(frozen=True, slots=True)
class CompiledConditions:
    """The conditions of one automation, ready for any number of runs; made by `compile_conditions`."""

    conditions: tuple[Condition, ...]
    _watches: tuple[_Watch, ...]

    def new_state(self) -> WindowState:
        """The state of a run that has not been seen yet."""
        return WindowState([None] * len(self.conditions))

    def observe(self, state: WindowState, step: int, metrics: Mapping[str, float]) -> Observation:
        """Take one event's metrics into the state, in place, and say whether the conjunction just became true.

        Metrics that no condition watches are neither stored nor counted. A sample at or before its metric's last step
        is ignored. A sample that is not finite moves the last step on, stays out of the windows, and makes the
        conditions on its metric false. Raises `ValueError` for the state of another number of conditions.
        """
        if len(state.held) != len(self.conditions):
            raise ValueError("the run state belongs to other conditions")
        ignored, first = 0, None
        for watch in self._watches:
            value = metrics.get(watch.metric)
            if value is None:
                continue
            if not watch.take(state, step, value):
                ignored += 1
            elif first is None:
                first = watch
        held = all(state.held)
        if first is None:
            return Observation(fired=False, held=held, ignored_samples=ignored)
        fired, state.armed = held and state.armed, not held
        index, _ = first.terms[0]
        threshold = self.conditions[index].reported_threshold
        return Observation(fired, held, ignored, index, first.metric, metrics[first.metric], threshold)


def compile_conditions(conditions: Iterable[Condition]) -> CompiledConditions:
    """Turn definitions into closures, so that no definition is read again while samples come in."""
    conditions = tuple(conditions)
    watches = []
    for metric, needed in needed_values(conditions).items():
        terms = ((index, compile_condition(one)) for index, one in enumerate(conditions) if one.metric == metric)
        watches.append(_Watch(metric, needed, tuple(terms)))
    return CompiledConditions(conditions, tuple(watches))


def observe(
    conditions: Iterable[Condition], state: WindowState, step: int, metrics: Mapping[str, float]
) -> Observation:
    """`CompiledConditions.observe` for a single event, compiling on the way; for many, compile once."""
    return compile_conditions(conditions).observe(state, step, metrics)


def explain(conditions: Sequence[Condition], state: WindowState) -> tuple[ConditionTerm, ...]:
    """The value and truth of each condition now, to explain why an automation did not fire.

    Where every term holds and nothing fired, `state.armed` is the answer: the conjunction was true already.
    """
    return tuple(
        _explain(condition, held, state.series.get(condition.metric))
        for condition, held in zip(conditions, state.held, strict=True)
    )


def _explain(condition: Condition, held: bool | None, series: Series | None) -> ConditionTerm:
    compiled = compile_condition(condition)
    value = reason = None
    if series is None:
        reason = f"no value of {condition.metric} yet"
    elif not series.finite:
        reason = f"the newest value of {condition.metric} is not a finite number"
    elif len(series.values) < compiled.needed:
        reason = f"window has {len(series.values)} of {compiled.needed} values"
    else:
        try:
            value = compiled.value(series.values)
        except ArithmeticError as undefined:
            reason = why_undefined(condition, undefined)
    return ConditionTerm(condition.text, held, value, reason)
