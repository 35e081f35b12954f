"""Metric conditions at work: the newest values of a run's metrics, and whether conditions hold over them.

`compile_conditions` turns definitions into closures once; `CompiledConditions.observe` then feeds them one sample of
a run after the other. A `RunState` belongs to one automation and one run and is the only thing that changes here. This
module must not store states, look at an event's other fields, or know of cooldowns.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import orjson

from shared.domain.conditions import (
    Condition,
)
from shared.domain.errors import HooklineError

_CODEC_VERSION = 1
_HEADER_LENGTH = struct.Struct("<BI")

_Values = list[float]
_Measure = Callable[[_Values], float]


class UnreadableState(HooklineError):
    """Stored bytes are no run state that this version can read: damaged, or written by a newer Hookline."""


@dataclass(slots=True)
class Series:
    """The newest values of one metric of one run, oldest first."""

    last_step: int
    values: list[float] = field(default_factory=list)
    finite: bool = True
    """False while the newest sample is NaN or infinite; such a sample is not among the values."""


@dataclass(slots=True)
class RunState:
    """What one automation remembers of one run; only as long as the automation's conditions stay the same."""

    held: list[bool | None]
    """Latest truth per condition; None: could not be told (a window not yet full, or an undefined value)."""
    series: dict[str, Series] = field(default_factory=dict)
    armed: bool = True
    """Whether the conjunction was false (or never evaluated) last, so that it fires on becoming true."""

    def to_bytes(self) -> bytes:
        """Version byte, length and JSON of everything but the values, then the values as little-endian doubles."""
        shapes = [(name, one.last_step, one.finite, len(one.values)) for name, one in self.series.items()]
        header = orjson.dumps((self.armed, self.held, shapes))
        values = [value for one in self.series.values() for value in one.values]
        packed = struct.pack(f"<{len(values)}d", *values)
        return _HEADER_LENGTH.pack(_CODEC_VERSION, len(header)) + header + packed

    @classmethod
    def from_bytes(cls, data: bytes) -> RunState:
        """Read what `to_bytes` wrote, every float exactly. Raises `UnreadableState`."""
        try:
            version, length = _HEADER_LENGTH.unpack_from(data)
            if version != _CODEC_VERSION:
                raise UnreadableState(f"run state of version {version}, this Hookline reads {_CODEC_VERSION}")
            start = _HEADER_LENGTH.size + length
            armed, held, shapes = orjson.loads(data[_HEADER_LENGTH.size : start])
            values = iter(struct.unpack(f"<{sum(shape[3] for shape in shapes)}d", data[start:]))
            series = {
                name: Series(last_step, [next(values) for _ in range(count)], finite)
                for name, last_step, finite, count in shapes
            }
        except (struct.error, TypeError, ValueError) as error:
            raise UnreadableState("run state is damaged") from error
        return cls(held=held, series=series, armed=armed)


@dataclass(frozen=True, slots=True)
class Observation:
    """What one event did to one automation's conditions in one run."""

    fired: bool
    """The conjunction of all conditions became true with this event."""
    held: bool
    """The conjunction of all conditions is true now."""
    ignored_samples: int
    """Watched samples at or before their metric's last step; they changed nothing."""
    condition_index: int | None = None
    """The first condition whose metric took a sample from this event; the facts below are its. None: no metric did."""
    metric_name: str | None = None
    metric_value: float | None = None
    metric_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class ConditionTerm:
    """One condition's part in "why did it not fire": its observed value, or the reason why there is none."""

    text: str
    held: bool | None
    value: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class _Term:
    """A compiled condition."""

    index: int
    needed: int
    measure: _Measure
    satisfied: Callable[[float], bool]

    def value(self, values: _Values) -> float | None:
        """What is compared, or None where it is undefined: a division by zero or an overflow."""
        try:
            measured = self.measure(values)
        except ArithmeticError:
            return None
        return measured if math.isfinite(measured) else None

    def truth(self, values: _Values) -> bool | None:
        if len(values) < self.needed:
            return None
        value = self.value(values)
        return None if value is None else self.satisfied(value)


@dataclass(frozen=True, slots=True)
class _Watch:
    """One watched metric with the conditions on it."""

    metric: str
    needed: int
    terms: tuple[_Term, ...]

    def take(self, state: RunState, step: int, value: float) -> bool:
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
        for term in self.terms:
            state.held[term.index] = series.finite and term.truth(series.values)
        return True


class CompiledConditions:
    """The conditions of one automation, ready for many runs; made by `compile_conditions`."""

    __slots__ = ("_conditions", "_watches")

    def __init__(self, conditions: Sequence[Condition]) -> None:
        self._conditions = tuple(conditions)
        terms = [_compile(index, condition) for index, condition in enumerate(conditions)]
        self._watches = tuple(
            _Watch(metric, needed, tuple(t for t in terms if conditions[t.index].metric == metric))
            for metric, needed in needed_values(conditions).items()
        )
