"""Fresh events beside a backlog: published one by one to other partitions, and how long each took to arrive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
from sqlalchemy import Engine, text

from shared.domain.events.decoding import check_event
from shared.domain.events.partitioning import partition_of
from tests.authority import TRUSTS_NOBODY
from tests.faults.load import accepted, drill_event
from tests.faults.stage import ADMIN_KEY, Stage
from tests.integration.processes import wait_until

EVERY_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Wait:
    """How long one event took, in seconds: from the publisher's call to its evaluation, and to its arrival."""

    event: str
    evaluated_seconds: float
    arrived_seconds: float


@dataclass(frozen=True, slots=True)
class _Published:
    at: float
    """CLOCK_MONOTONIC, by which the receiver notes arrivals."""
    wall: float
    """Wall clock, by which the database notes deliveries."""


@dataclass
class Fresh:
    """Publishes events outside of one partition until it is stopped."""

    scene: Stage
    avoided: int
    name: str
    stopped: threading.Event = field(default_factory=threading.Event)
    published: dict[str, _Published] = field(default_factory=dict)

    def run(self) -> None:
        """Publish."""
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        number = 0
        with httpx.Client(
            base_url=self.scene.settings.url, headers=headers, timeout=15, trust_env=False, verify=TRUSTS_NOBODY
        ) as api:
            while not self.stopped.wait(EVERY_SECONDS):
                number += 1
                event = drill_event(number) | {"id": f"{self.name}-{number}"}
                if partition_of(check_event(event), self.scene.settings.partitions) == self.avoided:
                    continue
                began = _Published(time.monotonic(), time.time())
                if accepted(api, [event]):
                    self.published[event["id"]] = began

    def waits(self, engine: Engine) -> list[Wait]:
        """What each event took, the quickest arrival first."""
        wait_until(lambda: self.published.keys() <= self._arrived().keys(), "fresh events", every_seconds=0.5)
        arrived, evaluated = self._arrived(), self._evaluated(engine)
        waits = (
            Wait(event, evaluated[event] - began.wall, arrived[event] - began.at)
            for event, began in self.published.items()
        )
        return sorted(waits, key=lambda wait: wait.arrived_seconds)

    def _arrived(self) -> dict[str, float]:
        return {one.event: one.at for one in reversed(self.scene.receiver.arrivals())}

    def _evaluated(self, engine: Engine) -> dict[str, float]:
        query = text("SELECT event_id, extract(epoch FROM created_at) FROM deliveries WHERE event_id LIKE :name")
        with engine.connect() as connection:
            return {event: float(at) for event, at in connection.execute(query, {"name": f"{self.name}-%"})}


def meanwhile(scene: Stage, engine: Engine, avoided: int, name: str, until: Callable[[], None]) -> list[Wait]:
    """What fresh events outside of partition `avoided` take while `until` runs."""
    fresh = Fresh(scene, avoided, name)
    thread = threading.Thread(target=fresh.run, name="fresh", daemon=True)
    thread.start()
    try:
        until()
    finally:
        fresh.stopped.set()
        thread.join()
    return fresh.waits(engine)


def percentile(waits: list[Wait], share: float) -> float:
    """The arrival within which this share of the events came, in seconds. Raises ValueError where there were none."""
    if not waits:
        raise ValueError("no fresh event was published meanwhile")
    return waits[min(len(waits) - 1, int(len(waits) * share))].arrived_seconds
