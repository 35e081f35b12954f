"""A figure: one measured number, its rounds, what it is to reach, and what it is compared with in the same run."""

from __future__ import annotations

import argparse
import operator
import statistics
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from rich.console import Console
from rich.table import Table

from tests.bench.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LOG_WIDTH = 132


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with all its rounds; the median is what counts."""

    area: str
    name: str
    unit: str
    rounds: tuple[float, ...]
    at_least: float | None = None
    at_most: float | None = None

    @property
    def median(self) -> float:
        """The figure."""
        return statistics.median(self.rounds)

    @property
    def reached(self) -> bool | None:
        """Whether the median is as demanded; None where nothing is."""
        demands = ((self.at_least, operator.ge), (self.at_most, operator.le))
        answers = [holds(self.median, bound) for bound, holds in demands if bound is not None]
        return all(answers) if answers else None

    def to_json(self) -> dict[str, Any]:
        """Everything, with what is worked out from the rounds."""
        return {**asdict(self), "median": self.median, "reached": self.reached}


def figures_table(figures: Sequence[Figure]) -> Table:
    """Medians, the span of the rounds, and what was to be reached."""
    table = Table("area", "what", "median", "lowest", "highest", "unit", "to reach", "", title="Figures")
    for one in figures:
        demand = "" if one.at_least is None else f"≥ {_number(one.at_least)}"
        demand = demand if one.at_most is None else f"≤ {_number(one.at_most)}"
        verdict = {True: "reached", False: "missed", None: ""}[one.reached]
        span = (_number(min(one.rounds)), _number(max(one.rounds)))
        table.add_row(one.area, one.name, _number(one.median), *span, one.unit, demand, verdict)
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.2f}"


def write_figures(figures: Sequence[Figure], folder: Path, *, area: str) -> Path:
    """Keep figures as `<folder>/<area>-<start>.json`."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{area}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    content = [one.to_json() for one in figures]
    path.write_bytes(orjson.dumps({"area": area, "figures": content}, option=orjson.OPT_INDENT_2))
    return path


def run_alone(area: str, measure: Callable[[int, bool], list[Figure]]) -> int:
    """The command line of one area: measure, print the table, keep the JSON. A missed figure is no failure."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.bench.{area}")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each figure (default 3)")
    parser.add_argument("--quick", action="store_true", help="a fraction of the work, to see that all runs")
    options = parser.parse_args()
    figures = measure(options.rounds, options.quick)
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    console.print(figures_table(figures))
    path = write_figures(figures, ROOT / "bench-results", area=area)
    console.print(f"every round: {path.relative_to(ROOT)}")
    return 0
