"""`make bench`: Hookline against its rival and a yardstick, in the same run.

The exit status says whether every delivery arrived and was recorded exactly once; it never depends on speed.
"""

from __future__ import annotations

import argparse
import signal
import sys
from datetime import UTC, datetime

from rich.console import Console

from tests.bench.arena import Outcome, Scenario, run
from tests.bench.processes import ROOT, ProcessFailed
from tests.bench.report import latency_table, throughput_table, write_json
from tests.bench.rival_system import PREFORK, SOLO, THREADS, Pool
from tests.bench.system import OverRest

SLOW_RECEIVER_SECONDS = 0.05
LOG_WIDTH = 132


def main() -> int:
    """Run the chosen scenarios, print the tables.

    Returns 1 if a delivery was lost, doubled or invented, 2 if a process failed; what was measured is kept anyway.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = _options()
    started_at = datetime.now(UTC)
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    outcomes: list[Outcome] = []
    try:
        for scenario in plan(options):
            outcomes.append(run(scenario, lambda line: console.print(line, highlight=False)))
    except ProcessFailed as failure:
        console.print(str(failure), markup=False, highlight=False)
        return 2
    finally:
        _present(outcomes, console, started_at)
    return 0 if all(outcome.clean for outcome in outcomes) else 1


def _present(outcomes: list[Outcome], console: Console, started_at: datetime) -> None:
    """Keep every round in a file, and print the tables."""
    if not outcomes:
        return
    path = write_json(outcomes, folder=ROOT / "bench-results", started_at=started_at)
    console.print(throughput_table(outcomes))
    if any(outcome.latency for outcome in outcomes):
        console.print(latency_table(outcomes))
    console.print(f"every round: {path.relative_to(ROOT)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the events, to see that all works")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each contestant (default 3)")
    parser.add_argument("--events", type=int, default=4000, help="events of a throughput round (default 4000)")
    parser.add_argument("--slow-receiver", action="store_true", help="also with a receiver that takes 50 ms")
    parser.add_argument("--sqlite", action="store_true", help="also on SQLite")
    parser.add_argument("--every-pool", action="store_true", help="also the rival's other worker pools")
    parser.add_argument("--all", action="store_true", help="all of the above")
    parser.add_argument("--without-hookline", action="store_true", help="measure the rival alone")
    return parser.parse_args()


def plan(options: argparse.Namespace) -> list[Scenario]:
    """The scenarios that the options ask for."""
    scale = 4 if options.quick else 1
    events = options.events // scale
    pools: tuple[Pool, ...] = (PREFORK, SOLO) if options.every_pool or options.all else (PREFORK,)
    with_hookline = not options.without_hookline
    scenarios = [
        Scenario(
            name="postgresql",
            database="postgresql",
            rounds=options.rounds,
            rivals=pools,
            events=events,
            latency_events=200 // scale,
            with_hookline=with_hookline,
        )
    ]
    if options.sqlite or options.all:
        scenarios.append(
            Scenario(
                name="sqlite",
                database="sqlite",
                rounds=options.rounds,
                rivals=(PREFORK,),
                events=events,
                with_hookline=with_hookline,
            )
        )
    if options.slow_receiver or options.all:
        scenarios.append(
            Scenario(
                name="receiver takes 50 ms",
                database="postgresql",
                rounds=options.rounds,
                rivals=(PREFORK, THREADS),
                events=events,
                other_counts={PREFORK.system: 160 // scale, THREADS.system: 1200 // scale, OverRest.name: 0},
                delay_seconds=SLOW_RECEIVER_SECONDS,
                with_hookline=with_hookline,
            )
        )
    return scenarios


if __name__ == "__main__":
    sys.exit(main())
