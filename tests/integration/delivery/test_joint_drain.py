"""Drains of many webhooks: what is due for all of them is claimed, sent and recorded together; none suffers by it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import event, select, update

from shared.domain.delivery.retries import DeliveryPolicy
from shared.messaging.celery_app import DELIVER_QUEUE, SLOW_QUEUE, WEBHOOK_TASK
from shared.messaging.wakeups import token_key
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.revisions import next_revision
from shared.storage.schema.tables import pending_deliveries, webhooks
from tests.integration.processes import wait_until
from tests.integration.receiver import Answer, Received
from tests.integration.scene import Scene, alias_event, beside, webhook_with
from worker.delivery.claim_budget import INITIAL_CLAIM_SIZE
from worker.delivery.claims import MAX_SEND_DELAY_SECONDS

COUNT = 40


def crowd(scene: Scene, count: int = COUNT, **fields: Any) -> list[int]:
    """So many webhooks, each with an automation in a project of its own."""
    hooks = [scene.webhook(f"hook-{number}", **fields) for number in range(count)]
    for number, hook in enumerate(hooks):
        scene.automation(hook, scope={"project": f"p{number}"})
    return hooks


def fire(scene: Scene, hooks: list[int], each: int = 1) -> None:
    """Store so many deliveries to each of the webhooks, which are due; no worker is told."""
    for number in range(len(hooks)):
        for _ in range(each):
            scene.publish(alias_event(project=f"p{number}"))
    scene.evaluate()
    Redis.from_url(scene.settings.celery_broker_url).flushdb()
    scene.redis.delete(*scene.redis.scan_iter("hookline:wake:*"))


def messages(scene: Scene, queue: str = DELIVER_QUEUE) -> int:
    """Messages that wait for workers."""
    return int(Redis.from_url(scene.settings.celery_broker_url).llen(queue))


def paths(scene: Scene) -> list[str]:
    return sorted(request.path for request in scene.receiver.requests)


@contextmanager
def statements(scene: Scene) -> Iterator[list[str]]:
    """The statements that the process's database is given meanwhile."""
    given: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        given.append(statement)

    event.listen(scene.process.engine, "before_cursor_execute", note)
    try:
        yield given
    finally:
        event.remove(scene.process.engine, "before_cursor_execute", note)


def test_each_webhook_gets_what_is_its_own(scene: Scene) -> None:
    hooks = crowd(scene)
    fire(scene, hooks, each=3)
    assert scene.process.joint.drain(hooks) == COUNT * 3
    scene.settle()
    assert paths(scene) == sorted(f"/hook-{number}" for number in range(COUNT) for _ in range(3))
    assert {row.status for row in scene.rows()} == {"delivered"}
    assert [one.number for one in scene.attempts()] == [1] * COUNT * 3
    assert scene.pending() == []


def test_statements_do_not_grow_with_the_webhooks(scene: Scene) -> None:
    if scene.process.engine.dialect.name == "sqlite":
        pytest.skip("SQLite claims with a statement for each webhook, in one transaction")
    counts = []
    hooks = crowd(scene)
    for size in (COUNT, COUNT // 4):
        fire(scene, hooks)
        with statements(scene) as given:
            scene.process.joint.drain(hooks[:size])
            scene.settle()
        counts.append(len(given))
    assert counts[0] <= 12  # the endpoints are opened with it
    assert counts[1] <= 8


def test_one_that_hangs_holds_nobody_else_up(scene: Scene) -> None:
    let_go = threading.Event()

    def answer(request: Received) -> Answer:
        if request.path == "/hook-0":
            let_go.wait(timeout=30)
        return Answer()

    scene.receiver.answer = answer
    hooks = crowd(scene)
    fire(scene, hooks)
    try:
        scene.process.joint.drain(hooks)
        wait_until(lambda: len(scene.pending()) == 1, "records of all others")
    finally:
        let_go.set()
    scene.settle()
    assert scene.pending() == []


def test_one_that_fails_is_tried_again_and_costs_nobody_else(scene: Scene) -> None:
    hooks = crowd(scene, policy={"schedule_seconds": (60.0,), "circuit_failures": 2})
    scene.receiver.answer = lambda request: Answer(status=503 if request.path == "/hook-0" else 200)
    fire(scene, hooks, each=2)
    scene.process.joint.drain(hooks)
    scene.settle()
    with read_transaction(scene.process.engine) as connection:
        opened = select(webhooks.c.id).where(webhooks.c.circuit_opened_at.is_not(None))
        assert list(connection.scalars(opened)) == [hooks[0]]
    assert [(one.webhook_id, one.attempts, one.claim) for one in scene.pending()] == [(hooks[0], 1, None)] * 2


def test_failures_of_before_are_forgotten(scene: Scene) -> None:
    hooks = crowd(scene)
    webhook_with(failures=3, failing_since=datetime.now(UTC))(scene, hooks[5])
    fire(scene, hooks)
    scene.process.joint.drain(hooks)
    scene.settle()
    assert scene.pending() == []
    with read_transaction(scene.process.engine) as connection:
        row = connection.execute(select(webhooks).where(webhooks.c.id == hooks[5])).one()
    assert (row.failures, row.failing_since) == (0, None)


NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(webhook_with(paused=True), id="paused"),
        pytest.param(webhook_with(enabled=False), id="disabled"),
        pytest.param(webhook_with(deleted_at=NOW), id="deleted"),
        pytest.param(webhook_with(circuit_opened_at=NOW, circuit_probe_at=NOW + timedelta(days=1)), id="circuit open"),
    ],
)
def test_what_takes_nothing_gets_nothing(scene: Scene, change: Callable[[Scene, int], None]) -> None:
    hooks = crowd(scene)
    fire(scene, hooks)
    change(scene, hooks[0])
    assert scene.process.joint.drain(hooks) == COUNT - 1
    scene.settle()
    assert "/hook-0" not in paths(scene)
    assert [(one.webhook_id, one.claim) for one in scene.pending()] == [(hooks[0], None)]
    assert messages(scene) == messages(scene, SLOW_QUEUE) == 0


def _limit(**policy: Any) -> Callable[[Scene, int], None]:
    def change(scene: Scene, hook: int) -> None:
        values = DeliveryPolicy(**policy).model_dump(mode="json")
        with write_transaction(scene.process.engine) as connection:
            revision = next_revision(connection)
            connection.execute(update(webhooks).where(webhooks.c.id == hook).values(policy=values, revision=revision))

    return change


@pytest.mark.parametrize(
    ("change", "queue"),
    [
        pytest.param(_limit(rate_limit="5/s"), DELIVER_QUEUE, id="a rate limit"),
        pytest.param(_limit(concurrency=2), DELIVER_QUEUE, id="a limit on concurrency"),
        pytest.param(webhook_with(circuit_opened_at=NOW, circuit_probe_at=NOW), DELIVER_QUEUE, id="half open"),
        pytest.param(webhook_with(slow=True), SLOW_QUEUE, id="slow"),
    ],
)
def test_what_has_to_be_admitted_gets_a_drain_of_its_own(
    scene: Scene, change: Callable[[Scene, int], None], queue: str
) -> None:
    hooks = crowd(scene)
    fire(scene, hooks)
    change(scene, hooks[0])
    scene.process.joint.drain(hooks)
    scene.settle()
    assert "/hook-0" not in paths(scene)
    assert [(one.webhook_id, one.claim) for one in scene.pending()] == [(hooks[0], None)]
    assert (messages(scene), messages(scene, SLOW_QUEUE)) == ((1, 0) if queue == DELIVER_QUEUE else (0, 1))
    scene.deliver()
    assert scene.pending() == []


def test_more_than_is_claimed_at_a_time_is_found_when_that_is_recorded(scene: Scene) -> None:
    hooks = crowd(scene, count=6)
    fire(scene, hooks, each=INITIAL_CLAIM_SIZE + 1)
    scene.process.joint.drain(hooks)
    scene.settle()
    assert sorted(one.webhook_id for one in scene.pending()) == hooks
    wait_until(
        lambda: scene.redis.exists(*(token_key(scene.redis, WEBHOOK_TASK, hook) for hook in hooks)) == len(hooks),
        "wakes",
    )
    scene.process.joint.drain(hooks)
    scene.settle()
    assert scene.pending() == []


def test_a_few_with_much_due_get_drains_of_their_own(scene: Scene) -> None:
    hooks = crowd(scene)
    fire(scene, hooks)
    for _ in range(INITIAL_CLAIM_SIZE):
        scene.publish(alias_event(project="p3"))
    scene.evaluate()
    Redis.from_url(scene.settings.celery_broker_url).flushdb()
    scene.redis.delete(*scene.redis.scan_iter("hookline:wake:*"))
    scene.process.joint.drain(hooks)
    assert messages(scene) == 1
    scene.settle()
    scene.deliver()
    assert scene.pending() == []


def test_who_finds_no_slot_is_woken_when_there_are_some(scene: Scene) -> None:
    with beside(scene, max_connections=10) as narrow:
        let_go = threading.Event()

        def hold(_request: Received) -> Answer:
            let_go.wait(timeout=30)
            return Answer()

        narrow.receiver.answer = hold
        hooks = crowd(narrow)
        fire(narrow, hooks)
        try:
            assert narrow.process.joint.drain(hooks) == 10
            assert messages(narrow) == 0
        finally:
            let_go.set()
        wait_until(lambda: messages(narrow) > 0, "messages")
        narrow.deliver()
        assert {row.status for row in narrow.rows()} == {"delivered"}


def test_each_is_claimed_for_as_long_as_its_own_time_out_says(scene: Scene) -> None:
    let_go = threading.Event()

    def hold(_request: Received) -> Answer:
        let_go.wait(timeout=30)
        return Answer()

    scene.receiver.answer = hold
    hooks = crowd(scene, count=6)
    _limit(timeout_seconds=25)(scene, hooks[0])
    fire(scene, hooks)
    try:
        before = datetime.now(UTC)
        scene.process.joint.drain(hooks)
        with read_transaction(scene.process.engine) as connection:
            rows = connection.execute(select(pending_deliveries).order_by(pending_deliveries.c.webhook_id)).all()
        margin = timedelta(seconds=MAX_SEND_DELAY_SECONDS) + scene.settings.lease_margin
        leases = [(row.next_attempt_at - before - margin).total_seconds() for row in rows]
        usual = DeliveryPolicy().timeout_seconds
        assert [round(lease / 5) * 5 for lease in leases] == [25] + [usual] * 5
        assert {row.claim for row in rows} != {None}
    finally:
        let_go.set()
    scene.settle()


def test_news_during_a_drain_wakes_another(scene: Scene) -> None:
    hooks = crowd(scene)
    for hook in hooks:
        scene.redis.set(token_key(scene.redis, WEBHOOK_TASK, hook), b"1", ex=60)
    scene.process.joint.drain(hooks)
    assert scene.redis.exists(*(token_key(scene.redis, WEBHOOK_TASK, hook) for hook in hooks)) == 0
