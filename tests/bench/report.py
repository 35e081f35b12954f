"""What a benchmark run leaves: one JSON file with every round, and a picture of how far each demand was attained."""

from __future__ import annotations

import platform
import textwrap
from typing import TYPE_CHECKING, Any

import orjson
import psutil
from matplotlib import figure as canvas

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from tests.bench.figures import Figure

REACHED, MISSED = "#2a7f62", "#c0392b"
ROW_INCHES = 0.36
MARGIN_INCHES = 1.4
LABEL_WIDTH = 70


def write_json(figures: Sequence[Figure], path: Path, *, started_at: datetime) -> None:
    """Write every figure with every round."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "started_at": started_at,
        "machine": _machine(),
        "figures": [one.to_json() for one in figures],
    }
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))


def _machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def write_plot(figures: Sequence[Figure], path: Path) -> None:
    """Draw a bar for each demand: 1 is what was to be reached, to the right of it is better."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [(one, demand) for one in figures for demand in one.demands if not one.promise]
    picture = canvas.Figure(figsize=(11, MARGIN_INCHES + ROW_INCHES * len(rows)), layout="constrained")
    axes = picture.subplots()
    attained = [max(demand.attained, 0.01) for _, demand in rows]
    colours = [REACHED if demand.met else MISSED for _, demand in rows]
    axes.barh(range(len(rows)), [value - 1 for value in attained], left=1, color=colours)
    axes.set_yticks(range(len(rows)), [_label(one, of_ratio=demand.of_ratio) for one, demand in rows], fontsize=8)
    for place, (_, demand) in enumerate(rows):
        text = f"{demand.value:,.4g}{' times' if demand.of_ratio else ''}, to reach {demand}"
        at = (max(attained[place], 1), place)
        axes.annotate(text, at, xytext=(4, 0), textcoords="offset points", fontsize=7, va="center")
    axes.invert_yaxis()
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlim(min([*attained, 0.5]) / 1.2, max([*attained, 2]) * 6)
    axes.set_xlabel("attained, as a multiple of what is to be reached (log scale)")
    axes.set_title("Hookline: measured over demanded")
    picture.savefig(path, dpi=130)


def _label(one: Figure, *, of_ratio: bool) -> str:
    name = f"{one.area}: {one.name}"
    return textwrap.fill(f"{name}, against {one.against}" if of_ratio else name, LABEL_WIDTH)
