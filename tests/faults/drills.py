"""The drills: which part is hurt and how, and in what a drill's stage differs from the others'."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from shared.storage.engine import open_engine, writing
from tests.faults import disk
from tests.faults.stage import Stage
from tests.integration.processes import ROOT, environment, wait_until

Hurt = Callable[[Stage, random.Random], None]


@dataclass(frozen=True)
class Drill:
    """How a stage is hurt, again and again at random moments while events arrive."""

    hurt: Hurt
    doubles: bool = False
    """Whether a request may be made twice: where what sends or what records goes away between the two."""
    pumps: int = 1
    on_small_disk: bool = False
    after: Callable[[Stage], None] = lambda _scene: None
    """What ends the fault for good, before the count."""
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def impossible(self) -> str | None:
        """Why this drill can't be run here, if it can't."""
        if self.on_small_disk and not disk.can_mount():
            return "needs the right to mount a tmpfs (root) for a disk that can be filled"
        return None


def _worker(scene: Stage, chance: random.Random) -> str:
    return chance.choice(scene.named("worker"))


def _roll_everything(scene: Stage, _chance: random.Random) -> None:
    for name in list(scene.parts):
        scene.roll(name)


def _step_clock(scene: Stage, chance: random.Random) -> None:
    name = chance.choice([*scene.named("worker"), *scene.named("pump")])
    scene.step_clock(name, chance.choice((-3600.0, -30.0, 0.0, 30.0, 3600.0)))


def _true_clocks(scene: Stage) -> None:
    for name in (*scene.named("worker"), *scene.named("pump")):
        scene.step_clock(name, 0.0)


def _migrate(scene: Stage, _chance: random.Random) -> None:
    """What a release does to a running system: two deployers migrate at once, and then the schema grows."""
    command = [sys.executable, "-m", "dispatcher.cli", "init"]
    deployers = [
        subprocess.Popen(command, cwd=ROOT, env=environment(scene.settings), stdout=subprocess.DEVNULL) for _ in "ab"
    ]
    assert [deployer.wait(timeout=60) for deployer in deployers] == [0, 0]
    wait_until(lambda: _grown(scene), "migration under load")


def _grown(scene: Stage) -> bool:
    """Add columns and an index to the busiest tables and drop them; False where a deadlock chose the migration."""
    engine = open_engine(scene.settings)
    steps = (
        "ALTER TABLE deliveries ADD COLUMN grown text, ADD COLUMN counted integer NOT NULL DEFAULT 0",
        "ALTER TABLE pending_deliveries ADD COLUMN grown integer",
        "ALTER TABLE webhooks ADD COLUMN grown text",
        "ALTER TABLE partitions ADD COLUMN grown text",
        "CREATE INDEX ix_grown ON deliveries (created_at, counted)",
        "DROP INDEX ix_grown",
        "ALTER TABLE deliveries DROP COLUMN grown, DROP COLUMN counted",
        *(f"ALTER TABLE {table} DROP COLUMN grown" for table in ("pending_deliveries", "webhooks", "partitions")),
    )
    try:
        with writing(engine) as connection:
            for step in steps:
                connection.execute(text(step))
    except SQLAlchemyError:
        return False
    finally:
        engine.dispose()
    return True


def _anything(scene: Stage, chance: random.Random) -> None:
    several: tuple[Callable[[], None], ...] = (
        lambda: scene.kill(chance.choice(list(scene.parts))),
        lambda: scene.roll(_worker(scene, chance)),
        lambda: scene.freeze(_worker(scene, chance), seconds=8),
        lambda: scene.restart_valkey(kill=chance.random() < 0.5),
        lambda: scene.restart_postgres(kill=chance.random() < 0.5),
        scene.wipe_broker,
        lambda: _step_clock(scene, chance),
    )
    chance.choice(several)()


DRILLS: dict[str, Drill] = {
    "kill -9 a worker": Drill(lambda scene, chance: scene.kill(_worker(scene, chance)), doubles=True),
    "kill -9 the pump": Drill(lambda scene, _chance: scene.kill("pump0")),
    "two pumps, kill -9 one": Drill(lambda scene, chance: scene.kill(chance.choice(scene.named("pump"))), pumps=2),
    "kill -9 the API": Drill(lambda scene, _chance: scene.kill("api")),
    "freeze a worker past its lease": Drill(
        lambda scene, chance: scene.freeze(_worker(scene, chance), seconds=8), doubles=True
    ),
    "wipe the broker": Drill(lambda scene, _chance: scene.wipe_broker()),
    "kill -9 Valkey": Drill(lambda scene, _chance: scene.restart_valkey(kill=True)),
    "restart Valkey": Drill(lambda scene, _chance: scene.restart_valkey(kill=False)),
    "kill -9 PostgreSQL": Drill(lambda scene, _chance: scene.restart_postgres(kill=True), doubles=True),
    "restart PostgreSQL": Drill(lambda scene, _chance: scene.restart_postgres(kill=False), doubles=True),
    "fill the database's disk": Drill(
        lambda scene, chance: scene.fill_disk(seconds=chance.uniform(1, 4)), doubles=True, on_small_disk=True
    ),
    "step clocks by up to an hour": Drill(_step_clock, doubles=True, after=_true_clocks),
    "rolling restart of everything": Drill(_roll_everything),
    "migrate the schema": Drill(_migrate),
    "all of these at once": Drill(_anything, doubles=True, pumps=2, after=_true_clocks),
}
SHORT = ("kill -9 a worker", "kill -9 PostgreSQL")
