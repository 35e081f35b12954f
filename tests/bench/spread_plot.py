"""Draws what `spread` measured: deliveries a second and CPU of a delivery over the number of webhooks.

python -m tests.bench.spread_plot bench-results/RUN.json docs/pictures/spread.png
"""

from __future__ import annotations

import argparse
import re
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from matplotlib import figure as canvas

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = re.compile(r"^(stream to recorded|CPU, servers included), ([\d,]+) webhooks?$")
RIVAL = "the same against the rival's best pool, 1,000 endpoints"


def draw(figures: Iterable[dict[str, Any]], path: Path) -> None:
    """Draw the medians of the area `spread`."""
    lines: dict[str, dict[int, float]] = {"stream to recorded": {}, "CPU, servers included": {}}
    rival = 0.0
    for one in figures:
        if one["area"] != "spread":
            continue
        if found := NAME.match(one["name"]):
            lines[found[1]][int(found[2].replace(",", ""))] = one["median"]
        elif one["name"] == RIVAL:
            rival = statistics.median(one["reference"])
    picture = canvas.Figure(figsize=(9, 3.6), layout="constrained")
    rates, cpu = picture.subplots(1, 2)
    for axes, line, title in (
        (rates, lines["stream to recorded"], "deliveries a second"),
        (cpu, lines["CPU, servers included"], "CPU of a delivery, µs"),
    ):
        sizes = sorted(line)
        axes.plot(sizes, [line[size] for size in sizes], marker="o", color="#2a7f62", label="Hookline")
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("webhooks")
        axes.set_title(title)
    rates.axhline(rival, color="#c0392b", linestyle="--", label="one task a delivery")
    rates.set_ylim(bottom=0)
    rates.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path)


def main() -> None:
    """Draw one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="the JSON of a run of the benchmark")
    parser.add_argument("picture", type=Path, help="where the picture goes")
    options = parser.parse_args()
    draw(orjson.loads(options.results.read_bytes())["figures"], options.picture)


if __name__ == "__main__":
    main()
