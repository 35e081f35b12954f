"""Lines, bounds and marks as SVG. Pure: numbers in, markup out.

A plot is stretched to the room that it has, so nothing in it is text: the numbers of its axes stand beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

WIDTH, HEIGHT = 1000, 400
"""Of the plot's own coordinates; it is drawn in whatever size the page gives it."""
COLUMNS = 400
"""A line has the least and the greatest value of each of so many columns at most."""
MAX_TICKS = 5
MAX_MARKS = 300
_PER_COLUMN = 2
_MOST, _LEAST = 1e300, 1e-300
"""Greater values are drawn at this one, and smaller differences as none."""

BARS = 30
"""Outcomes that a strip shows at most."""
_BAR_PIXELS = 6

Pair = tuple[float, float | None]
"""A place on the horizontal axis, and a value; None breaks the line."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart."""

    points: Sequence[Pair]
    style: str = "s0"
    """The class that draws it: `s0` to `s4` for runs, `compared` for what a condition compares."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at a point: `fired`, `held` or `already`, which differ in their form."""

    x: float
    y: float
    kind: str
    words: str


@dataclass(frozen=True, slots=True)
class Chart:
    """What a template shows of a chart."""

    plot: Markup
    y_ticks: tuple[str, ...]
    """The numbers beside the plot, from its top to its bottom, at equal distances."""
    x_ticks: tuple[str, str]
    """The numbers under its left and right end."""


def line_chart(
    lines: Sequence[Line],
    *,
    bounds: Iterable[float] = (),
    marks: Sequence[Mark] = (),
    warm_until: float | None = None,
) -> Chart | None:
    """A chart of lines; None when they have no value.

    `bounds` are drawn from side to side, and `warm_until` is the end of the stretch in which windows were filling.
    """
    known = [(x, y) for line in lines for x, y in line.points if y is not None]
    if not known:
        return None
    bounds = list(bounds)
    bottom, step, count = _scale([_drawable(y) for y in (*(y for _, y in known), *bounds)])
    left, right = min(x for x, _ in known), max(x for x, _ in known)

    def across(x: float) -> float:
        return round((x - left) / (right - left) * WIDTH, 1) if right > left else WIDTH / 2

    def up(y: float) -> float:
        return round(HEIGHT - (_drawable(y) - bottom) / (step * count) * HEIGHT, 1)

    parts = []
    if warm_until is not None and warm_until > left:
        parts.append(f'<rect class="warm" x="0" y="0" width="{across(min(warm_until, right))}" height="{HEIGHT}"/>')
    grid = "".join(f"M0 {round(HEIGHT * number / count, 1)}H{WIDTH}" for number in range(count + 1))
    parts.append(f'<path class="grid" d="{grid}"/>')
    parts += [f'<path class="bound" d="M0 {up(bound)}H{WIDTH}"/>' for bound in bounds]
    parts += [_line(line, across, up) for line in lines]
    for mark in marks[-MAX_MARKS:]:
        drawn = Markup('<path class="mark {}" d="M{} {}h.01"><title>{}</title></path>')
        parts.append(drawn.format(mark.kind, across(mark.x), up(mark.y), mark.words))
    plot = Markup("").join(Markup(part) for part in parts)  # noqa: S704 - numbers, and words that were escaped
    ticks = tuple(_number(bottom + step * number, step) for number in range(count, -1, -1))
    return Chart(plot, ticks, (_number(left, 1), _number(right, 1)))


def _line(line: Line, across: Callable[[float], float], up: Callable[[float], float]) -> str:
    drawn: list[str] = []
    begun = False
    for x, y in thinned(line.points):
        if y is None:
            begun = False
            continue
        drawn.append(f"{'L' if begun else 'M'}{across(x)} {up(y)}")
        begun = True
    if not drawn:
        return ""
    if len(drawn) == 1:
        drawn.append("h.01")
    return f'<path class="line {line.style}" d="{"".join(drawn)}"/>'


def thinned(points: Sequence[Pair]) -> list[Pair]:
    """At most about `COLUMNS` times two of the points: of each stretch the least and the greatest, in their order."""
    if len(points) <= COLUMNS * _PER_COLUMN:
        return list(points)
    kept: list[Pair] = []
    for number in range(COLUMNS):
        few = list(enumerate(points[number * len(points) // COLUMNS : (number + 1) * len(points) // COLUMNS]))
        known = [(y, place) for place, (_, y) in few if y is not None]
        chosen = {min(known)[1], max(known)[1]} if known else {0}
        kept += [few[place][1] for place in sorted(chosen)]
    return kept


def _drawable(value: float) -> float:
    return min(_MOST, max(-_MOST, value))


def _scale(values: Sequence[float]) -> tuple[float, float, int]:
    """A bottom, a round step, and how many steps reach over all values."""
    low, high = min(values), max(values)
    if high - low <= max(abs(high), abs(low)) * 1e-9 + _LEAST:
        pad = abs(high) / 10 if abs(high) > _LEAST else 1.0
        low, high = low - pad, high + pad
    step = _round_step((high - low) / (MAX_TICKS - 1))
    bottom = math.floor(low / step) * step
    return bottom, step, max(1, math.ceil((high - bottom) / step - 1e-9))


def _round_step(least: float) -> float:
    """1, 2 or 5 times a power of ten, that much or more."""
    power = 10.0 ** math.floor(math.log10(least))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= least * (1 - 1e-9)), 10 * power)


def _number(value: float, step: float) -> str:
    """A number as exact as its distance to the next needs."""
    digits = max(0, -math.floor(math.log10(step))) if step > 0 else 0
    if value and (abs(value) >= 1e6 or digits > 6):
        return f"{value:.4g}"
    text = f"{value:.{digits}f}"
    return "0" if float(text) == 0 else text


def outcome_strip(outcomes: Sequence[str]) -> Markup:
    """The newest outcomes as bars, the newest on the right, `BARS` at most. It is for eyes only: words stand beside it.

    Neighbours of one status are one line, which the style sheet moves, thickens and dashes: a list of fifty strips must
    stay small.
    """
    shown = list(reversed(outcomes[:BARS]))
    lines: dict[str, str] = {}
    ends: dict[str, int] = {}
    at = 0
    for status, group in groupby(shown):
        count = len(list(group))
        lines[status] = f"{lines.get(status, '')}m{at - ends.get(status, 0)} 0h{count}"
        at = ends[status] = at + count
    paths = Markup("").join(Markup('<path class="{}" d="{}"/>').format(*line) for line in lines.items())
    return Markup(
        '<svg class="strip" viewBox="0 0 {} 1" preserveAspectRatio="none" width="{}" aria-hidden="true">{}</svg>'
    ).format(at, at * _BAR_PIXELS, paths)
