"""`make drill`: each fault against a fresh stage under load; exits 1 when anything was lost or fired twice."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import DBAPIError

from tests.faults.stage import Stage, engine_of, stage
from tests.integration.processes import wait_until

HURT_EVERY_SECONDS = 1.5


@dataclass(frozen=True)
class Result:
    """What a drill counted. A doubled request is one more with the same webhook-id, which a receiver can drop."""

    drill: str
    events: int
    hurt: int
    received: int
    doubled: int
    lost: int
    fired_twice: int
    worst_delay_seconds: float

    @property
    def passed(self) -> bool:
        """Nothing lost, nothing fired twice."""
        return not self.lost and not self.fired_twice


def _any_worker(scene: Stage) -> str:
    return random.choice(("worker0", "worker1"))


DRILLS: dict[str, tuple[int, Callable[[Stage], None]]] = {
    "kill -9 a worker": (1, lambda scene: scene.kill(_any_worker(scene))),
    "kill -9 the pump": (1, lambda scene: scene.kill("pump0")),
    "two pumps, kill -9 one": (2, lambda scene: scene.kill("pump1")),
    "kill -9 the API": (1, lambda scene: scene.kill("api")),
    "freeze a worker past its lease": (1, lambda scene: scene.freeze(_any_worker(scene), seconds=8)),
    "wipe the broker": (1, lambda scene: scene.wipe_broker()),
    "kill -9 Valkey": (1, lambda scene: scene.kill_valkey()),
    "kill -9 PostgreSQL": (1, lambda scene: scene.kill_postgres()),
}


def run(name: str, events: int) -> Result:
    """One drill on a stage of its own."""
    pumps, hurt = DRILLS[name]
    with tempfile.TemporaryDirectory(prefix="hookline-drill-") as folder, stage(Path(folder), pumps=pumps) as scene:
        accepted: dict[str, float] = {}
        load = threading.Thread(target=lambda: accepted.update(scene.publish(0, events)))
        load.start()
        hurts = 0
        while load.is_alive() or hurts < 2:
            time.sleep(HURT_EVERY_SECONDS)
            hurt(scene)
            hurts += 1
        load.join()
        engine = engine_of(scene)
        wait_until(lambda: _finished(scene, engine, events), f"{events} deliveries", seconds=180)
        engine.dispose()
        return _count(name, scene, accepted, hurts)


def _finished(scene: Stage, engine: object, events: int) -> bool:
    try:
        return scene.finished(engine, events)  # type: ignore[arg-type]
    except DBAPIError:
        return False


def _count(name: str, scene: Stage, accepted: dict[str, float], hurts: int) -> Result:
    arrivals = scene.arrivals
    requests = sum(len(times) for times in arrivals.times.values())
    delays = [min(arrivals.times[e]) - at for e, at in accepted.items() if e in arrivals.times]
    return Result(
        drill=name,
        events=len(accepted),
        hurt=hurts,
        received=requests,
        doubled=requests - len(arrivals.times),
        lost=len(set(accepted) - set(arrivals.times)),
        fired_twice=sum(len(ids) > 1 for ids in arrivals.ids.values()),
        worst_delay_seconds=max(delays, default=0.0),
    )


def _table(results: list[Result]) -> Table:
    table = Table(title="Fault drills, PostgreSQL and Valkey, two workers", title_justify="left")
    for column in ("drill", "events", "times hurt", "requests", "doubled", "lost", "fired twice", "worst delay"):
        table.add_column(column, justify="left" if column == "drill" else "right")
    for one in results:
        numbers = (one.events, one.hurt, one.received, one.doubled, one.lost, one.fired_twice)
        style = "" if one.passed else "bold red"
        table.add_row(one.drill, *map(str, numbers), f"{one.worst_delay_seconds:.1f} s", style=style)
    return table


def main() -> int:
    """Run the drills and print their table."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--events", type=int, default=5000, help="events of each drill (default 5000)")
    parser.add_argument("--only", choices=DRILLS, action="append", help="this drill only; may be repeated")
    options = parser.parse_args()
    console, results = Console(), []
    for name in options.only or DRILLS:
        console.print(f"{name} …")
        results.append(run(name, options.events))
    console.print(_table(results))
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
