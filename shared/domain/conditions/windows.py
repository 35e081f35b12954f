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
from shared.domain.conditions.run_starts import NO_START
from shared.domain.errors import UnreadableState as UnreadableState

_CODEC_VERSION = 1
"""To be raised when the bytes change: a state of another version is unreadable and starts anew."""
_PREFIX = struct.Struct("<BI")
NO_STEP = -1
"""The last step of a series that has had none: before every step."""
MAX_REMEMBERED = 1000
"""How many events of a run without a step are known again when they are repeated: as many as a batch has."""
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
    start: int = NO_START
    """The start of the run that its newest sample came after."""
    unstepped: list[int] = field(default_factory=list)
    """The newest events whose samples were taken though their step does not rise, as tokens, oldest first."""

    def copy(self) -> WindowState:
        """A state of its own with the same values."""
        series = {name: Series(one.last_step, list(one.values), one.finite) for name, one in self.series.items()}
        return WindowState(list(self.held), series, self.armed, self.start, list(self.unstepped))

    def begin_anew(self) -> None:
        """Forget all samples, as of a run that was not seen before. Repeats of events are known still."""
        self.held[:] = [None] * len(self.held)
        self.series.clear()
        self.armed = True

    def to_bytes(self) -> bytes:
        """A version byte, length and JSON of everything but the values, then the values as little-endian doubles.

        Behind them are tokens of events, where there are any, as numbers of 32 bits.
        """
        shapes = [(name, one.last_step, one.finite, len(one.values)) for name, one in self.series.items()]
        parts: tuple[object, ...] = (self.armed, self.held, shapes)
        if self.start or self.unstepped:  # older versions read what has none
            parts += (self.start, len(self.unstepped))
        header = orjson.dumps(parts)
        every = [one.values for one in self.series.values()]
        values = every[0] if len(every) == 1 else tuple(chain.from_iterable(every))
        packed = struct.pack(f"<{len(values)}d", *values)
        tokens = struct.pack(f"<{len(self.unstepped)}I", *self.unstepped) if self.unstepped else b""
        return _PREFIX.pack(_CODEC_VERSION, len(header)) + header + packed + tokens

    @classmethod
    def from_bytes(cls, data: bytes) -> WindowState:
        """Read what `to_bytes` wrote, every float exactly. Raises `UnreadableState`."""
        try:
            version, length = _PREFIX.unpack_from(data)
            if version != _CODEC_VERSION:
                raise UnreadableState(f"a run state of version {version}; this Hookline reads {_CODEC_VERSION}")
            start = _PREFIX.size + length
            armed, held, shapes, *more = orjson.loads(data[_PREFIX.size : start])
            run_start, tokens = more or (NO_START, 0)
            end = len(data) - 4 * tokens
            unstepped = list(struct.unpack(f"<{tokens}I", data[end:])) if tokens else []
            if len(shapes) == 1:
                [(name, last_step, finite, count)] = shapes
                series = {name: Series(last_step, list(struct.unpack(f"<{count}d", data[start:end])), finite)}
            else:
                values = iter(struct.unpack(f"<{sum(shape[3] for shape in shapes)}d", data[start:end]))
                series = {
                    name: Series(last_step, list(islice(values, count)), finite)
                    for name, last_step, finite, count in shapes
                }
        except (struct.error, LookupError, TypeError, ValueError) as error:
            raise UnreadableState("a damaged run state") from error
        state = cls(held, series, armed, run_start, unstepped)
        if not state._is_sound():
            raise UnreadableState("a damaged run state")
        return state

    def _is_sound(self) -> bool:
        """Whether all is of its type, so that no damage comes to light while samples are taken."""
        if type(self.armed) is not bool or type(self.held) is not list or not _TRUTHS.issuperset(map(type, self.held)):
            return False
        if type(self.start) is not int:
            return False
        return all(type(name) is str and one._is_sound() for name, one in self.series.items())


class Observation(NamedTuple):
    """The effect of one event on one automation's conditions in one run."""

    fired: bool
    """The conjunction of all conditions became true with this event."""
    held: bool
    """The conjunction of all conditions is true now."""
    ignored_samples: int
    """Watched samples that came too late, or again; they changed nothing."""
    condition_index: int | None = None
    """The first condition whose metric took a sample from this event; the facts below are about it. None: no sample."""
    metric_name: str | None = None
    metric_value: float | None = None
    """The sample itself, not the aggregate."""
    metric_threshold: float | None = None
    """What it was compared with; None for a condition that compares with nothing."""
    began_anew: bool = False
    """The run had started again and went back: what was kept of it before this event was forgotten."""
    metric_previous: float | None = None
    """The metric's finite value before the sample; None when there was none."""
    metric_aggregate: float | None = None
    """What the condition compared with its bound; only when `fired`."""


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

    def take(self, state: WindowState, step: int | None, value: float, *, in_order: bool) -> bool:
        """Add a sample and settle the truth of the conditions; False: the sample is not newer than the last.

        With `in_order` its event is known to be new, so that a sample of step 0 after one of step 0 is newer.
        """
        series = state.series.get(self.metric)
        if series is None:
            series = state.series[self.metric] = Series(NO_STEP if step is None else step)
        elif step is not None:
            if step <= series.last_step and not (in_order and step == series.last_step == 0):
                return False
            series.last_step = step
        series.finite = math.isfinite(value)
        if series.finite:
            series.values.append(float(value))
            del series.values[: -self.needed]
        for index, compiled in self.terms:
            if compiled.finite is None:
                state.held[index] = series.finite and compiled.truth(series.values)
            else:
                state.held[index] = compiled.finite is series.finite
        return True

    def says_no(self, state: WindowState) -> bool:
        """Whether a condition does not hold, and not only because the newest sample can't be compared."""
        series = state.series.get(self.metric)
        comparable = series is None or series.finite
        return any(not state.held[index] and (comparable or one.finite is not None) for index, one in self.terms)

    def goes_back(self, state: WindowState, step: int, metrics: Mapping[str, float]) -> bool:
        """Whether an event brings a sample of a step that the metric is past."""
        series = state.series.get(self.metric)
        return series is not None and step <= series.last_step and self.metric in metrics


@dataclass(frozen=True, slots=True)
class CompiledConditions:
    """The conditions of one automation, ready for any number of runs; made by `compile_conditions`."""

    conditions: tuple[Condition, ...]
    _watches: tuple[_Watch, ...]

    def new_state(self) -> WindowState:
        """The state of a run that has not been seen yet."""
        return WindowState([None] * len(self.conditions))

    def observe(
        self,
        state: WindowState,
        step: int | None,
        metrics: Mapping[str, float],
        *,
        token: int | None = None,
        start: int = NO_START,
    ) -> Observation:
        """Take one event's metrics into the state, in place, and say whether the conjunction just became true.

        Metrics that no condition watches are neither stored nor counted. A sample at or before its metric's last step
        is ignored; but the first one after the run started again makes it begin anew. Samples without a step, or of
        step 0 after step 0 (MLflow's client sends it where a script names no step), are taken in the order in which
        they come, unless their event was seen before. A sample that is not finite moves the last step on, stays out of
        the windows, and makes the conditions on its metric false but for `finite: false`. It is no recovery: where
        nothing else says no, the conjunction does not fire again on the next finite sample.

        Args:
            state: what is kept of the run.
            step: the event's; None where it has none.
            metrics: the event's samples by name.
            token: stands for the event (`event_token`); needed where the step does not rise.
            start: the run's newest start; `NO_START` when none is known.

        Raises:
            ValueError: for the state of another number of conditions.
        """
        if len(state.held) != len(self.conditions):
            raise ValueError("the run state belongs to other conditions")
        unstepped = not step and token is not None
        if unstepped and token in state.unstepped:
            return self._ignored(state, metrics)
        began_anew = False
        if start not in (state.start, NO_START):
            began_anew = step is not None and any(one.goes_back(state, step, metrics) for one in self._watches)
            if began_anew:
                state.begin_anew()
        ignored, first, previous = 0, None, None
        for watch in self._watches:
            value = metrics.get(watch.metric)
            if value is None:
                continue
            before = state.series.get(watch.metric)
            last = before.values[-1] if before is not None and before.values else None
            if not watch.take(state, step, value, in_order=unstepped):
                ignored += 1
            elif first is None:
                first, previous = watch, last
        held = all(state.held)
        if first is None:
            return Observation(fired=False, held=held, ignored_samples=ignored)
        fired = held and state.armed
        if held:
            state.armed = False
        elif not state.armed:
            state.armed = any(watch.says_no(state) for watch in self._watches)
        state.start = start or state.start
        if unstepped and token is not None:
            state.unstepped.append(token)
            del state.unstepped[:-MAX_REMEMBERED]
        index, compiled = first.terms[0]
        threshold = self.conditions[index].reported_threshold
        compares = fired and threshold is not None
        return Observation(
            fired,
            held,
            ignored,
            index,
            first.metric,
            metrics[first.metric],
            threshold,
            began_anew,
            previous,
            compiled.value(state.series[first.metric].values) if compares else None,
        )

    def _ignored(self, state: WindowState, metrics: Mapping[str, float]) -> Observation:
        watched = sum(watch.metric in metrics for watch in self._watches)
        return Observation(fired=False, held=all(state.held), ignored_samples=watched)


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
    elif compiled.finite is not None:
        pass
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
