"""Attempts that a drain leaves in flight are recorded later; what can't be recorded is sent again after its lease."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import text
from structlog.testing import capture_logs

from shared.settings import Settings
from shared.storage.database.transactions import write_transaction
from tests.integration.processes import wait_until
from tests.integration.receiver import Answer, Received, Receiver
from tests.integration.scene import Scene, alias_event, opened_scene


@pytest.fixture
def scene(settings: Settings, redis: Redis, receiver: Receiver) -> Iterator[Scene]:
    """A scene whose worker bears with its database for a second, and not for half a minute."""
    second = timedelta(seconds=1)
    brief = settings.model_copy(update={"lease_margin": second, "shutdown_grace": second})
    with opened_scene(brief, redis, receiver) as scene:
        yield scene


@pytest.fixture
def let_go(scene: Scene) -> Iterator[threading.Event]:
    """The receiver answers nobody until this is set."""
    event = threading.Event()

    def hold(_request: Received) -> Answer:
        event.wait(30)
        return Answer()

    scene.receiver.answer = hold
    yield event
    event.set()


def _leave(scene: Scene, count: int) -> str:
    """Have a drain leave deliveries in flight; when their leases end, as it is told."""
    hook = scene.webhook()
    scene.automation(hook)
    scene.publish(*(alias_event() for _ in range(count)))
    scene.evaluate()
    scene.process.webhooks.drain(hook)
    ends: set[datetime] = {row.next_attempt_at.astimezone(UTC) for row in scene.pending()}
    return max(ends).isoformat(timespec="seconds")


def _only(logs: list[Any], event: str) -> dict[str, Any]:
    [line] = [line for line in logs if line["event"] == event]
    return {name: value for name, value in line.items() if name not in ("event", "log_level", "error")}


def test_what_is_in_flight_when_a_worker_ends(scene: Scene, let_go: threading.Event) -> None:
    leases_end = _leave(scene, 3)
    with capture_logs() as logs:
        scene.process.background.close(grace_seconds=0)
    assert not let_go.is_set()
    assert _only(logs, "deliveries.left_in_flight") == {
        "deliveries": 3,
        "webhooks": 1,
        "leases_end": leases_end,
        "then": "sent again with the same webhook-id",
    }


def test_what_can_not_be_recorded(scene: Scene, let_go: threading.Event) -> None:
    leases_end = _leave(scene, 1)
    with write_transaction(scene.process.engine) as connection:
        connection.execute(text("ALTER TABLE attempts RENAME TO away"))
    with capture_logs() as logs:
        let_go.set()
        wait_until(lambda: any(line["event"] == "deliveries.not_recorded" for line in logs), "line")
        scene.settle()
    with write_transaction(scene.process.engine) as connection:
        connection.execute(text("ALTER TABLE away RENAME TO attempts"))
    assert _only(logs, "deliveries.not_recorded") == {
        "webhook_id": "wh_1",
        "deliveries": 1,
        "leases_end": leases_end,
        "then": "sent again with the same webhook-id",
    }
    [waits] = scene.pending()
    assert waits.next_attempt_at.astimezone(UTC).isoformat(timespec="seconds") == leases_end
