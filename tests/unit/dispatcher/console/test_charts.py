"""Charts: any numbers make one, within its frame, and its form says what happened."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.console.charts import BARS, COLUMNS, HEIGHT, WIDTH, Line, Mark, line_chart, outcome_strip, thinned
from dispatcher.console.metric_plots import condition_plot, plot_of, rounded
from shared.domain.explain.series import Point, Series
from shared.domain.explain.simulator import DryRunOutcome, Reason
from shared.dry_runs.metric_lines import MetricLine, Sample

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
POINTS = st.lists(st.tuples(st.integers(0, 2**53).map(float), st.none() | NUMBERS), min_size=1, max_size=50)
_PAIR = re.compile(r"[ML](-?[\d.e+-]+) (-?[\d.e+-]+)")
NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)


@given(POINTS, st.lists(NUMBERS, max_size=3))
def test_any_numbers_make_a_chart_within_its_frame(
    points: list[tuple[float, float | None]], bounds: list[float]
) -> None:
    points.sort(key=lambda point: point[0])
    chart = line_chart([Line(points)], bounds=bounds)
    if all(y is None for _, y in points):
        assert chart is None
        return
    assert chart is not None
    for x, y in _PAIR.findall(str(chart.plot)):
        assert 0 <= float(x) <= WIDTH and -1 <= float(y) <= HEIGHT + 1
    assert "nan" not in str(chart.plot) and "inf" not in str(chart.plot)
    assert len(chart.y_ticks) >= 2


@given(st.lists(st.tuples(st.floats(0, 1e6), st.none() | st.floats(-1e6, 1e6)), max_size=3 * COLUMNS))
def test_thinning_keeps_the_extremes(points: list[tuple[float, float | None]]) -> None:
    kept = thinned(points)
    known = [y for _, y in points if y is not None]
    assert len(kept) <= 2 * COLUMNS
    if known:
        left = [y for _, y in kept if y is not None]
        assert (min(left), max(left)) == (min(known), max(known))


def test_words_in_a_chart_are_escaped() -> None:
    chart = line_chart([Line([(0, 1.0)])], marks=[Mark(0, 1.0, "fired", "<b>&")])
    assert chart is not None and "&lt;b&gt;&amp;" in chart.plot and "<b>" not in chart.plot


def test_ticks_are_round() -> None:
    chart = line_chart([Line([(0, 0.803), (10, 0.998)])])
    assert chart is not None
    assert chart.y_ticks == ("1.00", "0.95", "0.90", "0.85", "0.80") and chart.x_ticks == ("0", "10")


@given(NUMBERS)
def test_a_rounded_number_is_one_that_people_write(value: float) -> None:
    text = rounded(value)
    assert math.isclose(float(text), value, rel_tol=1e-3, abs_tol=0) or value == 0
    assert len(text) <= 24


def test_a_plot_proposes_the_newest_number_of_the_newest_run() -> None:
    newest = MetricLine("b", "", (Sample(1, 0.91237, NOON), Sample(2, None, NOON)))
    runs = [newest, *(MetricLine(f"a{number}", "", (Sample(1, 5.0, NOON),)) for number in range(7))]
    plot = plot_of("accuracy", runs)
    assert (plot.last, plot.threshold, plot.more) == (0.91237, "0.9124", 3)


def _series(compares: str, side: str, *points: Point) -> Series:
    return Series("a condition", "m", compares, 2.0, side, len(points), 1, points)


def _point(step: int, outcome: DryRunOutcome, reason: Reason | None = None, *, held: bool = True) -> Point:
    return Point(step, NOON, 1.0, 3.0, None, held, outcome, reason)


def test_marks_tell_what_fired_was_held_back_and_held_before() -> None:
    plot = condition_plot(
        _series(
            "value",
            "above",
            _point(1, DryRunOutcome.FIRED),
            _point(2, DryRunOutcome.SKIPPED, Reason.COOLDOWN),
            _point(3, DryRunOutcome.NO_MATCH, Reason.ALREADY_TRUE),
            _point(4, DryRunOutcome.NO_MATCH, Reason.CONDITIONS, held=False),
        )
    )
    assert plot.chart is not None
    assert re.findall('class="mark (\\w+)"', plot.chart.plot) == ["fired", "held", "already"]


def test_bounds_stand_where_the_condition_compares() -> None:
    point = _point(1, DryRunOutcome.FIRED)
    assert condition_plot(_series("change", "below", point)).bounds == (-2.0,)
    assert condition_plot(_series("zscore", "outside", point)).bounds == (2.0, -2.0)
    assert condition_plot(_series("value", "below", point)).bounds == (2.0,)
    assert condition_plot(_series("zscore", "above", point)).has_samples is False


def test_samples_without_a_step_stand_in_their_order_and_what_compares_with_nothing_has_no_bound() -> None:
    points = [Point(None, NOON, value, None, None, False, DryRunOutcome.NO_MATCH, None) for value in (1.0, None, 2.0)]
    plot = condition_plot(Series("loss is no finite number", "loss", "finite", None, "not_finite", 3, None, (*points,)))
    assert plot.chart is not None
    assert plot.chart.x_ticks == ("0", "2")
    assert (plot.bounds, plot.has_samples) == ((), True)
    line = MetricLine("b", "", (Sample(None, 1.0, NOON), Sample(7, 2.0, NOON)))
    drawn = plot_of("loss", [line]).chart
    assert drawn is not None
    assert drawn.x_ticks == ("0", "1")


@given(st.lists(st.sampled_from(["delivered", "dead", "refused", "skipped", "pending"]), max_size=60))
def test_a_strip_has_a_bar_for_each_outcome_the_newest_on_the_right(outcomes: list[str]) -> None:
    drawn: dict[int, str] = {}
    for status, lines in re.findall(r'<path class="(\w+)" d="([^"]+)"/>', outcome_strip(outcomes)):
        at = 0
        for gap, length in re.findall(r"m(\d+) 0h(\d+)", lines):
            at += int(gap)
            for _ in range(int(length)):
                assert at not in drawn
                drawn[at] = status
                at += 1
    assert [drawn[bar] for bar in sorted(drawn)] == outcomes[:BARS][::-1]
    assert sorted(drawn) == list(range(len(drawn)))
