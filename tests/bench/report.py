"""What a benchmark run leaves: one JSON file with every round, and tables of medians and ratios for people."""

from __future__ import annotations

import platform
import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson
import psutil
from rich.table import Table

from tests.bench.arena import Outcome, median_rate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from tests.bench.rounds import Latency, Throughput


def write_json(outcomes: Sequence[Outcome], *, folder: Path, started_at: datetime) -> Path:
    """Write every round to `<folder>/<start>.json` and return the path."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{started_at:%Y%m%dT%H%M%SZ}.json"
    content = {
        "started_at": started_at,
        "machine": _machine(),
        "scenarios": [_scenario(outcome) for outcome in outcomes],
    }
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
    return path


def _machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def _scenario(outcome: Outcome) -> dict[str, Any]:
    return {
        **asdict(outcome),
        "clean": outcome.clean,
        "median_per_second": {name: median_rate(rounds) for name, rounds in outcome.throughput.items()},
    }


def throughput_table(outcomes: Sequence[Outcome]) -> Table:
    """Medians and ranges of deliveries a second, with ratios to the first rival and to the yardstick.

    "cores elsewhere" is the busiest round's: well above 0.1, the figures of this run are worth little.
    """
    table = Table(title="Deliveries sent and recorded a second (median of rounds)", title_justify="left")
    for heading in ("scenario", "system"):
        table.add_column(heading)
    for heading in ("median/s", "min-max", "CPU µs each", "x rival", "x yardstick", "cores elsewhere", "faults"):
        table.add_column(heading, justify="right")
    for outcome in outcomes:
        for name, rounds in outcome.throughput.items():
            table.add_row(outcome.scenario.name, name, *_throughput_cells(outcome, rounds))
        table.add_section()
    return table


def _throughput_cells(outcome: Outcome, rounds: Sequence[Throughput]) -> tuple[str, ...]:
    rates = [one.per_second for one in rounds]
    rate = statistics.median(rates)
    cpu = statistics.median(one.cpu_us_per_delivery for one in rounds)
    return (
        f"{rate:,.0f}",
        f"{min(rates):,.0f}-{max(rates):,.0f}",
        f"{cpu:,.0f}",
        _ratio(rate, median_rate(next(iter(outcome.throughput.values())))),
        _ratio(rate, statistics.median(outcome.yardstick)),
        f"{max(one.cores_elsewhere for one in rounds):.1f}",
        _faults(rounds),
    )


def latency_table(outcomes: Sequence[Outcome]) -> Table:
    """Medians over the rounds of each percentile, with the ratio of medians to the first rival's."""
    table = Table(title="Publish to arrival at 20 events/s (median of rounds)", title_justify="left")
    for heading in ("scenario", "system"):
        table.add_column(heading)
    for heading in ("p50 ms", "p99 ms", "max ms", "p50 x rival", "faults"):
        table.add_column(heading, justify="right")
    for outcome in outcomes:
        for name, rounds in outcome.latency.items():
            first = next(iter(outcome.latency.values()))
            table.add_row(outcome.scenario.name, name, *_latency_cells(first, rounds))
    return table


def _latency_cells(first: Sequence[Latency], rounds: Sequence[Latency]) -> tuple[str, ...]:
    p50 = statistics.median(one.p50_ms for one in rounds)
    return (
        f"{p50:.1f}",
        f"{statistics.median(one.p99_ms for one in rounds):.1f}",
        f"{max(one.max_ms for one in rounds):.1f}",
        _ratio(p50, statistics.median(one.p50_ms for one in first)),
        _faults(rounds),
    )


def _ratio(value: float, base: float) -> str:
    return f"{value / base:.2f}"


def _faults(rounds: Sequence[Throughput] | Sequence[Latency]) -> str:
    """The sums over all rounds as `lost/doubled/strays`, or `none`."""
    accounts = [one.accounts for one in rounds]
    if all(one.clean for one in accounts):
        return "none"
    sums = (sum(getattr(one, kind) for one in accounts) for kind in ("lost", "doubled", "strays"))
    return "/".join(map(str, sums))
