"""A backlog in one partition: how much memory each part takes while it drains, and what fresh events elsewhere wait.

`python -m tests.faults.backlog` appends a million events to one stream while the workers are stopped, and starts them.
One event in a hundred fires a delivery; every fifth of a second a fresh event is published to another partition.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson
import psutil
from redis import Redis
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, text

from shared.domain.events import check_event, partition_of
from shared.storage.engine import open_engine
from shared.streams import FIELD, stream_key
from tests.faults.load import accepted, drill_event
from tests.faults.stage import ADMIN_KEY, Stage, stage
from tests.integration.processes import stop, wait_until

CHUNK = 2000
FIRING_EVERY = 100
FRESH_EVERY_SECONDS = 0.2
QUIET_SECONDS = 10.0
WORKER_BOUND_MIB = 250
MIB = 1 << 20


@dataclass
class Fresh:
    """Publishes events outside of one partition, one by one, until it is stopped."""

    scene: Stage
    avoided: int
    name: str
    stopped: threading.Event = field(default_factory=threading.Event)
    published: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """Publish."""
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        number = 0
        with httpx.Client(base_url=self.scene.settings.url, headers=headers, timeout=15, trust_env=False) as api:
            while not self.stopped.wait(FRESH_EVERY_SECONDS):
                number += 1
                event = drill_event(number) | {"id": f"{self.name}-{number}"}
                if partition_of(check_event(event), self.scene.settings.partitions) == self.avoided:
                    continue
                began = time.monotonic()
                if accepted(api, [event]):
                    self.published[event["id"]] = began

    def waits(self) -> list[float]:
        """For each event how long after publishing it arrived, in seconds, shortest first."""
        wait_until(lambda: self.published.keys() <= self._arrived().keys(), "fresh events")
        arrived = self._arrived()
        return sorted(arrived[event] - at for event, at in self.published.items())

    def _arrived(self) -> dict[str, float]:
        return {one.event: one.at for one in reversed(self.scene.receiver.arrivals())}


def fill(scene: Stage, count: int) -> int:
    """Append a backlog of one collection; the partition that holds it."""
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
    return partition


def _evaluated(engine: Engine, partition: int) -> int:
    with engine.connect() as connection:
        query = text("SELECT entries_read FROM partitions WHERE partition = :p")
        return int(connection.scalar(query, {"p": partition}) or 0)


def _during(scene: Stage, partition: int, name: str, until: Callable[[], None]) -> list[float]:
    fresh = Fresh(scene, partition, name)
    thread = threading.Thread(target=fresh.run, daemon=True)
    thread.start()
    until()
    fresh.stopped.set()
    thread.join()
    return fresh.waits()


def _p99(waits: list[float]) -> float:
    return waits[min(len(waits) - 1, int(len(waits) * 0.99))]


def main() -> int:
    """Measure, print, and exit 1 when a worker took more than its bound."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.backlog", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="the backlog (default 1000000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hookline-backlog-") as folder, stage(Path(folder)) as scene:
        return measure(scene, options.events)


def measure(scene: Stage, events: int) -> int:
    """Fill, drain and sample."""
    engine = open_engine(scene.settings)
    partition = partition_of(check_event(drill_event(0)), scene.settings.partitions)
    quiet = _during(scene, partition, "quiet", lambda: time.sleep(QUIET_SECONDS))
    for name in scene.named("worker"):
        stop(scene.parts[name])
    before = _evaluated(engine, partition)
    fill(scene, events)
    for name in scene.named("worker"):
        scene.start(name)
    peaks: dict[str, int] = {}

    def drained() -> bool:
        for name, part in scene.parts.items():
            peaks[name] = max(peaks.get(name, 0), psutil.Process(part.pid).memory_info().rss)
        return _evaluated(engine, partition) - before >= events

    began = time.monotonic()
    busy = _during(scene, partition, "busy", lambda: wait_until(drained, "end of the backlog", seconds=1800))
    seconds = time.monotonic() - began
    expected = -(-events // FIRING_EVERY)
    with engine.connect() as connection:
        fired = connection.scalar(text("SELECT count(*) FROM deliveries WHERE event_id LIKE 'backlog-%'"))
    engine.dispose()
    shown = Table(title=f"A backlog of {events} events in one of {scene.settings.partitions} partitions")
    shown.add_column("what")
    shown.add_column("measured", justify="right")
    shown.add_row("evaluated", f"{events / seconds:,.0f} events/s, {fired} of {expected} deliveries")
    for name, peak in peaks.items():
        shown.add_row(f"peak memory of {name}", f"{peak / MIB:.0f} MiB")
    for what, waits in (("quiet", quiet), ("backlog draining", busy)):
        figures = f"p50 {statistics.median(waits) * 1000:.0f} ms, p99 {_p99(waits) * 1000:.0f} ms ({len(waits)})"
        shown.add_row(f"fresh events elsewhere, {what}", figures)
    Console(width=None if sys.stdout.isatty() else 120).print(shown)
    bounded = all(peak < WORKER_BOUND_MIB * MIB for name, peak in peaks.items() if name.startswith("worker"))
    return 0 if bounded and fired == expected else 1


if __name__ == "__main__":
    sys.exit(main())
