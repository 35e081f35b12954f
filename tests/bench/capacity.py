"""`python -m tests.bench.capacity`: what a load needs, and what of it breaks first; `--check` compares with real runs.

    python -m tests.bench.capacity --events 2000 --fan-out 0.15 --latency 0.2 --webhooks 300
    python -m tests.bench.capacity --deliveries-a-day 1e9 --peak 2 --webhooks 10000 --cells 8 --delivery-days 7
    python -m tests.bench.capacity --check

`--check` runs 1, 2 and 4 worker processes on this machine, each with servers of its own, predicts those with 2 and 4 by
that with 1, and measures what servers count. Its exit status is 1 where a prediction is off by more than 20 %. Where
others use the cores too, it says so and judges CPU times alone: rates then depend on what else wants to run.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from tests.bench.capacity_model import Constants, Load, MeasuredRun, Plan, plan, predict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.scale import Bench

WITHIN = 0.2
CORES = 2
BUSY_CORES = 0.2
"""Cores that others use, above which a check should be repeated."""
EVENTS = 20_000
_TRANSACTIONS = sa.text("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
_LOG_BYTES = sa.text("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a plan, or a check."""
    options = _options(sys.argv[1:] if arguments is None else arguments)
    console = Console(width=None if sys.stdout.isatty() else 140)
    if options.check:
        return check(console, rounds=options.rounds, count=EVENTS // 10 if options.quick else EVENTS)
    load = _load(options)
    _print_plan(console, load, plan(load, Constants(slowness=options.slowness or 1.0)))
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.capacity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--events", type=_positive, metavar="N", help="events a second at the peak (1000)")
    asked.add_argument("--deliveries-a-day", type=_positive, metavar="N", help="instead of --events")
    for name, kind, about in (
        ("fan-out", _positive, "deliveries for each event (0.3)"),
        ("peak", _positive, "the peak over the day's average (1; 3 is usual)"),
        ("webhooks", _whole, "webhooks with deliveries (100)"),
        ("busiest", _share, "the busiest webhook's share of the deliveries (0.1)"),
        ("latency", _positive, "seconds that receivers take on average (0.2)"),
        ("event-bytes", _positive, "size of an event (530)"),
        ("payload-bytes", _positive, "size of a payload (600)"),
        ("event-hours", _positive, "HOOKLINE_EVENT_RETENTION in hours (24)"),
        ("delivery-days", _positive, "HOOKLINE_DELIVERY_RETENTION in days (30)"),
        ("series", _count, "metric series that are watched (0)"),
        ("partitions", _whole, "HOOKLINE_PARTITIONS (16)"),
        ("cells", _whole, "installations that share the load (1)"),
        ("slowness", _positive, "how many times slower the cores are than those of the constants (1)"),
        ("host-cores", _whole, "cores of a worker's host (8)"),
        ("database-cores", _whole, "cores of PostgreSQL's host (32)"),
        ("database-gb", _positive, "PostgreSQL's disk, in GB (4000)"),
        ("redis-gb", _positive, "memory of one Valkey, in GB (64)"),
    ):
        parser.add_argument(f"--{name}", type=kind, metavar="N", help=about)
    parser.add_argument("--check", action="store_true", help="compare predictions with runs on this machine")
    parser.add_argument("--rounds", type=_whole, default=3, help="rounds of a check (3)")
    parser.add_argument("--quick", action="store_true", help="a check with a tenth of the events")
    return parser.parse_args(arguments)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number: {text!r}") from None


def _positive(text: str) -> float:
    number = _number(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0: {text!r}")
    return number


def _share(text: str) -> float:
    number = _number(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"must be a share above 0 and up to 1: {text!r}")
    return number


def _count(text: str) -> int:
    number = _number(text)
    if not (number >= 0 and number == int(number)):
        raise argparse.ArgumentTypeError(f"must be a whole number: {text!r}")
    return int(number)


def _whole(text: str) -> int:
    if not (number := _count(text)):
        raise argparse.ArgumentTypeError(f"must be a whole number above 0: {text!r}")
    return number


def _load(options: argparse.Namespace) -> Load:
    given = {
        "events_per_second": options.events,
        "peak": options.peak,
        "fan_out": options.fan_out,
        "webhooks": options.webhooks,
        "busiest_share": options.busiest,
        "latency_seconds": options.latency,
        "event_bytes": options.event_bytes,
        "payload_bytes": options.payload_bytes,
        "event_retention_hours": options.event_hours,
        "delivery_retention_days": options.delivery_days,
        "watched_series": options.series,
        "partitions": options.partitions,
        "cells": options.cells,
        "host_cores": options.host_cores,
        "database_cores": options.database_cores,
        "database_bytes": options.database_gb and options.database_gb * 1e9,
        "redis_bytes": options.redis_gb and options.redis_gb * 1e9,
    }
    asked = {name: value for name, value in given.items() if value is not None}
    if options.deliveries_a_day:
        peak, fan_out = asked.get("peak", Load().peak), asked.get("fan_out", Load().fan_out)
        asked["events_per_second"] = options.deliveries_a_day / 86_400 * peak / fan_out
    return Load(**asked)


def _print_plan(console: Console, load: Load, made: Plan) -> None:
    several = f" in each of {load.cells} cells" if load.cells > 1 else ""
    table = Table(title=f"What it needs{several}, at the peak", title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("how much", justify="right")
    rows: list[tuple[str, str]] = [
        ("deliveries/s, of all cells together", f"{load.deliveries_per_second:,.0f}"),
        ("CPU of a delivery, with its share of events that fire nothing", f"{made.delivery_us:,.0f} µs"),
        ("worker processes, on so many hosts", f"{made.workers:,} on {made.worker_hosts}"),
        ("their cores", f"{made.worker_cores:,.1f}"),
        ("API processes; dispatchers", f"{made.api_processes}; 2"),
        ("requests in flight", f"{made.in_flight:,.0f}"),
        ("PostgreSQL: cores", f"{made.postgres_cores:,.1f}"),
        ("PostgreSQL: transactions/s", f"{made.postgres_transactions_per_second:,.0f}"),
        ("PostgreSQL: log written", f"{made.wal_bytes_per_second / 1e6:,.0f} MB/s"),
        ("PostgreSQL: disk", f"{made.postgres_bytes / 1e9:,.0f} GB"),
        ("PostgreSQL: connections", f"{made.postgres_connections:,}"),
        ("Valkey: commands/s", f"{made.valkey_commands_per_second:,.0f}"),
        ("Valkey: memory, half of it free", f"{made.valkey_bytes / 1e9:,.1f} GB"),
        ("Valkey: servers for the streams, without replicas", f"{made.valkey_nodes}"),
        ("Valkey: connections, with Celery's", f"{made.valkey_connections:,}"),
    ]
    for row in rows:
        table.add_row(*row)
    console.print(table)
    limits = Table(title="What breaks first", title_justify="left")
    for heading in ("limit", "used", "wanted", "given"):
        limits.add_column(heading, justify="left" if heading == "limit" else "right")
    limits.add_column("then")
    for one in made.limits:
        used = f"{one.used:.0%}" if one.used < 10 else f"{one.used:,.0f} times"
        limits.add_row(one.what, used, *(f"{value:,.4g} {one.unit}" for value in (one.wanted, one.given)), one.remedy)
    console.print(limits)


@dataclass(frozen=True, slots=True)
class Counts:
    """What servers count, for one delivery."""

    transactions: float
    log_bytes: float
    valkey_commands: float


def check(console: Console, *, rounds: int, count: int) -> int:
    """Measure 1, 2 and 4 workers, and print what the model says beside it; 1 where it is off by more than `WITHIN`."""
    from tests.bench.__main__ import _stay_on_two_cores
    from tests.bench.scale import WORKERS, Rounds, running

    _stay_on_two_cores()
    found = {workers: Rounds() for workers in WORKERS}
    harness: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    counts: list[Counts] = []
    began, busy = time.monotonic(), _busy_seconds()
    ours = 0.0
    with ExitStack() as stack:
        benches = {workers: stack.enter_context(running(workers)) for workers in WORKERS}
        for number in range(rounds):
            for workers in WORKERS if number % 2 == 0 else WORKERS[::-1]:
                bench = benches[workers]
                spent, before = _harness_seconds(), _counted(bench)
                bench.round(f"capacity-{number}", count, found[workers])
                harness[workers].append((_harness_seconds() - spent) / count * 1e6)
                counts.append(_a_delivery(before, _counted(bench), count))
                ours += (found[workers].totals_us[-1] + harness[workers][-1]) * count / 1e6
    others = max(0.0, _busy_seconds() - busy - ours) / (time.monotonic() - began)
    runs = {
        workers: MeasuredRun(
            workers,
            worker_us=_median(these.cpu_us["the workers"]),
            servers_us=_median(these.totals_us) - _median(these.cpu_us["the workers"]),
            harness_us=_median(harness[workers]),
            rate=_median(these.rates),
        )
        for workers, these in found.items()
    }
    is_busy = others > BUSY_CORES
    off = _print_check(console, runs, judges_rates=not is_busy)
    for name, value in (
        ("PostgreSQL's transactions", [one.transactions for one in counts]),
        ("bytes of PostgreSQL's log", [one.log_bytes for one in counts]),
        ("Valkey's commands", [one.valkey_commands for one in counts]),
    ):
        console.print(f"{name} for a delivery: {_median(value):,.3g} ({min(value):,.3g} to {max(value):,.3g})")
    console.print(f"others used {others:.1f} cores" + (": repeat this on an idle machine" * is_busy))
    return int(off > WITHIN)


def _print_check(console: Console, runs: dict[int, MeasuredRun], *, judges_rates: bool) -> float:
    """The table of predicted and measured; the largest share by which a prediction is off."""
    table = Table(title="Predicted by the run with one worker, and measured", title_justify="left")
    for heading in ("workers", "what", "predicted", "measured", "off by"):
        table.add_column(heading, justify="right")
    one, worst = runs[min(runs)], 0.0
    for workers, run in runs.items():
        said = predict(one, workers, CORES, Constants())
        measured_us = run.worker_us + run.servers_us
        for what, predicted, measured, judged in (
            ("deliveries/s", said.rate, run.rate, judges_rates),
            ("CPU µs a delivery", said.delivery_us, measured_us, True),
        ):
            off = predicted / measured - 1
            worst = max(worst, abs(off)) if judged else worst
            told = f"{off:+.0%}" if judged else f"{off:+.0%}, not judged"
            table.add_row(str(workers), what, f"{predicted:,.0f}", f"{measured:,.0f}", told)
    console.print(table)
    return worst


def _counted(bench: Bench) -> tuple[float, float, float]:
    with bench.engine.connect() as connection:
        transactions = float(connection.execute(_TRANSACTIONS).scalar_one())
        log_bytes = float(connection.execute(_LOG_BYTES).scalar_one())
    stats: Any = bench.redis.info("stats")
    return transactions, log_bytes, float(stats["total_commands_processed"])


def _a_delivery(before: Sequence[float], after: Sequence[float], count: int) -> Counts:
    return Counts(*((now - then) / count for then, now in zip(before, after, strict=True)))


def _harness_seconds() -> float:
    """CPU of this process, which publishes and looks, and of the receivers."""
    me = psutil.Process()
    total = sum(me.cpu_times()[:2])
    for child in me.children():
        with suppress(psutil.NoSuchProcess):
            if "tests.bench.receiver" in " ".join(child.cmdline()):
                total += sum(child.cpu_times()[:2])
    return float(total)


def _busy_seconds() -> float:
    """CPU seconds of the whole machine so far that were not idle."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + getattr(times, "irq", 0.0) + getattr(times, "softirq", 0.0))


def _median(values: Sequence[float]) -> float:
    middle = sorted(values)
    return (middle[(len(middle) - 1) // 2] + middle[len(middle) // 2]) / 2


if __name__ == "__main__":
    sys.exit(main())
