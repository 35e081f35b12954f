"""Draws the dashboards as pictures from a Prometheus: `python -m deploy.grafana.pictures --help`.

Needs no Grafana: the panels of dashboards/*.json are laid out on their grid, with their titles, units, legends and
queries, in Grafana's dark colours. Needs matplotlib and Pillow. Must not know what a panel is about.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator
from PIL import Image

from deploy.grafana.generate import COLUMNS, FOLDER

STEPS_SECONDS = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400, 604800)
WIDTH_PIXELS, UNIT_PIXELS, MARGIN_PIXELS, HEAD_PIXELS, DPI = 1440, 30, 5, 44, 100
POINTS = 180
PAGE, PANEL, EDGE, TEXT, FAINT, GRID = "#111217", "#181b1f", "#2c3235", "#ccccdc", "#8e9199", "#2a2d33"
COLOURS = (
    "#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#fade2a", "#ffa6b0", "#96d98d",
    "#37872d", "#e0b400",
)  # fmt: skip
SCALES = {
    "s": ((60.0, 1 / 60, " min"), (1.0, 1.0, " s"), (0.0, 1000.0, " ms")),
    "bytes": ((2**30, 2**-30, " GiB"), (2**20, 2**-20, " MiB"), (2**10, 2**-10, " KiB"), (0.0, 1.0, " B")),
    "ops": ((1000.0, 0.001, "K ops/s"), (0.0, 1.0, " ops/s")),
    "reqps": ((1000.0, 0.001, "K req/s"), (0.0, 1.0, " req/s")),
    "percentunit": ((0.0, 100.0, "%"),),
    "short": ((1e6, 1e-6, " Mil"), (1000.0, 0.001, " K"), (0.0, 1.0, "")),
}
"""For each unit of a panel: from which value on, times what, and how it is written."""


@dataclass(frozen=True, slots=True)
class Line:
    """One series: its legend, and its points as (Unix time, value)."""

    legend: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the data come from: a Prometheus and the span that is shown, in Unix time."""

    url: str
    since: float
    until: float
    rate_interval: str

    def lines(self, target: dict[str, Any]) -> list[Line]:
        """The series of a panel's query, gaps where a value is no number."""
        query = target["expr"].replace("$__rate_interval", self.rate_interval)
        step = max(1.0, (self.until - self.since) / POINTS)
        parameters = {"query": query, "start": self.since, "end": self.until, "step": step}
        answer = httpx.get(f"{self.url}/api/v1/query_range", params=parameters, timeout=60)
        answer.raise_for_status()
        return [
            Line(
                _legend(target["legendFormat"], one["metric"]),
                [(float(at), float(value)) for at, value in one["values"]],
            )
            for one in answer.json()["data"]["result"]
        ]


def _legend(form: str, labels: dict[str, str]) -> str:
    if form == "__auto":
        return ", ".join(f'{name}="{value}"' for name, value in labels.items() if name != "__name__")
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match[1], ""), form)


def written(value: float, unit: str) -> str:
    """A value in its unit, as a person reads it."""
    if not math.isfinite(value):
        return "-"
    _, factor, ending = next(scale for scale in SCALES[unit] if abs(value) >= scale[0])
    number = value * factor
    digits = 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2
    text = f"{number:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if digits else text}{ending}"


def draw(dashboard: dict[str, Any], source: Source) -> Figure:
    """A dashboard's picture."""
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    height = HEAD_PIXELS + MARGIN_PIXELS + UNIT_PIXELS * max(place["y"] + place["h"] for place in places)
    figure = Figure(figsize=(WIDTH_PIXELS / DPI, height / DPI), dpi=DPI, facecolor=PAGE)
    span = " to ".join(datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S") for at in (source.since, source.until))
    figure.text(0.008, 1 - 22 / height, dashboard["title"], color=TEXT, fontsize=13, va="center", weight="bold")
    figure.text(0.992, 1 - 22 / height, f"{span} UTC", color=FAINT, fontsize=9, va="center", ha="right")
    for panel in dashboard["panels"]:
        lines = [line for target in panel["targets"] for line in source.lines(target)]
        box = _frame(figure, panel, height)
        if panel["type"] == "stat":
            _stat(figure, panel, lines, box)
        else:
            _time_series(figure, panel, lines, box, source)
    return figure


Box = tuple[float, float, float, float]
"""Left, bottom, width and height in pixels, from below."""


def _frame(figure: Figure, panel: dict[str, Any], height: float) -> Box:
    """Draw a panel's frame and title; where it is."""
    place, column = panel["gridPos"], WIDTH_PIXELS / COLUMNS
    left, width = place["x"] * column + MARGIN_PIXELS, place["w"] * column - 2 * MARGIN_PIXELS
    tall = place["h"] * UNIT_PIXELS - 2 * MARGIN_PIXELS
    bottom = height - HEAD_PIXELS - place["y"] * UNIT_PIXELS - MARGIN_PIXELS - tall
    size = (WIDTH_PIXELS, height)
    corner, extent = (left / size[0], bottom / size[1]), (width / size[0], tall / size[1])
    patch = FancyBboxPatch(
        corner, *extent, boxstyle="square,pad=0", fc=PANEL, ec=EDGE, lw=1, transform=figure.transFigure, zorder=-1
    )
    figure.add_artist(patch)
    x, y = (left + 10) / size[0], (bottom + tall - 16) / size[1]
    figure.text(x, y, panel["title"], color=TEXT, fontsize=10, va="center", weight="bold")
    return left, bottom, width, tall


def _axes(figure: Figure, box: Box, insets: tuple[float, float, float, float]) -> Axes:
    """Axes inside a panel; insets are left, bottom, right and top in pixels."""
    wide, high = figure.get_size_inches() * DPI
    left, bottom, width, tall = box
    inner = (left + insets[0], bottom + insets[1], width - insets[0] - insets[2], tall - insets[1] - insets[3])
    axes: Axes = figure.add_axes((inner[0] / wide, inner[1] / high, inner[2] / wide, inner[3] / high), facecolor=PANEL)
    return axes


def _stat(figure: Figure, panel: dict[str, Any], lines: Sequence[Line], box: Box) -> None:
    """The last value, large, over its course."""
    axes = _axes(figure, box, (1, 1, 1, 34))
    axes.axis("off")
    points = [point for line in lines for point in line.points if math.isfinite(point[1])]
    text = written(points[-1][1], panel["fieldConfig"]["defaults"]["unit"]) if points else "No data"
    if points:
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, color=COLOURS[0], lw=1)
        axes.fill_between(xs, ys, color=COLOURS[0], alpha=0.18)
        axes.set_ylim(0, max(ys) * 2.2 or 1)
        axes.margins(x=0)
    wide, high = figure.get_size_inches() * DPI
    x, y = (box[0] + box[2] / 2) / wide, (box[1] + box[3] * 0.48) / high
    figure.text(x, y, text, color=COLOURS[0] if points else FAINT, fontsize=21, ha="center", va="center", weight="bold")


def _time_series(figure: Figure, panel: dict[str, Any], lines: Sequence[Line], box: Box, source: Source) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    names = sorted(lines, key=lambda line: line.legend) if len(panel["targets"]) == 1 else list(lines)
    rows = _rows([line.legend for line in names], box[2] - 24)
    axes = _axes(figure, box, (76, 34 + 17 * len(rows), 14, 34))
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT, labelsize=8.5, length=0)
    for line, colour in zip(names, _colours(len(names)), strict=True):
        xs, ys = zip(*line.points, strict=True)
        axes.plot(xs, ys, color=colour, lw=1.4)
        if len(names) <= 4:
            axes.fill_between(xs, ys, color=colour, alpha=0.07)
    axes.set_xlim(source.since, source.until)
    axes.set_ylim(bottom=0, top=None if any(value > 0 for line in names for _, value in line.points) else 1)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: written(value, unit)))
    span = source.until - source.since
    axes.xaxis.set_major_locator(MultipleLocator(next(step for step in STEPS_SECONDS if span / step <= 8)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")))
    if not names:
        axes.text(0.5, 0.5, "No data", color=FAINT, transform=axes.transAxes, ha="center", va="center")
    _put_legend(figure, box, rows, _colours(len(names)))


def _colours(count: int) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


LEGEND_POINTS, SWATCH_PIXELS, GAP_PIXELS = 8.5, 18, 16


def _legend_pixels(legend: str) -> float:
    """How wide a legend is, with its swatch and the gap after it."""
    text = TextPath((0, 0), legend or " ", size=LEGEND_POINTS).get_extents().width
    return SWATCH_PIXELS + float(text) * DPI / 72 + GAP_PIXELS


def _rows(legends: Sequence[str], width: float) -> list[list[str]]:
    """Legends in as many rows as they need."""
    rows: list[list[str]] = [[]]
    used = 0.0
    for legend in legends:
        needed = _legend_pixels(legend)
        if rows[-1] and used + needed > width:
            rows.append([])
            used = 0.0
        rows[-1].append(legend)
        used += needed
    return rows


def _put_legend(figure: Figure, box: Box, rows: Sequence[Sequence[str]], colours: Sequence[str]) -> None:
    wide, high = figure.get_size_inches() * DPI
    remaining = iter(colours)
    for number, row in enumerate(rows):
        x, y = box[0] + 14, box[1] + 8 + 17 * (len(rows) - number - 1) + 5
        for legend in row:
            colour = next(remaining)
            figure.add_artist(
                Line2D([x / wide, (x + 12) / wide], [y / high, y / high], color=colour, lw=3, solid_capstyle="butt")
            )
            figure.text((x + SWATCH_PIXELS) / wide, y / high, legend, color=TEXT, fontsize=LEGEND_POINTS, va="center")
            x += _legend_pixels(legend)


def save(figure: Figure, file: Path) -> None:
    """Write a picture with no more colours than a small file has."""
    whole = BytesIO()
    figure.savefig(whole, dpi=DPI, facecolor=PAGE)
    with Image.open(whole) as image:
        small = image.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    small.save(file, optimize=True)


def draw_all(source: Source, folder: Path) -> list[Path]:
    """Draw every dashboard into a folder; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for dashboard in sorted(FOLDER.glob("*.json")):
        made.append(folder / f"{dashboard.stem}.png")
        figure = draw(json.loads(dashboard.read_text(encoding="utf-8")), source)
        save(figure, made[-1])
    return made


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana.pictures", description=__doc__)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="its address (%(default)s)")
    parser.add_argument("--minutes", type=float, default=60, help="the span that is shown, up to now (%(default)s)")
    parser.add_argument(
        "--rate-interval", default="1m", help="for $__rate_interval: at least four scrapes (%(default)s)"
    )
    parser.add_argument("--to", type=Path, default=Path("docs/pictures"), help="the folder (%(default)s)")
    given = parser.parse_args()
    now = time.time()
    source = Source(given.prometheus, now - 60 * given.minutes, now, given.rate_interval)
    for file in draw_all(source, given.to):
        sys.stdout.write(f"{file}\n")


if __name__ == "__main__":
    main()
