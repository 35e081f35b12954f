"""`make bench`: every speed that Hookline promises, each against its rival or its limit in the same run.

Receiver, servers, rivals and Hookline share two cores. The exit status is 1 if a delivery was lost, doubled or
invented, 2 if an area could not be measured; it never depends on speed. What was measured is kept in any case.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tests.bench.areas import AREAS, BY_NAME, Area
from tests.bench.figures import Figure, figures_table
from tests.bench.processes import ROOT
from tests.bench.report import write_json, write_plot

if TYPE_CHECKING:
    from collections.abc import Sequence

LOG_WIDTH = 160
CORES = 2


def main() -> int:
    """Measure the chosen areas, print the table, keep JSON and plot."""
    options = parse_options(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _stay_on_two_cores()
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    started_at = datetime.now(UTC)
    figures: list[Figure] = []
    failed: list[str] = []
    try:
        for area in options.areas:
            figures += _measured(area, options, console, failed)
    finally:
        if figures:
            _present(figures, options, console, started_at)
    if failed:
        console.print(f"could not be measured: {', '.join(failed)}")
        return 2
    return 1 if any(one.promise and not one.reached for one in figures) else 0


def _measured(area: Area, options: argparse.Namespace, console: Console, failed: list[str]) -> list[Figure]:
    """An area's figures; none, with the reason printed, where it fails: the other areas are measured all the same."""
    began = time.monotonic()
    console.print(f"{area.name}: {area.about} …", highlight=False)
    try:
        figures = area.measure(options.rounds, options.quick)
    except Exception as exc:
        failed.append(area.name)
        console.print(f"{type(exc).__name__}: {exc}", markup=False, highlight=False)
        return []
    console.print(f"{area.name}: took {time.monotonic() - began:.0f} s", highlight=False)
    return figures


def _present(figures: list[Figure], options: argparse.Namespace, console: Console, started_at: datetime) -> None:
    stem = ROOT / "bench-results" / f"{started_at:%Y%m%dT%H%M%SZ}"
    json_path, plot_path = options.json or stem.with_suffix(".json"), options.plot or stem.with_suffix(".png")
    write_json(figures, json_path, started_at=started_at)
    write_plot(figures, plot_path)
    console.print(figures_table(figures))
    console.print(f"every round: {json_path}\nplot: {plot_path}", highlight=False, soft_wrap=True)


def _stay_on_two_cores() -> None:
    """This process and all that it starts: so that machines of any size answer the same question."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    """What the command line asks for: `areas`, `rounds`, `quick`, `json`, `plot`. Exits where it is not understood."""
    width = max(map(len, BY_NAME))
    listed = "\n".join(f"  {area.name:{width}}  {area.about}" for area in AREAS)
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        epilog=f"areas:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", choices=BY_NAME, metavar="AREA", help="this area; may be repeated")
    parser.add_argument("--quick", action="store_true", help="a fraction of the work, to see that all runs")
    parser.add_argument("--rounds", type=_rounds, help="rounds of each figure (default 3; 1 with --quick)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where every round goes (default bench-results/)")
    parser.add_argument("--plot", type=Path, metavar="PATH", help="where the picture goes (default bench-results/)")
    options = parser.parse_args(arguments)
    options.areas = [BY_NAME[name] for name in dict.fromkeys(options.only)] if options.only else AREAS
    options.rounds = options.rounds or (1 if options.quick else 3)
    return options


def _rounds(text: str) -> int:
    rounds = int(text)
    if rounds < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return rounds


if __name__ == "__main__":
    sys.exit(main())
