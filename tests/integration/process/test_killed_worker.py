"""kill -9 of workers in the middle of a load: every delivery arrives, and none is made twice."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import func, select

from shared.storage.database.transactions import read_transaction
from shared.storage.schema.tables import deliveries
from tests.integration.processes import dispatcher_command, running, start, stop, wait_until, worker_command
from tests.integration.scene import Scene, alias_event, metric_event

EVENTS = 1500
RUNS = 50


def _finished(scene: Scene) -> int:
    ended = select(func.count()).select_from(deliveries).where(deliveries.c.status != "pending")
    with read_transaction(scene.process.engine) as connection:
        return connection.execute(ended).scalar_one()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_killed_workers_lose_nothing_and_fire_nothing_twice(scene: Scene, tmp_path: Path) -> None:
    settings = scene.settings.model_copy(update={"lease_margin": scene.settings.sweep_interval})
    hook = scene.webhook(policy={"timeout_seconds": 2.0, "schedule_seconds": (1.0, 1.0, 1.0)})
    scene.automation(hook, filter={"alias": "prod"}, payload={"event": "$event_id"})
    conditions = [{"metric": "loss", "aggregate": "AVERAGE", "window": 3, "op": "$gt", "threshold": 1}]
    scene.automation(hook, event="RUN_METRIC", conditions=conditions, payload={"event": "$event_id"})
    aliases = [alias_event(collection=f"c{n % 40}", event_id=f"alias-{n}") for n in range(EVENTS - RUNS * 6)]
    metrics = [
        metric_event(step, run=f"r{run}", event_id=f"m-{run}-{step}", loss=2)
        for step in range(6)
        for run in range(RUNS)
    ]
    expected = {event["id"] for event in aliases} | {f"m-{run}-2" for run in range(RUNS)}

    with ExitStack() as stack:
        stack.enter_context(running(dispatcher_command(), settings, tmp_path / "pump.log"))
        workers = [start(worker_command(f"w{n}"), settings, tmp_path / "worker.log") for n in range(2)]

        @stack.callback
        def _stop_all() -> None:
            for worker in workers:
                stop(worker)

        scene.publish(*aliases[:600], *metrics)
        for victim, arrived in ((0, 100), (1, 400), (0, 800)):
            wait_until(lambda: len(scene.receiver.requests) >= arrived, f"{arrived} requests")  # noqa: B023
            workers[victim].kill()
            workers[victim].wait()
            workers[victim] = start(worker_command(f"again{arrived}"), settings, tmp_path / "worker.log")
            scene.publish(*aliases[600:] if arrived == 400 else ())
        wait_until(lambda: _finished(scene) == len(expected), "all deliveries finished", seconds=120)

    assert Counter(row.event_id for row in scene.rows()) == Counter(expected)
    assert {row.status for row in scene.rows()} == {"delivered"}
    sent = Counter((request.json["event"], request.headers["webhook-id"]) for request in scene.receiver.requests)
    assert {event_id for event_id, _ in sent} == expected
    assert len(sent) == len(expected), "an event was delivered under two ids"
