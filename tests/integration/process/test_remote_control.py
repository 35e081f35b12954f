"""Remote control through the real `celery` command, of two real workers: it holds at once, on both, and afterwards."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from shared.health.presence import read_processes
from shared.messaging.celery_app import celery_app
from shared.settings import Settings
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.delivery.webhook_health import disable_webhook
from shared.storage.schema.tables import audit_log, webhooks
from tests.integration.processes import ROOT, dispatcher_command, environment, running, wait_until, worker_command
from tests.integration.receiver import Answer, Received
from tests.integration.scene import Scene, alias_event, beside
from worker.delivery.in_flight import PREFETCH_FACTOR

CELERY = [sys.executable, "-m", "celery", "-A", "worker"]
# As `hookline up` starts its workers.
FLAGS = ["--without-mingle", "--without-gossip", "--concurrency", "4"]
EVENTS = 200


BOTH = [f"{name}@{socket.gethostname()}" for name in ("one", "two")]


def celery(settings: Settings, *arguments: str) -> Any:
    """What a command answers with --json, by worker. Told whom to wait for, it waits no longer."""
    done = subprocess.run(
        [*CELERY, *arguments, "--json", "--timeout", "20", "--destination", ",".join(BOTH)],
        cwd=ROOT,
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answers = json.loads(done.stdout)
    if isinstance(answers, list):
        answers = {name: answer for one in answers for name, answer in one.items()}
    return _by_worker(answers)


def told(settings: Settings, command: str, **arguments: str) -> Any:
    """What `celery control` would be answered, without a process for it."""
    app = celery_app(settings)
    answers = app.control.broadcast(
        command, arguments=arguments, destination=BOTH, reply=True, timeout=20, limit=len(BOTH)
    )
    app.close()
    return _by_worker({name: answer for one in answers or () for name, answer in one.items()})


def _by_worker(answers: dict[str, Any]) -> dict[str, Any]:
    return {name.partition("@")[0]: answer for name, answer in answers.items()}


@pytest.fixture
def workers(scene: Scene, tmp_path: Path) -> Iterator[Scene]:
    """Two workers and a pump on the scene, of one pool on each database; two requests at a time from each process."""
    pool = {"sqlite": "threads", "postgresql": "prefork"}[scene.process.engine.dialect.name]
    settings = scene.settings.model_copy(update={"max_in_flight": 2, "claim_batch": 2})
    settings.model_fields_set.update({"max_in_flight", "claim_batch"})
    with ExitStack() as stack:
        for name in ("one", "two"):
            command = [*worker_command(name), "--pool", pool, *FLAGS]
            stack.enter_context(running(command, settings, tmp_path / f"{name}.log"))
        stack.enter_context(running(dispatcher_command(), settings, tmp_path / "pump.log"))
        yield scene


def _claimed(scene: Scene) -> int:
    return sum(row.claim is not None for row in scene.pending())


@pytest.mark.slow
def test_pausing_and_resuming_hold_on_all_workers(workers: Scene) -> None:
    scene, settings = workers, workers.settings
    gate = threading.Event()

    def hold(_request: Received) -> Answer:
        gate.wait(60)
        return Answer()

    scene.receiver.answer = hold
    hook = scene.webhook()
    scene.automation(hook)
    scene.publish(*(alias_event(collection=f"c{number}") for number in range(EVENTS)))
    wait_until(lambda: len(scene.receiver.requests) >= 4, "requests of both workers")

    seen = celery(settings, "inspect", "webhooks")
    paused = celery(settings, "control", "pause_webhook", f"wh_{hook}")
    unknown = told(settings, "pause_webhook", webhook="wh_999")
    nameless = told(settings, "pause_webhook")
    held = len(scene.receiver.requests)
    gate.set()
    wait_until(lambda: _claimed(scene) == 0, "end of what is in flight")

    assert set(seen) == set(paused) == {"one", "two"}
    shown = [one for answer in seen.values() for one in answer]
    assert shown
    assert {(one["id"], one["entity"], one["name"]) for one in shown} == {(f"wh_{hook}", "acme", "hook")}
    assert all(1 <= one["in_flight"] <= 2 and one["lane"] in ("normal", "slow") and one["pid"] for one in shown)
    said = sorted(answer["ok"].partition(") ")[2] for answer in paused.values())
    assert said == ["is now paused", "was already paused"]
    # What was in flight ends, and nothing else is begun.
    assert len(scene.receiver.requests) == held < EVENTS
    assert len(scene.pending()) == EVENTS - held
    assert all("no webhook of any entity has the id or name 'wh_999'" in one["error"] for one in unknown.values())
    assert all(one["error"].startswith("webhook: is required") for one in nameless.values())
    assert set(unknown) == set(nameless) == {"one", "two"}

    resumed = told(settings, "resume_webhook", webhook=f"wh_{hook}")
    wait_until(lambda: len({request.headers["webhook-id"] for request in scene.receiver.requests}) == EVENTS, "rest")

    said = sorted(answer["ok"].partition(") ")[2] for answer in resumed.values())
    assert said == ["is now active", "was already active"]
    with read_transaction(scene.process.engine) as connection:
        changes = connection.execute(select(audit_log).order_by(audit_log.c.id)).all()
    assert [(one.user_name, one.action, one.target, one.detail["changed"]) for one in changes] == [
        ("operator (remote control)", "webhook.update", f"wh_{hook}", ["paused"])
    ] * 2


@pytest.mark.slow
def test_a_cancelled_consumer_counts_as_not_consuming(workers: Scene) -> None:
    scene, app = workers, celery_app(workers.settings)

    def consumed() -> dict[str, set[str]]:
        alive = read_processes(scene.redis)
        return {one.name.partition("@")[0]: set(one.queues) for one in alive if one.role == "worker"}

    everything = {"evaluate", "deliver", "deliver_slow"}
    wait_until(lambda: consumed() == {"one": everything, "two": everything}, "signs of life of both")
    wait_until(lambda: any(one.swept_seconds_ago is not None for one in read_processes(scene.redis)), "a sweep")
    app.control.cancel_consumer("deliver", destination=BOTH)
    wait_until(lambda: consumed() == dict.fromkeys(("one", "two"), everything - {"deliver"}), "end of consumption")
    app.control.add_consumer("deliver", destination=BOTH[:1])
    wait_until(lambda: "deliver" in consumed()["one"], "consumption again")
    app.control.shutdown(destination=BOTH[:1])
    wait_until(lambda: set(consumed()) == {"two"}, "farewell of one")
    app.close()


@pytest.mark.parametrize("switch", ["pause", "disable"])
def test_a_drain_at_work_claims_nothing_more_once_its_webhook_is_paused(scene: Scene, switch: str) -> None:
    hook = scene.webhook()
    scene.automation(hook)
    scene.publish(*(alias_event(collection=f"c{number}") for number in range(EVENTS)))
    scene.evaluate()
    once = threading.Lock()
    sent_by_then: list[int] = []

    def pause(_request: Received) -> Answer:
        if len(scene.receiver.requests) >= 10 and once.acquire(blocking=False):
            with write_transaction(scene.process.engine) as connection:
                if switch == "disable":
                    disable_webhook(connection, hook, reason="a test", now=datetime.now(UTC))
                else:
                    connection.execute(update(webhooks).values(paused=True))
            sent_by_then.append(len(scene.receiver.requests))
        return Answer()

    scene.receiver.answer = pause
    with beside(scene, max_in_flight=2, claim_batch=2) as narrow:
        narrow.process.webhooks.drain(hook)
        narrow.settle()

    # The commit may take a while, in which others are sent; from then on it is what had been claimed.
    assert sent_by_then
    assert len(scene.receiver.requests) <= sent_by_then[0] + 2 * PREFETCH_FACTOR < EVENTS
    assert len(scene.pending()) == EVENTS - len(scene.receiver.requests)
