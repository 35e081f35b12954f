"""A series as a plot in a terminal: what was compared, by step, with the bound as a line and firings as triangles.

Works nothing out itself: the numbers come from the code that evaluates.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.domain.explain.series import Point, Series
from shared.domain.explain.simulator import DryRunOutcome
from shared.dry_runs.run_series import RunSeries
from worker.commands.output import print_rich, shown

WIDTH, HEIGHT = 72, 14
FIRED, HELD, SEEN, BOUND = "▲", "●", "·", "─"
_RANK = (FIRED, HELD, SEEN)


def print_series(run: str, found: RunSeries) -> None:
    """Print the plot of each series, or that there is none."""
    if not found.series:
        print_rich(shown(f"no sample of run {run} for a condition is kept"))
    for one in found.series:
        print_rich(*(shown(line) for line in plot_lines(one)))
    if found.truncated and found.read_until is not None:
        until = found.read_until.isoformat()
        print_rich(shown(f"stopped early, after events received at {until}: continue with --since", style="yellow"))


def plot_lines(series: Series, width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    """The plot of one series, line by line. Points without a number to compare are counted under it."""
    known = [point for point in series.points if point.compared is not None]
    lines = [series.condition]
    if known:
        lines += _grid(series, known, width, height)
    filling = len(series.points) - len(known)
    fired = sum(point.outcome is DryRunOutcome.FIRED for point in series.points)
    full = "full since the first sample" if known else "never full"
    if series.full_since_step is not None:
        full = f"full since step {series.full_since_step}"
    bound = "" if series.bound is None else f"  {BOUND} bound {series.bound:g}"
    lines.append(
        f"{len(series.points)} of {series.samples} samples shown, {filling} without a number, windows {full}; "
        f"{FIRED} fired ({fired})  {HELD} held  {SEEN} did not hold{bound}"
    )
    return lines


def _grid(series: Series, known: Sequence[Point], width: int, height: int) -> list[str]:
    numbers = [point.compared for point in known if point.compared is not None]
    bound = series.bound or 0.0
    bounds = [bound] if series.side != "outside" else [bound, -bound]
    bounds = [-bound] if series.side == "below" and series.compares in ("change", "zscore") else bounds
    low, high = min(*numbers, *bounds), max(*numbers, *bounds)
    # Where samples have no steps, they stand in the order in which they came.
    stepped = all(point.step is not None for point in known)
    places = [place if point.step is None or not stepped else point.step for place, point in enumerate(known)]
    first, last = min(places), max(places)
    grid = [[" "] * width for _ in range(height)]
    for bound in bounds:
        grid[_row(bound, low, high, height)] = [BOUND] * width
    for step, point in zip(places, known, strict=True):
        row = grid[_row(point.compared or 0.0, low, high, height)]
        column = 0 if last == first else (step - first) * (width - 1) // (last - first)
        mark = FIRED if point.outcome is DryRunOutcome.FIRED else HELD if point.held else SEEN
        if row[column] not in _RANK or _RANK.index(mark) < _RANK.index(row[column]):
            row[column] = mark
    lines = [f"{_label(place, low, high, height):>12} ┤{''.join(row)}" for place, row in enumerate(grid)]
    return [*lines, f"{'step' if stepped else 'sample':>12} └{first:<{width // 2}}{last:>{width - width // 2}}"]


def _row(number: float, low: float, high: float, height: int) -> int:
    """The line of a number, from the top."""
    share = 0.5 if high == low else (number / 2 - low / 2) / (high / 2 - low / 2)
    return round((1 - min(1.0, max(0.0, share))) * (height - 1))


def _label(place: int, low: float, high: float, height: int) -> str:
    if place == 0:
        return f"{high:.6g}"
    return f"{low:.6g}" if place == height - 1 else ""
