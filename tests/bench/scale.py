"""What more worker processes cost and bring: CPU of a delivery by role, rate, connections, memory, for 1, 2 and 4.

Each number of workers has a Hookline, a database server and a Valkey of its own, so that CPU time and connections are
told apart; rounds are taken in turns. CPU time is what the kernel accounts to each process, which says what a delivery
costs whatever else the machine does. More than this machine's cores cannot be quicker, but must not cost more.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from redis import Redis

from tests.bench.cpu_accounts import CLIENTS, POSTGRES, VALKEY, CpuAccounts, role_of
from tests.bench.events import make_events
from tests.bench.figures import Figure
from tests.bench.processes import ProcessFailed
from tests.bench.receiver import receiver
from tests.bench.system import running_hookline
from tests.servers import postgres_server, valkey_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.system import Hookline

AREA = "scale"
WORKERS = (1, 2, 4)
EVENTS = 20_000
POLL_SECONDS = 0.2
PATIENCE_SECONDS = 120.0
WORTH_AT_LEAST = 1.7 / 2
"""Two workers do at least 1.7 times the work of one for twice its CPU time."""


@dataclass
class Rounds:
    """What the rounds with one number of workers showed."""

    rates: list[float] = field(default_factory=list)
    cpu_us: dict[str, list[float]] = field(default_factory=dict)
    """Of a delivery, by role."""
    connections: dict[str, list[float]] = field(default_factory=dict)
    """The most at a time, by server."""
    memory_mib: list[float] = field(default_factory=list)
    """Of a worker process at the end of a round."""

    @property
    def totals_us(self) -> tuple[float, ...]:
        """CPU time of a delivery, all roles together."""
        return tuple(float(sum(one)) for one in zip(*self.cpu_us.values(), strict=True))


def measure(rounds: int, quick: bool) -> list[Figure]:
    """All figures of this area."""
    count = EVENTS // 10 if quick else EVENTS
    found = {workers: Rounds() for workers in WORKERS}
    with ExitStack() as stack:
        benches = {workers: stack.enter_context(running(workers)) for workers in WORKERS}
        for number in range(rounds):
            for workers in WORKERS if number % 2 == 0 else WORKERS[::-1]:
                benches[workers].round(f"scale-{number}", count, found[workers])
    return [figure for workers in WORKERS for figure in _figures(workers, found)]


def _figures(workers: int, found: dict[int, Rounds]) -> list[Figure]:
    label = f"{workers} worker{'s' if workers > 1 else ''}"
    one, these = found[WORKERS[0]], found[workers]
    worth = Figure(
        AREA,
        f"{label}: deliveries for a CPU second, servers included",
        "deliveries",
        tuple(1e6 / total for total in these.totals_us),
        against="" if these is one else "1 worker",
        reference=() if these is one else tuple(1e6 / total for total in one.totals_us),
        ratio_at_least=WORTH_AT_LEAST if workers == 2 else None,
    )
    return [
        Figure(AREA, f"{label}: stream to recorded", "deliveries/s", tuple(these.rates)),
        worth,
        *(Figure(AREA, f"{label}: CPU of {role}", "µs a delivery", tuple(us)) for role, us in these.cpu_us.items()),
        *(
            Figure(AREA, f"{label}: connections to {server}", "connections", tuple(counts))
            for server, counts in these.connections.items()
        ),
        Figure(AREA, f"{label}: memory of one", "MiB", tuple(these.memory_mib)),
    ]


class Bench:
    """A running Hookline with servers of its own."""

    def __init__(self, hookline: Hookline, engine: sa.Engine, redis: Redis) -> None:
        self._hookline = hookline
        self.engine = engine
        self.redis = redis
        self._cpu = CpuAccounts(hookline, engine, redis)

    def round(self, label: str, count: int, found: Rounds) -> None:
        """Publish `count` events to the streams and wait until each is delivered and recorded."""
        events = make_events(label, count)
        wanted = self._hookline.recorded() + count
        before, most = self._cpu.read(), {POSTGRES: 0, VALKEY: 0}
        began = self._hookline.release(events)
        while self._hookline.recorded() < wanted:
            if time.monotonic() > began + PATIENCE_SECONDS:
                raise ProcessFailed(f"{count} events were not delivered within {PATIENCE_SECONDS:g} s")
            most = {server: max(most[server], now) for server, now in self._connections().items()}
            time.sleep(POLL_SECONDS)
        found.rates.append(count / (time.monotonic() - began))
        after = self._cpu.read()
        for role, seconds in after.items():
            found.cpu_us.setdefault(role, []).append((seconds - before[role]) / count * 1e6)
        for server, connections in most.items():
            found.connections.setdefault(server, []).append(connections)
        workers = [one for one in self._hookline.processes() if role_of(one) == "the workers"]
        found.memory_mib.append(max(one.memory_info().rss for one in workers) / (1 << 20))

    def _connections(self) -> dict[str, int]:
        """Hookline's, now; those to Valkey with Celery's, less the two that look."""
        with self.engine.connect() as connection:
            postgres = sum(bool(row.ours) for row in connection.execute(CLIENTS))
        clients: Any = self.redis.client_list()
        return {POSTGRES: postgres, VALKEY: len(clients) - 2}


@contextmanager
def running(workers: int) -> Iterator[Bench]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="hookline-scale-")))
        database_url = stack.enter_context(postgres_server(durable=True))
        redis_url = stack.enter_context(valkey_server(append_only=True))
        hookline = stack.enter_context(
            running_hookline(
                redis_url=redis_url,
                database_url=database_url,
                endpoint=stack.enter_context(receiver()).url,
                folder=folder,
                workers=workers,
            )
        )
        engine = sa.create_engine(database_url)
        stack.callback(engine.dispose)
        yield Bench(hookline, engine, stack.enter_context(Redis.from_url(redis_url)))
