"""The numbers that metric conditions saw of a run: each sample, what was compared, and what came of it.

They come out of the code that evaluates (`CompiledConditions.observe` and `explain`). A series is thinned out to a
number of points: its points are cut into stretches of equal length, and of each stretch those stay that have the least
and the greatest value and the least and the greatest number compared; those that fired stay too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from shared.domain.conditions.conditions import (
    ChangeCondition,
    Condition,
    Direction,
    FiniteCondition,
    Op,
    ThresholdCondition,
)
from shared.domain.conditions.windows import explain
from shared.domain.events.models import RunMetricEvent
from shared.domain.explain.past import PastResult
from shared.domain.explain.simulator import Considered, DryRunOutcome, Reason, Subject

MAX_SAMPLES = 20_000
"""The most events of a run that a series is made of."""
MAX_POINTS = 2000
_PER_STRETCH = 4


@dataclass(frozen=True, slots=True)
class Point:
    """One sample of a condition's metric."""

    step: int | None
    """Null for a sample without one."""
    received_at: datetime
    value: float | None
    """The sample; null if it is not a finite number."""
    compared: float | None
    """What was compared with the bound: the value, an aggregate, a change or a number of standard deviations."""
    reason: str | None
    """Why nothing could be compared; null where something was."""
    held: bool | None
    """Whether the condition held; null if that could not be told."""
    outcome: DryRunOutcome
    """What the event came to, with all conditions and restraints of the automation."""
    outcome_reason: Reason | None


@dataclass(frozen=True, slots=True)
class Series:
    """What one condition saw of a run."""

    condition: str
    """The condition as a short sentence."""
    metric: str
    compares: str
    """`value`, `aggregate`, `change`, `zscore` or `finite`."""
    bound: float | None
    """Null for `finite`, which compares with nothing."""
    side: str
    """Where it holds: `above`, `below`, `outside` (beyond the bound or minus the bound), `equal` or `not_equal`; of
    `finite` `finite` or `not_finite`."""
    samples: int
    """How many points there were before they were thinned out."""
    full_since_step: int | None
    """The first step at which the windows were full; before it they were filling. Null if they never were."""
    points: tuple[Point, ...]
    """In the order in which they came."""


@dataclass(slots=True)
class _Filling:
    condition: Condition
    points: list[Point] = field(default_factory=list)


class SeriesCollector:
    """Takes the results for the events of one run, in order, and makes a series of each condition."""

    def __init__(self) -> None:
        self._of: dict[str, _Filling] = {}

    def take(self, result: PastResult) -> None:
        """Note what the conditions saw of an event of the past, if they looked at it."""
        self.observe(result.subject, result.considered)

    def observe(self, subject: Subject | None, considered: Considered) -> None:
        """Note what the conditions saw of an event that was just considered, if they looked at it."""
        event, samples = considered.arrival.event, considered.samples
        if subject is None or samples is None or not isinstance(event, RunMetricEvent):
            return
        if samples.observation.condition_index is None:
            return
        conditions = subject.compiled.automation.conditions
        received_at = datetime.fromtimestamp(considered.arrival.received_ms / 1000, UTC)
        for condition, term in zip(conditions, explain(conditions, samples.windows), strict=True):
            value = event.data.metrics.get(condition.metric)
            if value is None or (
                samples.observation.ignored_samples
                and samples.windows.series[condition.metric].last_step != event.data.step
            ):
                continue
            filling = self._of.setdefault(condition.text, _Filling(condition))
            filling.points.append(
                Point(
                    event.data.step,
                    received_at,
                    value if math.isfinite(value) else None,
                    term.value,
                    term.reason,
                    term.held,
                    considered.outcome,
                    considered.reason,
                )
            )

    def series(self, most: int) -> tuple[Series, ...]:
        """A series of each condition that had a sample, of about `most` points and those that fired."""
        return tuple(_series(filling, most) for filling in self._of.values())


def _series(filling: _Filling, most: int) -> Series:
    condition, points = filling.condition, filling.points
    finite = isinstance(condition, FiniteCondition)
    full = next((point.step for point in points if point.compared is not None or finite), None)
    compares, side = _form(condition)
    return Series(
        condition=condition.text,
        metric=condition.metric,
        compares=compares,
        bound=condition.reported_threshold,
        side=side,
        samples=len(points),
        full_since_step=full,
        points=tuple(thin_out(points, most)),
    )


_SIDES = {
    Op.GT: "above",
    Op.GTE: "above",
    Op.LT: "below",
    Op.LTE: "below",
    Op.EQ: "equal",
    Op.NE: "not_equal",
    Direction.INCREASE: "above",
    Direction.DECREASE: "below",
    Direction.ANY: "outside",
}


def _form(condition: Condition) -> tuple[str, str]:
    if isinstance(condition, ThresholdCondition):
        return "value" if condition.aggregate is None else "aggregate", _SIDES[condition.op]
    if isinstance(condition, ChangeCondition):
        return "change", _SIDES[condition.change.direction]
    if isinstance(condition, FiniteCondition):
        return "finite", "finite" if condition.finite else "not_finite"
    return "zscore", _SIDES[condition.zscore.direction]


def thin_out(points: Sequence[Point], most: int) -> list[Point]:
    """At most about `most` of the points, by the rule above; those that fired are beside them, the newest `most`."""
    if len(points) <= most:
        return list(points)
    stretches = max(1, most // _PER_STRETCH)
    kept: set[int] = set()
    for number in range(stretches):
        places = range(number * len(points) // stretches, (number + 1) * len(points) // stretches)
        for measure in (_value, _compared):
            known = [place for place in places if measure(points[place]) is not None]
            for choose in (min, max):
                kept.update(_extreme(choose, known, points, measure))
    fired = [place for place, point in enumerate(points) if point.outcome is DryRunOutcome.FIRED]
    kept.update(fired[-most:])
    return [points[place] for place in sorted(kept)]


def _value(point: Point) -> float | None:
    return point.value


def _compared(point: Point) -> float | None:
    return point.compared


def _extreme(
    choose: Callable[..., int],
    places: Iterable[int],
    points: Sequence[Point],
    measure: Callable[[Point], float | None],
) -> list[int]:
    found = list(places)
    return [choose(found, key=lambda place: measure(points[place]) or 0.0)] if found else []
