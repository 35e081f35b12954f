"""Where a scenario is fought: fresh servers and databases for each contestant, rounds taken in turns.

Taking turns, with the order reversed every other round, is what makes ratios mean something on a machine whose
speed drifts. Each contestant has its own Valkey (append-only file on) and its own database on one durable server.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlalchemy.engine import make_url

from tests.bench.events import make_events
from tests.bench.receiver import receiver
from tests.bench.rival import render
from tests.bench.rival_system import Pool, running_rival
from tests.bench.rounds import Contestant, Latency, Throughput, measure_latency, measure_throughput
from tests.bench.system import OverRest, running_hookline
from tests.bench.yardstick import client_limit, requests_per_second
from tests.servers import fresh_database, postgres_server, valkey_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.bench.receiver import Receiver

Database = Literal["postgresql", "sqlite"]
YARDSTICK_REQUESTS = 1000
LIMIT_REQUESTS = 20_000
WORKERS = 2
LATENCY_EVENTS_PER_SECOND = 20.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is measured, on what, with how much."""

    name: str
    database: Database
    rounds: int
    rivals: tuple[Pool, ...]
    events: int
    """Events a throughput round; 0 leaves throughput out."""
    other_counts: dict[str, int] = field(default_factory=dict)
    """Other counts for contestants that would take too long, by name."""
    latency_events: int = 0
    """Events a latency round; 0 leaves latency out."""
    delay_seconds: float = 0.0
    """How long the receiver takes to answer in throughput rounds."""
    with_limits: bool = False
    """Whether the bare loops of HTTP clients are measured as well."""


@dataclass(slots=True)
class Outcome:
    """All rounds of a scenario, by contestant."""

    scenario: Scenario
    yardstick: list[float] = field(default_factory=list)
    limit: list[float] = field(default_factory=list)
    throughput: dict[str, list[Throughput]] = field(default_factory=dict)
    latency: dict[str, list[Latency]] = field(default_factory=dict)

    def all_rounds(self) -> list[tuple[str, Sequence[Throughput | Latency]]]:
        """Every round, by contestant."""
        return [*self.throughput.items(), *self.latency.items()]


def run(scenario: Scenario, tell: Callable[[str], None] = print) -> Outcome:
    """Start everything, take the rounds in turns, stop everything. `tell` gets a line for each round."""
    outcome = Outcome(scenario)
    with _arena(scenario) as arena:
        for number in range(scenario.rounds):
            order = arena.contestants if number % 2 == 0 else arena.contestants[::-1]
            if scenario.with_limits:
                _limits_round(outcome, arena.endpoint, number, tell)
            for contestant in order:
                _throughput_round(outcome, arena, contestant, number, tell)
            for contestant in order:
                _latency_round(outcome, arena.endpoint, contestant, number, tell)
    return outcome


@dataclass(frozen=True, slots=True)
class Arena:
    """What a scenario runs on, while it runs."""

    endpoint: Receiver
    postgres_folder: str | None
    contestants: list[Contestant]


@contextmanager
def _arena(scenario: Scenario) -> Iterator[Arena]:
    """Start the receiver, the servers and the contestants of a scenario."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hookline-bench-")))
        endpoint = stack.enter_context(receiver())
        server = stack.enter_context(postgres_server(durable=True)) if scenario.database == "postgresql" else None
        contestants: list[Contestant] = []
        for number, pool in enumerate(scenario.rivals):
            place = _folder(folder, f"rival-{number}")
            rival = running_rival(
                pool,
                broker_url=stack.enter_context(valkey_server(append_only=True)),
                database_url=_database(server, place),
                endpoint=endpoint.url,
                folder=place,
            )
            contestants.append(stack.enter_context(rival))
        place = _folder(folder, "hookline")
        service = running_hookline(
            redis_url=stack.enter_context(valkey_server(append_only=True)),
            database_url=_database(server, place),
            endpoint=endpoint.url,
            folder=place,
            workers=WORKERS,
        )
        hookline = stack.enter_context(service)
        contestants += [hookline, OverRest(hookline)]
        yield Arena(endpoint, str(make_url(server).query["host"]) if server else None, contestants)


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def _database(server: str | None, folder: Path) -> str:
    """A new database: on the PostgreSQL server if there is one, else an SQLite file in `folder`."""
    return fresh_database(server) if server else f"sqlite:///{folder / 'bench.db'}"


def _limits_round(outcome: Outcome, endpoint: Receiver, number: int, tell: Callable[[str], None]) -> None:
    count = min(LIMIT_REQUESTS, outcome.scenario.events)
    bodies = list(map(render, make_events(f"limits-{number}", count)))
    endpoint.reset()
    outcome.yardstick.append(requests_per_second(endpoint.url, bodies[:YARDSTICK_REQUESTS]))
    endpoint.reset()
    outcome.limit.append(client_limit(endpoint.url, bodies, processes=WORKERS))
    rates = f"httpx {outcome.yardstick[-1]:,.0f} requests/s, Hookline's client {outcome.limit[-1]:,.0f} requests/s"
    tell(f"{outcome.scenario.name} {number + 1}: bare loops: {rates}")


def _throughput_round(
    outcome: Outcome, arena: Arena, contestant: Contestant, number: int, tell: Callable[[str], None]
) -> None:
    scenario, name = outcome.scenario, contestant.name
    count = scenario.other_counts.get(name, scenario.events)
    if not count:
        return
    result = measure_throughput(
        contestant,
        arena.endpoint,
        label=f"t{number}",
        count=count,
        delay_seconds=scenario.delay_seconds,
        postgres_folder=arena.postgres_folder,
    )
    outcome.throughput.setdefault(name, []).append(result)
    figures = f"{result.per_second:,.0f} deliveries/s, {result.cores_elsewhere:.1f} cores busy elsewhere"
    tell(f"{scenario.name} {number + 1}: {name} {figures}  {_faults(result)}")


def _latency_round(
    outcome: Outcome, endpoint: Receiver, contestant: Contestant, number: int, tell: Callable[[str], None]
) -> None:
    scenario, name = outcome.scenario, contestant.name
    if not scenario.latency_events or isinstance(contestant, OverRest):
        return
    result = measure_latency(
        contestant,
        endpoint,
        label=f"l{number}",
        count=scenario.latency_events,
        per_second=LATENCY_EVENTS_PER_SECOND,
    )
    outcome.latency.setdefault(name, []).append(result)
    figures = f"p50 {result.p50_ms:.1f} ms, p99 {result.p99_ms:.1f} ms"
    tell(f"{scenario.name} {number + 1}: {name} {figures}  {_faults(result)}")


def _faults(result: Throughput | Latency) -> str:
    accounts = result.accounts
    if not accounts.faults:
        return ""
    return f"LOST {accounts.lost} DOUBLED {accounts.doubled} STRAYS {accounts.strays}"
