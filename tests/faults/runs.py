"""Runs a drill and counts what came of it, from both ends: the receiver's log, and what streams and database say."""

from __future__ import annotations

import random
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from shared.messaging.streams import stream_key
from shared.storage.database.engine import open_engine
from tests.faults.drills import DRILLS
from tests.faults.load import Load
from tests.faults.stage import ADMIN_KEY, TIMEOUT_SECONDS, Release, Stage, stage
from tests.integration.processes import wait_until

LEAST_HURTS = 3
REST_SECONDS = (0.1, 2.5)
"""Between two hurts: a random time within these."""
SETTLE_SECONDS = 240.0
SETTLE_POLL_SECONDS = 0.1
LEAD_SECONDS = float(TIMEOUT_SECONDS)
"""A request is made again only where its answer was not recorded when the fault began; it may take so long."""
AFTER_SECONDS = 3.0
"""For so long after a fault parts may still find that what they stand on was away."""


@dataclass(frozen=True, slots=True)
class Fault:
    """When a fault began and ended, in CLOCK_MONOTONIC's seconds."""

    began: float
    ended: float


@dataclass(frozen=True)
class Result:
    """What a drill counted."""

    drill: str
    hurts: int
    events: int
    expected: int
    """Deliveries: one for each event that was accepted."""
    received: int
    """Deliveries that arrived, however often."""
    doubled: int
    """Further requests of deliveries that had arrived, with the same webhook-id: a receiver drops them by it."""
    lost: int
    evaluated_twice: int
    """Stream entries that were committed more than once, and events with more than one delivery."""
    worst_delay_seconds: float
    doubles: bool
    lead_seconds: float
    """How long before a fault the first request of a doubled delivery had been made, at most."""
    unexplained: int
    """Doubled deliveries whose first request was made neither shortly before nor during a fault."""
    troubles: tuple[str, ...] = ()
    """What else went wrong, in words."""

    @property
    def passed(self) -> bool:
        """Nothing lost, nothing evaluated twice, and nothing sent twice but where and when it may be."""
        wrong = self.lost or self.evaluated_twice or self.unexplained or self.troubles
        return not (wrong or (self.doubled and not self.doubles))


def run(name: str, events: int, *, rate: float, seed: int, former: Path | None = None) -> Result:
    """One drill on a stage of its own.

    Args:
        rate: events a second.
        seed: of the random moments and choices, so that a run can be repeated.
        former: a checkout of the release to upgrade from, for the drill that upgrades.
    """
    drill, chance = DRILLS[name], random.Random(f"{seed}/{name}")
    release = Release(former) if former and drill.upgrades else None
    with (
        tempfile.TemporaryDirectory(prefix="hookline-drill-") as folder,
        stage(
            Path(folder),
            pumps=drill.pumps,
            on_small_disk=drill.on_small_disk,
            release=release,
            webhooks=drill.webhooks,
            **drill.settings,
        ) as scene,
    ):
        drill.before(scene)
        load = Load(scene.settings.url, ADMIN_KEY, events, rate=rate, projects=drill.webhooks)
        load.start()
        faults: list[Fault] = []
        while load.running or len(faults) < LEAST_HURTS:
            time.sleep(chance.uniform(*REST_SECONDS))
            began = time.monotonic()
            drill.hurts[len(faults) % len(drill.hurts)](scene, chance)
            faults.append(Fault(began, time.monotonic()))
        load.join()
        drill.after(scene)
        engine = open_engine(scene.settings)
        await_end(scene, engine, len(load.accepted))
        result = account(name, scene, engine, load, faults=faults, doubles=drill.doubles)
        engine.dispose()
        return result


def await_end(scene: Stage, engine: Engine, count: int) -> None:
    """Wait until so many deliveries have ended and every entry is evaluated, or for as long as that may take."""
    with suppress(AssertionError):  # the count shows what is missing
        wait_until(
            lambda: _finished(scene, engine, count), "end", seconds=SETTLE_SECONDS, every_seconds=SETTLE_POLL_SECONDS
        )


def _finished(scene: Stage, engine: Engine, count: int) -> bool:
    """Whether every delivery has ended and every entry is evaluated."""
    try:
        with engine.connect() as connection:
            done = connection.execute(text("SELECT count(*) FROM deliveries WHERE status = 'delivered'")).scalar_one()
        return bool(done >= count) and not any(read < added for read, added in _entries(scene, engine))
    except (SQLAlchemyError, RedisError):
        return False


def _entries(scene: Stage, engine: Engine) -> list[tuple[int, int]]:
    """For each partition how many entries were committed as evaluated, and how many were ever appended."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT partition, entries_read FROM partitions")).all()
        read: dict[int, int] = {row.partition: row.entries_read for row in rows}
    with Redis.from_url(scene.settings.stream_url) as redis:
        return [(read.get(p, 0), _appended(redis, p)) for p in range(scene.settings.partitions)]


def _appended(redis: Redis, partition: int) -> int:
    if not redis.exists(stream_key(partition)):
        return 0
    info: Any = redis.xinfo_stream(stream_key(partition))
    return int(info["entries-added"])


def account(name: str, scene: Stage, engine: Engine, load: Load, *, faults: list[Fault], doubles: bool) -> Result:
    """What a drill came to, by the receiver's log, the streams and the database."""
    first: dict[str, float] = {}
    ids: defaultdict[str, set[str]] = defaultdict(set)
    arrivals = scene.receiver.arrivals()
    doubled: set[str] = set()
    for one in arrivals:
        if one.event in first:
            doubled.add(one.event)
        first.setdefault(one.event, one.at)
        ids[one.event].add(one.webhook_id)
    with engine.connect() as connection:
        twice = connection.execute(
            text(
                "SELECT count(*) FROM (SELECT event_id FROM deliveries GROUP BY event_id HAVING count(*) > 1) AS twice"
            )
        ).scalar_one()
    arrived = set(load.accepted) & set(first)
    leads = [_lead(first[event], faults) for event in doubled]
    return Result(
        drill=name,
        hurts=len(faults),
        events=len(load.accepted),
        expected=len(load.accepted),
        received=len(arrived),
        doubled=len(arrivals) - len(first),
        lost=len(load.accepted) - len(arrived),
        evaluated_twice=twice
        + sum(max(0, read - added) for read, added in _entries(scene, engine))
        + sum(len(several) > 1 for several in ids.values()),
        worst_delay_seconds=max((first[event] - load.accepted[event] for event in arrived), default=0.0),
        doubles=doubles,
        lead_seconds=max((lead for lead in leads if lead is not None), default=0.0),
        unexplained=sum(lead is None for lead in leads),
    )


def _lead(at: float, faults: list[Fault]) -> float | None:
    """How long before the nearest fault a request was made, 0 during one; None where no fault explains a second one."""
    leads = [
        max(0.0, fault.began - at)
        for fault in faults
        if fault.began - LEAD_SECONDS <= at <= fault.ended + AFTER_SECONDS
    ]
    return min(leads, default=None)
