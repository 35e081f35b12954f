"""Deliveries at a steady rate for long, retention on and autovacuum as it comes: does anything drift or bloat?

    python -m tests.bench.soak                                     # 5,000,000 at 1,000/s: 85 minutes
    python -m tests.bench.soak --deliveries 300000                 # what `make bench` does, five minutes

The run is cut into tenths. In each, events are published every 20 ms; it ends when all are delivered and recorded.
The first tenth warms everything up and fills the history; the second is compared with the last. Deliveries and events
are kept for as long as a tenth and a half takes, two minutes at least; then retention deletes as many as come.

Bloat is how large a table is over what its rows take when they are written anew, as many as it held at most: between
two looks of retention it has to have room for those.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import sqlalchemy as sa
from redis import Redis
from rich.console import Console
from rich.table import Table

from tests.bench.crowds import Crowd
from tests.bench.figures import Figure, figures_table
from tests.bench.processes import ProcessFailed
from tests.bench.receiver import receiver
from tests.bench.spread import Bench
from tests.bench.system import running_hookline
from tests.servers import fresh_database, postgres_server, valkey_server

if TYPE_CHECKING:
    from collections.abc import Iterator

AREA = "soak"
DELIVERIES, SHORT = 5_000_000, 300_000
"""A day's traffic in a few hours, and what fits into `make bench`."""
RATE = 1_000
TENTHS = 10
WEBHOOKS = 100
DRIFT, BLOAT = 1.1, 1.5
TICK_SECONDS = 0.02
LEAST_KEPT_SECONDS = 120.0
"""Retention looks once a minute, so that so much more may be there."""
PATIENCE_SECONDS = 300.0
POLL_SECONDS = 0.02
TABLES = ("deliveries", "attempts", "pending_deliveries")
_SIZES = sa.text(
    """SELECT relname, pg_relation_size(oid) AS bytes FROM pg_class
    WHERE oid = to_regclass(:name) OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = to_regclass(:name))"""
)
_KEPT = sa.text("SELECT count(*) FROM deliveries")


@dataclass(frozen=True, slots=True)
class Tenth:
    """What one tenth of the run showed."""

    rate: float
    """Deliveries a second, from the first event to the last record."""
    p50_ms: float
    p99_ms: float
    """From the moment before the event was appended to its arrival."""
    cpu_us: float
    """Of a delivery, Hookline and its servers."""
    kept: int
    """Deliveries in the database at its end."""
    faults: int


def measure(rounds: int, quick: bool) -> list[Figure]:
    """A short soak; `rounds` says nothing here, since a soak is one run."""
    del rounds
    return soak(SHORT // 10 if quick else SHORT, RATE // 2 if quick else RATE)


def main() -> int:
    """Soak, and print both tables; 1 where a delivery was lost, doubled or invented."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--deliveries", type=_whole, default=DELIVERIES, metavar="N", help=f"({DELIVERIES:,})")
    parser.add_argument("--rate", type=_whole, default=RATE, metavar="N", help=f"events a second ({RATE:,})")
    options = parser.parse_args()
    figures = soak(options.deliveries, options.rate)
    Console(width=None if sys.stdout.isatty() else 160).print(figures_table(figures))
    return int(any(one.promise and not one.reached for one in figures))


def _whole(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < TENTHS:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least {TENTHS}")
    return number


def soak(deliveries: int, rate: int) -> list[Figure]:
    """Run it, print a line for each tenth, and give the figures with their goals."""
    each = deliveries // TENTHS
    crowd = Crowd(f"of-{WEBHOOKS}", WEBHOOKS)
    kept_seconds = max(LEAST_KEPT_SECONDS, 1.5 * each / rate)
    with _running(kept_seconds) as (bench, engine):
        bench.define(crowd)
        tenths: list[Tenth] = []
        for number in range(TENTHS):
            tenths.append(_tenth(bench, engine, crowd, number, each, rate))
            one = tenths[-1]
            print(
                f"tenth {number + 1}: {one.rate:,.0f} deliveries/s, p50 {one.p50_ms:.1f} ms, p99 {one.p99_ms:.1f} ms, "
                f"{one.cpu_us:,.0f} µs a delivery, {one.kept:,} kept",
                flush=True,
            )
        bloat = _bloat(engine, max(one.kept for one in tenths) / max(1, tenths[-1].kept))
    _print_bloat(bloat)
    second, last = tenths[1], tenths[-1]
    return [
        Figure(
            AREA,
            f"deliveries/s, last tenth of {deliveries:,} over the second",
            "deliveries/s",
            (last.rate,),
            against="the second tenth",
            reference=(second.rate,),
            ratio_at_least=1 / DRIFT,
        ),
        Figure(
            AREA,
            "p99, last tenth over the second",
            "ms",
            (last.p99_ms,),
            against="the second tenth",
            reference=(second.p99_ms,),
            ratio_at_most=DRIFT,
        ),
        Figure(
            AREA,
            "CPU, last tenth over the second",
            "µs a delivery",
            (last.cpu_us,),
            against="the second tenth",
            reference=(second.cpu_us,),
            ratio_at_most=DRIFT,
        ),
        Figure(AREA, "p99 of the worst tenth", "ms", (max(one.p99_ms for one in tenths[1:]),)),
        *(
            Figure(AREA, f"bloat of {name}", "times its size rewritten", (now / least,), at_most=BLOAT)
            for name, (now, least) in bloat.items()
            if name in TABLES
        ),
        Figure(
            AREA,
            "bloat of all indexes together",
            "times their size rewritten",
            (_of_indexes(bloat),),
            at_most=BLOAT,
        ),
        Figure(AREA, "deliveries that retention deleted", "rows", (float(deliveries - last.kept),)),
        Figure(
            AREA,
            "lost, doubled or invented",
            "deliveries",
            (float(sum(one.faults for one in tenths)),),
            at_most=0,
            promise=True,
        ),
    ]


def _tenth(bench: Bench, engine: sa.Engine, crowd: Crowd, number: int, count: int, rate: int) -> Tenth:
    events = crowd.events(f"soak{number}", count)
    bench.endpoint.reset()
    cpu, published = bench.cpu_seconds(), dict[str, int]()
    began = time.monotonic()
    step = max(1, round(rate * TICK_SECONDS))
    for start in range(0, count, step):
        time.sleep(max(0.0, began + start / rate - time.monotonic()))
        some = events[start : start + step]
        at = time.monotonic_ns()
        bench.hookline.release(some)
        published.update((event["id"], at) for event in some)
    seconds = _await(bench, engine, count, began)
    cpu_us = (bench.cpu_seconds() - cpu) / count * 1e6
    arrivals, doubled = bench.endpoint.arrivals(), int(bench.endpoint.stats()["doubled"])
    waits = [(arrivals[event] - at) / 1e6 for event, at in published.items() if event in arrivals]
    percentiles = statistics.quantiles(waits, n=100, method="inclusive")
    with engine.connect() as connection:
        kept = int(connection.execute(_KEPT).scalar_one())
    faults = len(arrivals.keys() ^ published.keys()) + doubled
    return Tenth(count / seconds, percentiles[49], percentiles[98], cpu_us, kept, faults)


def _await(bench: Bench, engine: sa.Engine, count: int, began: float) -> float:
    """Seconds until all have arrived and nothing is pending: retention may have deleted some of them by then."""
    pending = sa.text("SELECT count(*) FROM pending_deliveries")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        bench.hookline.require_alive()
        if bench.endpoint.stats()["distinct"] >= count:
            with engine.connect() as connection:
                if not connection.execute(pending).scalar_one():
                    return time.monotonic() - began
        if time.monotonic() > deadline:
            raise ProcessFailed(f"{count} events were not delivered within {PATIENCE_SECONDS:g} s of the last")
        time.sleep(POLL_SECONDS)


def _bloat(engine: sa.Engine, fuller: float) -> dict[str, tuple[int, int]]:
    """By table and index, its bytes as they were found, and those of what it holds, `fuller` times as much, anew."""
    found, least = _sizes(engine), dict[str, int]()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in TABLES:
            connection.execute(sa.text(f"VACUUM FULL {table}"))
        least = _sizes(engine)
    return {name: (size, max(round(least[name] * fuller), 1)) for name, size in found.items() if size > _SMALL_BYTES}


_SMALL_BYTES = 1 << 20
"""Smaller ones are a few pages, of which half are empty whoever fills them."""


def _sizes(engine: sa.Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return {row.relname: int(row.bytes) for table in TABLES for row in connection.execute(_SIZES, {"name": table})}


def _of_indexes(bloat: dict[str, tuple[int, int]]) -> float:
    indexes = [sizes for name, sizes in bloat.items() if name not in TABLES]
    return sum(now for now, _ in indexes) / max(1, sum(least for _, least in indexes))


def _print_bloat(bloat: dict[str, tuple[int, int]]) -> None:
    table = Table(
        title="Sizes at the end, and of as many rows as there were at most, written anew", title_justify="left"
    )
    for heading in ("table or index", "MB", "written anew", "times"):
        table.add_column(heading, justify="left" if heading == "table or index" else "right")
    for name, (now, least) in bloat.items():
        table.add_row(name, f"{now / 1e6:,.1f}", f"{least / 1e6:,.1f}", f"{now / least:.2f}")
    Console(width=None if sys.stdout.isatty() else 160).print(table)


@contextmanager
def _running(kept_seconds: float) -> Iterator[tuple[Bench, sa.Engine]]:
    """A Hookline whose history is kept for so long."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="hookline-soak-")))
        database_url = fresh_database(stack.enter_context(postgres_server(durable=True)))
        redis_url = stack.enter_context(valkey_server(append_only=True))
        endpoint = stack.enter_context(receiver())
        kept = f"{round(kept_seconds)}s"
        hookline = stack.enter_context(
            running_hookline(
                redis_url=redis_url,
                database_url=database_url,
                endpoint=endpoint.url,
                folder=folder,
                more={"HOOKLINE_DELIVERY_RETENTION": kept, "HOOKLINE_EVENT_RETENTION": kept},
            )
        )
        engine = sa.create_engine(database_url)
        stack.callback(engine.dispose)
        yield Bench(hookline, endpoint, engine, stack.enter_context(Redis.from_url(redis_url))), engine


if __name__ == "__main__":
    sys.exit(main())
