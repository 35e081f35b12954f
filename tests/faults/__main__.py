"""`make drill`: each fault against a fresh stage under load; exits 1 when anything was lost or evaluated twice."""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults import network
from tests.faults.drills import DRILLS, FULL, SHORT
from tests.faults.hosts import CUTS, run_cut
from tests.faults.runs import Result, run
from tests.faults.stage import end_in_order

CUT_RATE = 500.0
"""Events a second while hosts are cut off: what waits for them is to be worked off soon."""
COLUMNS = (
    "drill",
    "times hurt",
    "events",
    "expected",
    "received",
    "duplicates",
    "lost",
    "evaluated twice",
    "worst delay",
)


def table(results: list[Result]) -> Table:
    """What the drills counted, the failed ones in red."""
    shown = Table(title="Fault drills: PostgreSQL, Valkey, API, dispatcher, two workers", title_justify="left")
    for column in COLUMNS:
        shown.add_column(column, justify="left" if column == "drill" else "right")
    for one in results:
        numbers = (one.hurts, one.events, one.expected, one.received, one.doubled, one.lost, one.evaluated_twice)
        style = "" if one.passed else "bold red"
        shown.add_row(one.drill, *map(str, numbers), f"{one.worst_delay_seconds:.1f} s", style=style)
    return shown


def _told(one: Result) -> str:
    said = f"{'passed' if one.passed else 'FAILED'}: {one.received} of {one.expected}, hurt {one.hurts} times"
    said += f", worst delay {one.worst_delay_seconds:.1f} s"
    if one.doubled:
        said += f", {one.doubled} doubled, first sent {one.lead_seconds * 1000:.0f} ms before a fault at most"
        said += f", {one.unexplained} at no fault" if one.unexplained else ""
    return "; ".join((said, *one.troubles))


def main() -> int:
    """Run the drills and print their table."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--events", type=int, help="events of each drill (default 20000)")
    parser.add_argument("--rate", type=float, default=1500, help="events a second (default 1500)")
    parser.add_argument("--only", choices=[*DRILLS, *CUTS], action="append", help="this drill only; may be repeated")
    parser.add_argument("--short", action="store_true", help="few drills with few events")
    parser.add_argument("--seed", type=int, help="repeats the random moments of an earlier run")
    parser.add_argument(
        "--former", type=Path, help="a checkout of the release to upgrade from (git worktree add DIR TAG)"
    )
    parser.add_argument("--cut-seconds", type=float, default=35, help="how long hosts are cut off (default 35)")
    options = parser.parse_args()
    end_in_order()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    events = options.events or (600 if options.short else 20_000)
    console, results = Console(width=None if sys.stdout.isatty() else 140), []
    console.print(f"seed {seed}")
    for name in options.only or (SHORT if options.short else [*FULL, *CUTS]):
        if reason := network.impossible() if name in CUTS else DRILLS[name].impossible:
            console.print(f"{name}: skipped, {reason}")
            continue
        console.print(f"{name} …")
        began = time.monotonic()
        if name in CUTS:
            cut = run_cut(name, rate=min(options.rate, CUT_RATE), cut_seconds=options.cut_seconds, seed=seed)
            back = ", ".join(f"{part} after {seconds:.1f} s" for part, seconds in cut.back_seconds.items())
            console.print(f"  longest silence {cut.silence_seconds:.1f} s; back: {back}")
            results.append(cut.counted)
        else:
            results.append(run(name, events, rate=options.rate, seed=seed, former=options.former))
        console.print(f"  {_told(results[-1])}; took {time.monotonic() - began:.0f} s")
    console.print(table(results))
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
