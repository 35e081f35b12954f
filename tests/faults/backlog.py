"""A backlog in one partition: how much memory each part takes while it drains, and what fresh events elsewhere wait.

`python -m tests.faults.backlog` appends a million events to one stream while the workers are stopped, and starts them.
One event in a hundred fires a delivery; twenty times a second a fresh event is published to another partition. Those
are counted from when each worker has evaluated something: how long a worker takes to start is another matter.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import orjson
from redis import Redis
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, text

from shared.domain.events.decoding import check_event
from shared.domain.events.partitioning import partition_of
from shared.messaging.celery_app import PARTITION_TASK, celery_app
from shared.messaging.streams import FIELD, stream_key
from shared.storage.database.engine import open_engine
from tests.bench.figures import Figure, figures_table
from tests.faults.fresh import Wait, meanwhile, percentile
from tests.faults.load import drill_event
from tests.faults.memory import Memory
from tests.faults.stage import START_SECONDS, Stage, end_in_order, stage
from tests.integration.processes import stop, wait_until

AREA = "backlog"
EVENTS = 1_000_000
QUICK_EVENTS = 400_000
CHUNK = 2000
FIRING_EVERY = 100
QUIET_SECONDS = 10.0
SAMPLE_SECONDS = 0.25
DRAIN_SECONDS = 1800.0
BOUND_MIB = 250
GROWTH_BOUND_MIB = 10
SLOWEST = 5


@dataclass(frozen=True, slots=True)
class Drained:
    """What one backlog showed."""

    events: int
    seconds: float
    """From the start of the workers to the last event's commit."""
    expected: int
    fired: int
    memory: Memory
    quiet: list[Wait]
    busy: list[Wait]

    def most_mib(self, kind: str) -> float:
        """The peak of the largest part of a kind."""
        return max(self.memory.peak_mib(name) for name in self.memory.taken if name.startswith(kind))

    def growth_mib(self, kind: str) -> float:
        """The growth of that part of a kind which grew most."""
        return max(self.memory.growth_mib(name) for name in self.memory.taken if name.startswith(kind))


def measure(rounds: int, quick: bool) -> list[Figure]:
    """All figures of this area. A round is a backlog on a stage of its own; the whole one is so long that one does."""
    return _figures([_on_a_stage(QUICK_EVENTS if quick else EVENTS) for _ in range(rounds if quick else 1)])


def _on_a_stage(events: int) -> Drained:
    with tempfile.TemporaryDirectory(prefix="hookline-backlog-") as folder, stage(Path(folder)) as scene:
        return drain(scene, events)


def _figures(runs: list[Drained]) -> list[Figure]:
    what = f"backlog of {runs[0].events:,} events"
    figures = [Figure(AREA, f"{what}: drained", "events/s", tuple(one.events / one.seconds for one in runs))]
    for kind, title in (("worker", "a worker"), ("api", "the API"), ("pump", "the dispatcher")):
        peaks = tuple(one.most_mib(kind) for one in runs)
        growths = tuple(one.growth_mib(kind) for one in runs)
        figures += [
            Figure(AREA, f"{what}: peak memory of {title}", "MiB", peaks, at_most=BOUND_MIB),
            Figure(AREA, f"{what}: growth of {title} after a quarter", "MiB", growths, at_most=GROWTH_BOUND_MIB),
        ]
    for share, title in ((0.5, "p50"), (0.99, "p99")):
        quiet = tuple(percentile(one.quiet, share) * 1000 for one in runs)
        busy = tuple(percentile(one.busy, share) * 1000 for one in runs)
        name = f"{title} from publishing to arrival in other partitions"
        figures.append(Figure(AREA, name, "ms", busy, against="without a backlog", reference=quiet))
    wrong = tuple(float(abs(one.expected - one.fired)) for one in runs)
    figures.append(Figure(AREA, f"{what}: deliveries missing or too many", "", wrong, at_most=0, promise=True))
    return figures


def drain(scene: Stage, events: int) -> Drained:
    """Fill, start the workers, and watch until nothing is left."""
    engine = open_engine(scene.settings)
    partition = partition_of(check_event(drill_event(0)), scene.settings.partitions)
    workers = scene.named("worker")

    def evaluating() -> None:
        wait_until(lambda: _evaluating(scene) == len(workers), "workers that evaluate", seconds=START_SECONDS)

    meanwhile(scene, engine, partition, "warm", evaluating)
    quiet = meanwhile(scene, engine, partition, "quiet", lambda: time.sleep(QUIET_SECONDS))
    for name in workers:
        stop(scene.parts[name])
    before = _evaluated(engine, partition)
    fill(scene, events)
    memory = Memory()
    pids = {name: part.pid for name, part in scene.parts.items() if name not in workers}

    def drained() -> bool:
        done = _evaluated(engine, partition) - before
        memory.sample(done / events, pids)
        return done >= events

    began = time.monotonic()
    for name in workers:
        scene.start(name)
        pids[name] = scene.parts[name].pid
    wait_until(lambda: _evaluating(scene) == len(workers) or drained(), "workers that evaluate", seconds=START_SECONDS)
    busy = meanwhile(
        scene,
        engine,
        partition,
        "busy",
        lambda: wait_until(drained, "end of the backlog", seconds=DRAIN_SECONDS, every_seconds=SAMPLE_SECONDS),
    )
    seconds = time.monotonic() - began
    with engine.connect() as connection:
        fired = connection.scalar(text("SELECT count(*) FROM deliveries WHERE event_id LIKE 'backlog-%'"))
    engine.dispose()
    return Drained(events, seconds, -(-events // FIRING_EVERY), fired or 0, memory, quiet, busy)


def fill(scene: Stage, count: int) -> None:
    """Append a backlog of one collection."""
    event = drill_event(0)
    partition = partition_of(check_event(event), scene.settings.partitions)
    with Redis.from_url(scene.settings.stream_url) as redis:
        for first in range(0, count, CHUNK):
            pipeline = redis.pipeline(transaction=False)
            for number in range(first, min(first + CHUNK, count)):
                one = event | {"id": f"backlog-{number}"}
                if number % FIRING_EVERY:
                    one = one | {"type": "ADD_ARTIFACT_TAG", "data": event["data"] | {"tag": "t"}}
                pipeline.xadd(stream_key(partition), {FIELD: orjson.dumps(one)})
            pipeline.execute()


def _evaluated(engine: Engine, partition: int) -> int:
    with engine.connect() as connection:
        query = text("SELECT entries_read FROM partitions WHERE partition = :p")
        return int(connection.scalar(query, {"p": partition}) or 0)


def _evaluating(scene: Stage) -> int:
    """How many workers have begun to evaluate."""
    with celery_app(scene.settings) as app:
        answers = app.control.inspect(timeout=1).stats() or {}
    return sum(bool(stats["total"].get(PARTITION_TASK)) for stats in answers.values())


def _print(run: Drained, console: Console) -> None:
    console.print(figures_table(_figures([run])))
    table = Table("backlog done", *run.memory.taken, title="Memory while it drains, in MiB")
    for tenth in range(1, 11):
        taken = (f"{run.memory.at(tenth / 10, name):.0f}" for name in run.memory.taken)
        table.add_row(f"{tenth * 10} %", *taken)
    console.print(table)
    slowest = ", ".join(
        f"{wait.arrived_seconds * 1000:.0f} ms ({wait.evaluated_seconds * 1000:.0f} ms to its evaluation)"
        for wait in reversed(run.busy[-SLOWEST:])
    )
    console.print(f"{run.fired} of {run.expected} deliveries; of {len(run.busy)} fresh events the slowest: {slowest}")


def main() -> int:
    """Measure, print, and exit 1 when something is missing or a part took more than its bound."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.backlog", description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS, help="the backlog (default 1000000)")
    options = parser.parse_args()
    end_in_order()
    run = _on_a_stage(options.events)
    _print(run, Console(width=None if sys.stdout.isatty() else 140))
    bounded = all(run.most_mib(kind) < BOUND_MIB for kind in ("worker", "api", "pump"))
    return 0 if bounded and run.fired == run.expected else 1


if __name__ == "__main__":
    sys.exit(main())
