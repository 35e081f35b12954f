"""Runs the rival as one contestant: its Celery workers, its table, its producer.

For a measured round the workers are stopped with SIGSTOP while the queue is filled, and the clock begins when they
go on: the rival is not charged for enqueuing.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tests.bench import rival
from tests.bench.events import Event, make_events
from tests.bench.processes import Tree, started

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from kombu import Producer

WARM_UP_EVENTS = 60


@dataclass(frozen=True, slots=True)
class Pool:
    """How the rival's workers are laid out."""

    label: str
    kind: str
    concurrency: int
    nodes: int = 1

    @property
    def system(self) -> str:
        """What a rival with this pool is called in the results."""
        return f"one task a delivery ({self.label})"


PREFORK = Pool("prefork 2", "prefork", 2)
SOLO = Pool("2 nodes, solo", "solo", 1, nodes=2)
THREADS = Pool("32 threads", "threads", 32)
MANY_PROCESSES = Pool("prefork 16", "prefork", 16)


class Rival:
    """A running rival."""

    def __init__(self, *, name: str, trees: Sequence[Tree], engine: sa.Engine, producer: Producer) -> None:
        self.name = name
        self._producer = producer
        self._trees = trees
        self._engine = engine
        self._count = sa.select(sa.func.count()).select_from(rival.deliveries)

    def release(self, events: Sequence[Event]) -> float:
        """Queue all events, then let the workers go; the monotonic second at which they could begin."""
        self._signal(signal.SIGSTOP)
        try:
            for event in events:
                self.publish(event)
        finally:
            began = time.monotonic()
            self._signal(signal.SIGCONT)
        return began

    def publish(self, event: Event) -> None:
        """Queue one event."""
        rival.deliver.apply_async((event,), producer=self._producer)

    def recorded(self) -> int:
        """Deliveries in the table."""
        with self._engine.connect() as connection:
            return connection.execute(self._count).scalar_one()

    def cpu_seconds(self) -> float:
        return sum(tree.cpu_seconds() for tree in self._trees)

    def require_alive(self) -> None:
        for tree in self._trees:
            tree.require_alive()

    def _signal(self, number: signal.Signals) -> None:
        for tree in self._trees:
            os.kill(tree.pid, number)


@contextmanager
def running_rival(pool: Pool, *, broker_url: str, database_url: str, endpoint: str, folder: Path) -> Iterator[Rival]:
    """Start the rival's workers on an empty table, warmed up."""
    environment = {
        **os.environ,
        rival.BROKER_VARIABLE: broker_url,
        rival.DATABASE_VARIABLE: database_url,
        rival.ENDPOINT_VARIABLE: endpoint,
    }
    with ExitStack() as stack:
        engine = rival.open_engine(database_url)
        stack.callback(engine.dispose)
        rival.metadata.create_all(engine)
        trees = [
            stack.enter_context(
                started(_command(pool, node), environment=environment, log=folder / f"rival-{node}.log")
            )
            for node in range(pool.nodes)
        ]
        connection = stack.enter_context(rival.app.connection_for_write(broker_url))
        producer = stack.enter_context(rival.app.amqp.Producer(connection))
        system = Rival(name=pool.system, trees=trees, engine=engine, producer=producer)
        _warm_up(system, trees)
        yield system


def _command(pool: Pool, node: int) -> list[str]:
    return [
        *(sys.executable, "-m", "celery", "-A", "tests.bench.rival", "worker"),
        *("--pool", pool.kind, "--concurrency", str(pool.concurrency), "--hostname", f"rival{node}@%h"),
        *("--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]


def _warm_up(system: Rival, trees: Sequence[Tree]) -> None:
    """Deliver a few events, so that every process has its connections open."""
    for event in make_events("warm-rival", WARM_UP_EVENTS):
        system.publish(event)
    trees[0].wait_until(lambda: system.recorded() >= WARM_UP_EVENTS, what="warm-up deliveries")
