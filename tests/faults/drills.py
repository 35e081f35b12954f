"""The drills: which part is hurt and how, and in what a drill's stage differs from the others'."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.faults import disk, schema
from tests.faults.stage import START_SECONDS, Stage, ready
from tests.integration.processes import wait_until

Hurt = Callable[[Stage, random.Random], None]


@dataclass(frozen=True)
class Drill:
    """How a stage is hurt, again and again at random moments while events arrive."""

    hurts: tuple[Hurt, ...]
    """Done in turn."""
    doubles: bool = False
    """Whether a request may be made twice: where what sends or what records goes away between the two."""
    pumps: int = 1
    on_small_disk: bool = False
    before: Callable[[Stage], None] = lambda _scene: None
    """What is done to the stage before the load."""
    after: Callable[[Stage], None] = lambda _scene: None
    """What ends the fault for good, before the count."""
    upgrades: bool = False
    """Whether an earlier release runs at first, where there is a checkout of one."""
    settings: dict[str, Any] = field(default_factory=dict)
    webhooks: int = 1
    """How many webhooks the deliveries are spread over, each with an automation in a project of its own."""

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


def _kill_worker(scene: Stage, chance: random.Random) -> None:
    scene.kill(_worker(scene, chance))


def _kill_api(scene: Stage, _chance: random.Random) -> None:
    """Each time it is up again: one that is killed as it starts takes nothing in, and so nothing is tried."""
    scene.kill("api")
    wait_until(lambda: ready(scene.settings.url), "answer of the API", seconds=START_SECONDS)


def _kill_postgres(scene: Stage, _chance: random.Random) -> None:
    scene.restart_postgres(kill=True)


DRILLS: dict[str, Drill] = {
    "kill -9 a worker": Drill((_kill_worker,), doubles=True),
    "kill -9 the dispatcher": Drill((lambda scene, _chance: scene.kill("pump0"),)),
    "two dispatchers, kill -9 one": Drill(
        (lambda scene, chance: scene.kill(chance.choice(scene.named("pump"))),), pumps=2
    ),
    "kill -9 the API": Drill((_kill_api,)),
    "freeze a worker past its lease": Drill(
        (lambda scene, chance: scene.freeze(_worker(scene, chance), seconds=8),), doubles=True
    ),
    "wipe the broker": Drill((lambda scene, _chance: scene.wipe_broker(),)),
    "kill -9 Valkey": Drill((lambda scene, _chance: scene.restart_valkey(kill=True),)),
    "restart Valkey": Drill((lambda scene, _chance: scene.restart_valkey(kill=False),)),
    "kill -9 PostgreSQL": Drill((_kill_postgres,), doubles=True),
    "restart PostgreSQL": Drill((lambda scene, _chance: scene.restart_postgres(kill=False),), doubles=True),
    "fill the database's disk": Drill(
        (lambda scene, chance: scene.fill_disk(seconds=chance.uniform(1, 4)),), doubles=True, on_small_disk=True
    ),
    "step clocks by up to an hour": Drill((_step_clock,), doubles=True, after=_true_clocks),
    "rolling restart of everything": Drill((_roll_everything,)),
    "grow the schema": Drill((lambda scene, _chance: schema.grow(scene),)),
    "upgrade from 0.1.0": Drill(
        (lambda scene, _chance: schema.deploy(scene), _roll_everything), before=schema.go_back, upgrades=True
    ),
    "kill -9 a worker, 1,000 webhooks": Drill((_kill_worker,), doubles=True, webhooks=1_000),
    "restart PostgreSQL, 1,000 webhooks": Drill(
        (lambda scene, _chance: scene.restart_postgres(kill=False),), doubles=True, webhooks=1_000
    ),
    "all of these at once": Drill((_anything,), doubles=True, pumps=2, after=_true_clocks),
    "kill -9 a worker and PostgreSQL in turn": Drill(
        (_kill_worker, _kill_postgres), doubles=True, settings={"lease_margin": "1s"}
    ),
}
SHORT = ("kill -9 a worker and PostgreSQL in turn",)
"""Both that have to do with the at-least-once window, in one: a stage takes longer to set up than to hurt."""
FULL = tuple(name for name in DRILLS if name not in SHORT)
