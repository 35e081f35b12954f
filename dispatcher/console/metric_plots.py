"""Charts of metrics and of conditions, with the numbers that stand beside them. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dispatcher.console.charts import Chart, Line, Mark, line_chart
from shared.domain.explain.series import Point, Series
from shared.domain.explain.simulator import DryRunOutcome, Reason
from shared.dry_runs.metric_lines import MetricLine, Sample

LINES = 5
"""The runs whose lines one plot shows: those that logged last."""
DIGITS = 4


@dataclass(frozen=True, slots=True)
class MetricPlot:
    """The plot of a metric."""

    metric: str
    chart: Chart | None
    """None when no run logged a number."""
    lines: tuple[MetricLine, ...]
    """The runs that are drawn, in the order of their styles."""
    more: int
    """How many runs are not drawn."""
    last: float | None
    """The newest number of the run that logged last."""
    threshold: str
    """That number, rounded: what a new condition begins with."""


def plot_of(metric: str, lines: Sequence[MetricLine]) -> MetricPlot:
    """The plot of what runs logged of a metric, the run that logged last first."""
    shown = tuple(lines[:LINES])
    drawn = [
        Line(tuple(zip(_places(line.samples), (one.value for one in line.samples), strict=True)), f"s{number}")
        for number, line in enumerate(shown)
    ]
    numbers = [one.value for one in lines[0].samples if one.value is not None] if lines else []
    last = numbers[-1] if numbers else None
    return MetricPlot(
        metric, line_chart(drawn), shown, len(lines) - len(shown), last, "" if last is None else rounded(last)
    )


def _places(samples: Sequence[Sample | Point]) -> list[float]:
    """Where samples stand: at their steps, or in their order if one has none."""
    steps = [one.step for one in samples]
    return [float(place if None in steps or step is None else step) for place, step in enumerate(steps)]


def rounded(value: float) -> str:
    """A number with a few digits, as a person would write it."""
    if value == 0 or not math.isfinite(value):
        return "0"
    text = f"{value:.{DIGITS}g}"
    if "e" not in text:
        return text
    return repr(float(text) if math.isfinite(float(text)) else value).removesuffix(".0")


@dataclass(frozen=True, slots=True)
class ConditionPlot:
    """The chart of what one condition saw of a run."""

    series: Series
    chart: Chart | None
    has_samples: bool
    """Whether the samples are drawn beside what was compared; not where they are on another scale."""
    bounds: tuple[float, ...]
    shown: tuple[Point, ...]
    """The newest points, newest first: the same numbers as a table."""


TABLED = 50
_WORDS = {"fired": "fired", "held": "held back", "already": "held before"}


def condition_plot(series: Series) -> ConditionPlot:
    """What a condition saw: samples, what was compared, its bound, and where it fired."""
    same_scale = series.compares in ("value", "aggregate", "finite")
    places = _places(series.points)
    bounds = _bounds(series)
    lines = []
    if same_scale:
        lines.append(Line(tuple(zip(places, (one.value for one in series.points), strict=True)), "s0"))
    if series.compares not in ("value", "finite"):
        lines.append(Line(tuple(zip(places, (one.compared for one in series.points), strict=True)), "compared"))
    marks = [mark for at, one in zip(places, series.points, strict=True) if (mark := _mark(at, one)) is not None]
    chart = line_chart(
        lines, bounds=bounds, marks=marks, warm_until=None if series.full_since_step is None else series.full_since_step
    )
    return ConditionPlot(series, chart, same_scale, bounds, tuple(reversed(series.points[-TABLED:])))


def _bounds(series: Series) -> tuple[float, ...]:
    """The lines at which it is decided. A change or a z-score that must fall is compared with minus its bound."""
    if series.bound is None:
        return ()
    if series.side == "outside":
        return (series.bound, -series.bound)
    return (-series.bound if series.side == "below" and series.compares in ("change", "zscore") else series.bound,)


def _mark(place: float, point: Point) -> Mark | None:
    kind, number = mark_kind(point), point.value if point.compared is None else point.compared
    if kind is None or number is None:
        return None
    at = "" if point.step is None else f"step {point.step}: "
    return Mark(place, number, kind, f"{at}{number:.6g}, {_WORDS[kind]}")


def mark_kind(point: Point) -> str | None:
    """How a point is marked: it fired, was held back, or would have if it had not held before."""
    if point.outcome is DryRunOutcome.FIRED:
        return "fired"
    if point.outcome is DryRunOutcome.SKIPPED:
        return "held"
    return "already" if point.held and point.outcome_reason is Reason.ALREADY_TRUE else None
