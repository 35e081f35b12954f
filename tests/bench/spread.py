"""What a delivery costs when deliveries are spread over many webhooks: 1 to 10,000, each in a project of its own.

One Hookline has all the crowds, whose rounds are taken in turns, so that ratios hold. Each crowd has a round that is
not measured first, in which every process opens what it keeps open.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import sqlalchemy as sa
from redis import Redis

from tests.bench.cpu_accounts import CpuAccounts
from tests.bench.crowds import Crowd
from tests.bench.figures import Figure
from tests.bench.processes import ProcessFailed
from tests.bench.receiver import receiver
from tests.bench.rival_system import PREFORK, SOLO, running_rival
from tests.bench.system import running_hookline
from tests.servers import fresh_database, postgres_server, valkey_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.arena import Database
    from tests.bench.receiver import Receiver
    from tests.bench.system import Hookline

AREA = "spread"
SIZES = (1, 100, 1_000, 10_000)
EVENTS = 10_000
RATE_AT_LEAST, RATE_OF_TEN_THOUSAND, RATE_ON_SQLITE = 0.7, 0.5, 0.6
"""Of the rate with one webhook: over 1,000, over 10,000, and over 1,000 on SQLite."""
CPU_AT_MOST = 1.4
RATE_OVER_RIVAL = 8
RIVAL_EVENTS = 1_000
POLL_SECONDS = 0.02
PATIENCE_SECONDS = 240.0
STRAGGLER_SECONDS = 0.3


def measure(rounds: int, quick: bool) -> list[Figure]:
    """Deliveries a second and CPU a delivery over 1 to 10,000 webhooks, against one webhook and the rival."""
    crowds = [Crowd(f"of-{size}", size) for size in (SIZES[:-1] if quick else SIZES)]
    count, rival_count = (EVENTS // 10, RIVAL_EVENTS // 10) if quick else (EVENTS, RIVAL_EVENTS)
    with running_bench("postgresql") as bench:
        found = run(bench, crowds, rounds=rounds, count=count)
        theirs = _rival_rates(bench, crowds[2], rounds=rounds, count=rival_count)
    figures = _figures(AREA, crowds, found, {1_000: RATE_AT_LEAST, 10_000: RATE_OF_TEN_THOUSAND})
    best = max(theirs, key=lambda pool: statistics.median(theirs[pool]))
    against_rival = Figure(
        AREA,
        "the same against the rival's best pool, 1,000 endpoints",
        "deliveries/s",
        tuple(found[crowds[2].name].rates),
        against=best,
        reference=tuple(theirs[best]),
        ratio_at_least=RATE_OVER_RIVAL,
    )
    return [*figures, against_rival]


def _rival_rates(bench: Bench, crowd: Crowd, *, rounds: int, count: int) -> dict[str, list[float]]:
    """The rates of the rival's pools, given the same endpoints, while Hookline has nothing to do."""
    found: dict[str, list[float]] = {}
    with ExitStack() as stack:
        server = stack.enter_context(postgres_server(durable=True))
        for pool in (PREFORK, SOLO):
            contestant = stack.enter_context(
                running_rival(
                    pool,
                    broker_url=stack.enter_context(valkey_server(append_only=True)),
                    database_url=fresh_database(server),
                    endpoint=bench.endpoint.url,
                    folder=Path(stack.enter_context(TemporaryDirectory(prefix="hookline-rival-"))),
                )
            )
            for number in range(rounds):
                bench.endpoint.reset()
                recorded = contestant.recorded()
                began = contestant.release(crowd.events(f"rival{number}", count))
                while contestant.recorded() < recorded + count:
                    contestant.require_alive()
                    time.sleep(POLL_SECONDS)
                found.setdefault(pool.system, []).append(count / (time.monotonic() - began))
                print(f"{pool.system}: {found[pool.system][-1]:,.0f} deliveries/s", flush=True)
    return found


def measure_sqlite(rounds: int, quick: bool) -> list[Figure]:
    """The same on SQLite, with 1 and 1,000 webhooks."""
    crowds = [Crowd(f"of-{size}", size) for size in (1, 1_000)]
    with running_bench("sqlite") as bench:
        found = run(bench, crowds, rounds=rounds, count=EVENTS // 10 if quick else EVENTS)
    return _figures(f"{AREA}-sqlite", crowds, found, {1_000: RATE_ON_SQLITE})


def _figures(area: str, crowds: Sequence[Crowd], found: dict[str, Rounds], demands: dict[int, float]) -> list[Figure]:
    one = found[crowds[0].name]
    figures = []
    for crowd in crowds:
        these, alone = found[crowd.name], crowd is crowds[0]
        webhooks = f"{crowd.size:,} webhook{'' if alone else 's'}"
        figures += [
            Figure(
                area,
                f"stream to recorded, {webhooks}",
                "deliveries/s",
                tuple(these.rates),
                against="" if alone else "1 webhook",
                reference=() if alone else tuple(one.rates),
                ratio_at_least=demands.get(crowd.size),
            ),
            Figure(
                area,
                f"CPU, servers included, {webhooks}",
                "µs a delivery",
                these.totals_us,
                against="" if alone else "1 webhook",
                reference=() if alone else one.totals_us,
                ratio_at_most=CPU_AT_MOST if crowd.size == 1_000 else None,
            ),
        ]
    faults = float(sum(these.faults for these in found.values()))
    figures.append(Figure(area, "lost, doubled or invented", "deliveries", (faults,), at_most=0, promise=True))
    return figures


@dataclass
class Rounds:
    """What the rounds of one crowd showed."""

    rates: list[float] = field(default_factory=list)
    cpu_us: dict[str, list[float]] = field(default_factory=dict)
    """Of a delivery, by role."""
    faults: int = 0
    """Deliveries lost, doubled or invented."""

    @property
    def totals_us(self) -> tuple[float, ...]:
        """CPU time of a delivery, all roles together."""
        return tuple(float(sum(one)) for one in zip(*self.cpu_us.values(), strict=True))


class Bench:
    """A running Hookline with servers of its own and a receiver that answers at once."""

    def __init__(self, hookline: Hookline, endpoint: Receiver, engine: sa.Engine, redis: Redis) -> None:
        self.hookline = hookline
        self.endpoint = endpoint
        self._cpu = CpuAccounts(hookline, engine, redis)

    def cpu_seconds(self) -> float:
        """CPU time so far of all of Hookline and its servers."""
        return sum(self._cpu.read().values())

    def define(self, crowd: Crowd) -> None:
        """Create a crowd at URLs of this bench's receiver."""
        crowd.define(self.hookline, lambda number: f"{self.endpoint.url}/{crowd.name}/{number}")

    def round(self, crowd: Crowd, label: str, count: int) -> Rounds:
        """Publish `count` events to the streams and wait until each is delivered and recorded."""
        events, found = crowd.events(label, count), Rounds()
        self.endpoint.reset()
        recorded, before = self.hookline.recorded(), self._cpu.read()
        began = self.hookline.release(events)
        self._await(recorded + count, count, began + PATIENCE_SECONDS)
        found.rates.append(count / (time.monotonic() - began))
        found.cpu_us = {role: [(now - before[role]) / count * 1e6] for role, now in self._cpu.read().items()}
        time.sleep(STRAGGLER_SECONDS)
        arrived, stats = self.endpoint.arrivals().keys(), self.endpoint.stats()
        expected = {event["id"] for event in events}
        found.faults = len(arrived ^ expected) + int(stats["doubled"])
        found.faults += abs(self.hookline.recorded() - recorded - count)
        return found

    def _await(self, target: int, count: int, deadline: float) -> None:
        """Only the receiver is asked while requests are under way, so that counting rows slows nobody."""
        while self.endpoint.stats()["distinct"] < count or self.hookline.recorded() < target:
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{count} events were not delivered within {PATIENCE_SECONDS:g} s")
            self.hookline.require_alive()
            time.sleep(POLL_SECONDS)


def run(bench: Bench, crowds: Sequence[Crowd], *, rounds: int, count: int, warm_rounds: int = 2) -> dict[str, Rounds]:
    """Define crowds, warm each up, and take their rounds in turns; what each showed, by the crowd's name."""
    found = {crowd.name: Rounds() for crowd in crowds}
    for crowd in crowds:
        bench.define(crowd)
    for number in range(-warm_rounds, rounds):
        for crowd in crowds if number % 2 == 0 else crowds[::-1]:
            label = f"round{number}" if number >= 0 else f"warm{-number}"
            one = bench.round(crowd, label, count)
            cpu = ", ".join(f"{role} {us[0]:,.0f}" for role, us in one.cpu_us.items())
            total = one.totals_us[0]
            print(
                f"{crowd.name} {label}: {one.rates[0]:,.0f} deliveries/s, {total:,.0f} µs a delivery ({cpu})",
                flush=True,
            )
            kept = found[crowd.name]
            kept.faults += one.faults
            if number >= 0:
                kept.rates += one.rates
                for role, us in one.cpu_us.items():
                    kept.cpu_us.setdefault(role, []).extend(us)
    return found


@contextmanager
def running_bench(database: Database, workers: int = 2) -> Iterator[Bench]:
    """A Hookline on a database of this kind, with servers and a receiver."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="hookline-spread-")))
        if database == "postgresql":
            database_url = fresh_database(stack.enter_context(postgres_server(durable=True)))
        else:
            database_url = f"sqlite:///{folder / 'spread.db'}"
        redis_url = stack.enter_context(valkey_server(append_only=True))
        endpoint = stack.enter_context(receiver())
        hookline = stack.enter_context(
            running_hookline(
                redis_url=redis_url,
                database_url=database_url,
                endpoint=endpoint.url,
                folder=folder,
                workers=workers,
            )
        )
        engine = sa.create_engine(database_url)
        stack.callback(engine.dispose)
        yield Bench(hookline, endpoint, engine, stack.enter_context(Redis.from_url(redis_url)))
