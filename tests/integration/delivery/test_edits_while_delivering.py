"""What is changed of a webhook through the API while real workers deliver to it, and the slow lane's own workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import select

from shared.messaging.celery_app import DELIVER_QUEUE, EVALUATE_QUEUE, SLOW_QUEUE
from shared.storage.database.transactions import read_transaction
from shared.storage.maintenance import first_start
from shared.storage.schema.tables import webhooks
from tests.integration.api.conftest import ACME, Api
from tests.integration.api.conftest import running as running_api
from tests.integration.processes import dispatcher_command, running, wait_until, worker_command
from tests.integration.receiver import Answer, Received
from tests.integration.scene import Scene, alias_event

FLAGS = ["--without-mingle", "--without-gossip", "--concurrency", "4"]
EVENTS = 1500
ANSWER_SECONDS = 0.05
MANY = 12
"""Requests at a time before there are fewer: few enough for a backlog that lasts."""
RATE = 20
"""Requests a second."""


@dataclass
class Watch:
    """When requests came, and how many were underway at most."""

    arrivals: list[float] = field(default_factory=list)
    underway: list[int] = field(default_factory=list)
    """With each request, how many there were then."""
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, _request: Received) -> Answer:
        with self._lock:
            self._now += 1
            self.arrivals.append(time.monotonic())
            self.underway.append(self._now)
        time.sleep(ANSWER_SECONDS)
        with self._lock:
            self._now -= 1
        return Answer()

    def within(self, count: int, limit: int) -> bool:
        """Whether the last `count` requests found no more than `limit` underway, themselves included."""
        return len(self.underway) >= count and max(self.underway[-count:]) <= limit

    def paced(self, count: int, *, share: float = 0.9) -> bool:
        """Whether the last `count` requests took this share of the time that `RATE` gives them: machines are busy."""
        last = self.arrivals[-count:]
        return len(last) == count and last[-1] - last[0] >= (count - 1) / RATE * share


@dataclass
class Stage:
    """A scene with an API in process and workers beside it."""

    scene: Scene
    api: Api
    folder: Path
    stack: ExitStack

    def worker(self, name: str, *queues: str) -> None:
        """Start a worker, of these queues only where some are named."""
        command = [*worker_command(name), *FLAGS, *(["-Q", ",".join(queues)] if queues else [])]
        self.stack.enter_context(running(command, self.scene.settings, self.folder / f"{name}.log"))

    def change(self, hook: int, **members: Any) -> None:
        """PATCH a webhook."""
        self.api.ok("PATCH", f"{ACME}/webhooks/wh_{hook}", members)


@pytest.fixture
def stage(scene: Scene, tmp_path: Path) -> Iterator[Stage]:
    """A pump and an API on the scene; workers are started by the test."""
    first_start.prepare(scene.settings)
    with ExitStack() as stack:
        client = stack.enter_context(running_api(scene.settings))
        stack.enter_context(running(dispatcher_command(), scene.settings, tmp_path / "pump.log"))
        yield Stage(scene, Api(client), tmp_path, stack)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_limits_and_pauses_hold_soon_after_they_were_set(stage: Stage) -> None:
    scene, watch = stage.scene, Watch()
    scene.receiver.answer = watch.answer
    hook = scene.webhook(policy={"concurrency": MANY})
    scene.automation(hook)
    for name in ("one", "two"):
        stage.worker(name)
    scene.publish(*(alias_event(collection=f"c{number % 40}") for number in range(EVENTS)))
    wait_until(lambda: len(watch.underway) > 50 and max(watch.underway) > MANY // 2, "many requests at a time")

    stage.change(hook, policy={"concurrency": 2})
    wait_until(lambda: watch.within(20, 2), "two requests at a time")
    count = len(watch.underway)
    wait_until(lambda: len(watch.underway) >= count + 60, "more requests")
    assert watch.within(len(watch.underway) - count, 2)

    stage.change(hook, policy={"concurrency": None, "rate_limit": f"{RATE}/s"})
    wait_until(lambda: watch.paced(30), f"{RATE} requests a second")
    count = len(watch.arrivals)
    wait_until(lambda: len(watch.arrivals) >= count + 40, "more requests")
    # Were the limit each worker's own, they would take half of the time.
    assert watch.paced(len(watch.arrivals) - count, share=0.6)

    stage.change(hook, paused=True)
    wait_until(lambda: all(row.claim is None for row in scene.pending()), "end of what is in flight")
    count = len(watch.arrivals)
    assert len(scene.pending()) == EVENTS - count > 0

    # What is waiting for a pause to end has waited for nothing else: no attempt of it is used up.
    assert {row.attempts for row in scene.pending()} == {0}
    assert len(watch.arrivals) == count
    stage.change(hook, paused=False, policy={"rate_limit": None})
    wait_until(lambda: not scene.pending(), "end of the backlog")
    assert {row.status for row in scene.rows()} == {"delivered"}
    assert len({request.headers["webhook-id"] for request in scene.receiver.requests}) == EVENTS
    assert len(scene.receiver.requests) == EVENTS


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_what_answers_slowly_is_delivered_by_workers_of_its_own_and_comes_back(stage: Stage) -> None:
    scene, slowly = stage.scene, threading.Event()
    slowly.set()

    def answer(request: Received) -> Answer:
        if slowly.is_set() and request.path.startswith("/slow"):
            time.sleep(1.2)
        return Answer()

    scene.receiver.answer = answer
    slow = [scene.webhook(f"slow-{number}") for number in range(3)]
    quick = scene.webhook("quick")
    for hook in (*slow, quick):
        scene.automation(hook)
    stage.worker("quick", EVALUATE_QUEUE, DELIVER_QUEUE)

    scene.publish(alias_event())
    wait_until(lambda: _slow(scene) == set(slow), "slow lane")
    scene.publish(*(alias_event() for _ in range(5)))
    wait_until(lambda: _delivered(scene, quick) == 6, "the quick one's deliveries")
    broker = Redis.from_url(scene.settings.celery_broker_url)
    wait_until(lambda: broker.llen(SLOW_QUEUE) > 0, "the slow ones' wakes")
    # Nobody works their lane yet: nothing but what showed that they are slow was delivered to them.
    assert [_delivered(scene, hook) for hook in slow] == [1, 1, 1]

    slowly.clear()
    stage.worker("slow", SLOW_QUEUE)
    wait_until(lambda: not scene.pending(), "the slow ones' deliveries")
    assert _slow(scene) == set()
    scene.publish(alias_event())
    wait_until(lambda: [_delivered(scene, hook) for hook in (*slow, quick)] == [7] * 4, "all of the next event's")
    broker.close()


def _slow(scene: Scene) -> set[int]:
    with read_transaction(scene.process.engine) as connection:
        return set(connection.scalars(select(webhooks.c.id).where(webhooks.c.slow)))


def _delivered(scene: Scene, hook: int) -> int:
    return sum(row.webhook_id == hook and row.status == "delivered" for row in scene.rows())
