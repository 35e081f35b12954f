"""The fast path: which deliveries are sent right after the commit that makes them, and which wait for a drain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
from celery import Celery
from redis import Redis
from sqlalchemy import select, update

from shared.messaging.celery_app import DELIVER_QUEUE, EVALUATE_QUEUE, SLOW_QUEUE, celery_app
from shared.settings import Settings
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.revisions import next_revision
from shared.storage.schema.tables import pending_deliveries, webhooks
from tests.integration.processes import wait_until
from tests.integration.receiver import Answer, Received
from tests.integration.scene import Scene, alias_event, beside, webhook_with
from worker.bootstrap import build_process
from worker.delivery import claims
from worker.delivery.claims import MAX_SEND_DELAY_SECONDS
from worker.evaluation import commit
from worker.evaluation.catalog_discovery import CatalogDiscovery


@pytest.fixture(autouse=True)
def _takes_part(scene: Scene) -> None:
    """The process takes part in delivering, in both lanes."""
    scene.consumed |= {DELIVER_QUEUE, SLOW_QUEUE}


def known_webhook(scene: Scene, **fields: Any) -> int:
    """A webhook that was sent to once, with an automation that fires for every alias."""
    hook = scene.webhook(**fields)
    scene.automation(hook)
    scene.publish(alias_event())
    scene.evaluate()
    scene.deliver()
    scene.receiver.requests.clear()
    return hook


def fire(scene: Scene, count: int = 1) -> None:
    """Publish and evaluate so many events, in one batch."""
    scene.publish(*(alias_event(collection="llm") for _ in range(count)))
    scene.evaluate()
    scene.settle()


def fire_without_settling(scene: Scene) -> None:
    """Publish and evaluate one event."""
    scene.publish(alias_event(collection="llm"))
    scene.evaluate()


@contextmanager
def held(scene: Scene) -> Iterator[threading.Event]:
    """A receiver that answers once it is let go."""
    let_go = threading.Event()

    def hold(_request: Received) -> Answer:
        let_go.wait(timeout=30)
        return Answer()

    scene.receiver.answer = hold
    try:
        yield let_go
    finally:
        let_go.set()


def wakes(scene: Scene, queue: str = DELIVER_QUEUE) -> int:
    """Messages that wait for workers."""
    return int(Redis.from_url(scene.settings.celery_broker_url).llen(queue))


def test_a_delivery_to_a_known_webhook_goes_out_without_a_drain(scene: Scene) -> None:
    known_webhook(scene)
    woken = wakes(scene)
    fire(scene, count=20)
    assert len({request.headers["webhook-id"] for request in scene.receiver.requests}) == 20
    assert [row.status for row in scene.rows()] == ["delivered"] * 21
    assert [one.number for one in scene.attempts()] == [1] * 21
    assert scene.pending() == []
    assert wakes(scene) == woken


def test_the_first_ever_waits_for_a_drain(scene: Scene) -> None:
    scene.automation(scene.webhook())
    fire(scene)
    assert scene.receiver.requests == []
    assert wakes(scene) == 1
    scene.deliver()
    assert [row.status for row in scene.rows()] == ["delivered"]


def _edit(scene: Scene, hook: int) -> None:
    with write_transaction(scene.process.engine) as connection:
        connection.execute(update(webhooks).where(webhooks.c.id == hook).values(revision=next_revision(connection)))


def _edit_something_else(scene: Scene, _hook: int) -> None:
    with write_transaction(scene.process.engine) as connection:
        next_revision(connection)


def _take_all_places(scene: Scene, hook: int) -> None:
    assert scene.process.limiter.acquire(hook, scene.settings.max_in_flight, slow=False, prefetch=True)


def _keep_out_of_delivering(scene: Scene, _hook: int) -> None:
    scene.consumed.clear()


def _keep_out_of_the_slow_lane(scene: Scene, hook: int) -> None:
    scene.consumed.remove(SLOW_QUEUE)
    webhook_with(slow=True)(scene, hook)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(webhook_with(paused=True), id="paused"),
        pytest.param(
            webhook_with(circuit_opened_at=datetime.now(UTC), circuit_probe_at=datetime.now(UTC)), id="half open"
        ),
        pytest.param(_edit, id="an edit of it"),
        pytest.param(_take_all_places, id="no room"),
        pytest.param(_keep_out_of_delivering, id="a worker that only evaluates"),
        pytest.param(_keep_out_of_the_slow_lane, id="a worker that leaves slow webhooks to others"),
    ],
)
def test_what_is_not_as_usual_waits_for_a_drain(scene: Scene, change: Callable[[Scene, int], None]) -> None:
    hook = known_webhook(scene)
    change(scene, hook)
    scene.publish(*(alias_event(collection="llm") for _ in range(scene.settings.max_in_flight)))
    scene.evaluate()
    assert scene.receiver.requests == []
    pending = scene.pending()
    assert len(pending) == scene.settings.max_in_flight
    assert {(one.claim, one.attempts) for one in pending} == {(None, 0)}
    assert all(one.next_attempt_at <= datetime.now(UTC) for one in pending)


def test_a_slow_webhook_is_sent_to_as_far_as_its_share_goes(scene: Scene) -> None:
    hook = known_webhook(scene)
    webhook_with(slow=True)(scene, hook)
    fire(scene)
    assert len(scene.receiver.requests) == 1
    with read_transaction(scene.process.engine) as connection:
        assert connection.scalar(select(webhooks.c.slow)) is False  # it was quick this time
    scene.receiver.requests.clear()
    webhook_with(slow=True)(scene, hook)
    scene.publish(*(alias_event(collection="llm") for _ in range(scene.settings.max_in_flight + 1)))
    scene.evaluate()
    assert scene.receiver.requests == []  # to one that is not slow it would have gone out
    assert {one.claim for one in scene.pending()} == {None}
    assert wakes(scene, SLOW_QUEUE) == 1


def test_a_slow_webhook_without_a_place_is_woken_when_it_has_one(scene: Scene) -> None:
    hook = known_webhook(scene)
    webhook_with(slow=True)(scene, hook)
    share = scene.process.limiter.acquire(hook, scene.settings.max_in_flight, slow=True)
    fire_without_settling(scene)
    assert scene.receiver.requests == []
    assert wakes(scene, SLOW_QUEUE) == 0
    scene.process.limiter.release(hook, share)
    assert wakes(scene, SLOW_QUEUE) == 1
    scene.deliver()
    assert len(scene.receiver.requests) == 1


def test_after_an_edit_a_process_needs_no_drain_of_its_own_to_know_a_webhook_again(scene: Scene) -> None:
    hook = known_webhook(scene)
    _edit(scene, hook)
    fire(scene)
    assert scene.receiver.requests == []  # a drain may send it from another process
    fire(scene)
    assert len(scene.receiver.requests) == 1


def test_an_edit_of_something_else_closes_no_endpoint(scene: Scene) -> None:
    hook = known_webhook(scene)
    _edit_something_else(scene, hook)
    fire(scene)
    assert len(scene.receiver.requests) == 1


@pytest.mark.parametrize("policy", [{"rate_limit": "1000/s"}, {"concurrency": 5}])
def test_limits_are_kept_by_drains(scene: Scene, policy: dict[str, object]) -> None:
    known_webhook(scene, policy=policy)
    fire(scene)
    assert scene.receiver.requests == []
    scene.deliver()
    assert len(scene.receiver.requests) == 1


def test_what_is_on_its_way_is_claimed_for_as_long_as_it_may_take(scene: Scene) -> None:
    known_webhook(scene, policy={"timeout_seconds": 7.0})
    with held(scene) as let_go:
        scene.publish(alias_event())
        before = datetime.now(UTC)
        scene.evaluate()
        wait_until(lambda: len(scene.receiver.requests) == 1, "a request")
        [pending] = scene.pending()
        assert pending.claim is not None
        lease = timedelta(seconds=7 + MAX_SEND_DELAY_SECONDS) + scene.settings.lease_margin
        assert lease - timedelta(seconds=1) < pending.next_attempt_at - before < lease + timedelta(seconds=5)
        let_go.set()
    scene.settle()
    assert scene.pending() == []


def test_failures_are_tried_again_and_open_the_circuit(scene: Scene) -> None:
    hook = known_webhook(scene, policy={"schedule_seconds": (60.0,), "circuit_failures": 3})
    scene.receiver.answer = lambda _request: Answer(status=503)
    fire(scene, count=2)
    assert [(one.attempts, one.claim) for one in scene.pending()] == [(1, None)] * 2
    assert all(one.next_attempt_at > datetime.now(UTC) + timedelta(seconds=30) for one in scene.pending())
    fire(scene)
    assert len(scene.receiver.requests) == 3
    fire(scene)  # the circuit is open now
    assert len(scene.receiver.requests) == 3
    webhook_with(circuit_probe_at=datetime.now(UTC) - timedelta(seconds=1))(scene, hook)
    scene.receiver.answer = lambda _request: Answer()
    with write_transaction(scene.process.engine) as connection:
        a_moment_ago = datetime.now(UTC) - timedelta(seconds=1)
        connection.execute(update(pending_deliveries).values(next_attempt_at=a_moment_ago))
    scene.deliver()
    assert {row.status for row in scene.rows()} == {"delivered"}
    assert sorted(row.attempts for row in scene.rows()) == [1, 1, 2, 2, 2]


def test_nothing_leaves_when_the_commit_fails(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    known_webhook(scene)

    def fail(*_args: object) -> None:
        raise ConnectionError("lost")

    scene.publish(*(alias_event(collection="new") for _ in range(5)))
    with monkeypatch.context() as patched:
        patched.setattr(CatalogDiscovery, "register", fail)
        with pytest.raises(ConnectionError):
            scene.evaluate()
    assert scene.process.limiter.in_flight() == 0
    assert scene.receiver.requests == []
    scene.evaluate()
    scene.settle()
    assert len(scene.receiver.requests) == 5


def test_several_evaluations_of_the_same_entries_send_each_once(scene: Scene) -> None:
    known_webhook(scene)
    with beside(scene) as other:
        other.consumed |= scene.consumed
        scene.publish(*(alias_event(collection=f"c{number}") for number in range(200)))
        threads = [threading.Thread(target=one.evaluate) for one in (scene, other) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        scene.deliver()
        for one in (scene, other):
            one.settle()
    ids = [request.headers["webhook-id"] for request in scene.receiver.requests]
    assert (len(ids), len(set(ids))) == (200, 200)
    assert [row.status for row in scene.rows()] == ["delivered"] * 201


def test_who_found_no_place_is_woken_when_there_are_some(scene: Scene) -> None:
    hook = known_webhook(scene)
    with held(scene) as let_go:
        scene.publish(*(alias_event(collection="llm") for _ in range(scene.settings.max_in_flight)))
        scene.evaluate()
        wait_until(lambda: len(scene.receiver.requests) > 0, "requests")
        scene.publish(alias_event(collection="llm"))
        scene.evaluate()
        assert scene.process.limiter.acquire(hook, 1, slow=False) == 0  # as its drain does
        woken = wakes(scene)
        scene.redis.delete(*scene.redis.scan_iter("hookline:wake:*"))
        let_go.set()
        wait_until(lambda: wakes(scene) > woken, "wake")
    scene.deliver()
    assert {row.status for row in scene.rows()} == {"delivered"}


def test_what_waited_for_its_turn_too_long_is_put_back(scene: Scene) -> None:
    with beside(scene, max_in_flight=2) as narrow:
        narrow.consumed |= scene.consumed
        known_webhook(narrow)
        fire(narrow)  # it answers: from here on more is claimed than is sent at a time
        narrow.receiver.requests.clear()
        with held(narrow) as let_go:
            narrow.publish(*(alias_event(collection="llm") for _ in range(4)))
            narrow.evaluate()
            wait_until(lambda: len(narrow.receiver.requests) == 2, "as many requests as there may be at a time")
            woken = wakes(narrow)
            narrow.clock.advance(MAX_SEND_DELAY_SECONDS + 1)  # in which the others wait
            let_go.set()
            narrow.settle()
        wait_until(lambda: wakes(narrow) > woken, "wake")
        assert len(narrow.receiver.requests) == 2
        assert [(one.claim, one.attempts) for one in narrow.pending()] == [(None, 0)] * 2
        assert all(one.next_attempt_at <= datetime.now(UTC) for one in narrow.pending())
        narrow.deliver()
        assert [(row.status, row.attempts) for row in narrow.rows()] == [("delivered", 1)] * 6


def _answered_late(scene: Scene, monkeypatch: pytest.MonkeyPatch, module: ModuleType, statement: str) -> list[object]:
    """Let the first answer to a statement be on its way for longer than a delivery is held; all that were given."""
    execute, answers = getattr(module, statement), list[object]()

    def late(*arguments: Any, **more: Any) -> object:
        answers.append(execute(*arguments, **more))
        if len(answers) == 1:
            scene.clock.advance(MAX_SEND_DELAY_SECONDS + 1)
        return answers[-1]

    monkeypatch.setattr(module, statement, late)
    return answers


def test_what_was_committed_is_not_sent_once_its_lease_may_be_over(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_webhook(scene)
    fire(scene)  # from here on one statement commits
    answers = _answered_late(scene, monkeypatch, commit, "commit_optimistically")
    fire(scene, count=3)
    assert len(answers) == 1
    assert len(scene.receiver.requests) == 1
    assert [(one.claim, one.attempts) for one in scene.pending()] == [(None, 0)] * 3
    scene.deliver()
    assert [(row.status, row.attempts) for row in scene.rows()] == [("delivered", 1)] * 5


def test_what_was_claimed_is_not_sent_once_its_lease_may_be_over(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.automation(scene.webhook())
    fire(scene, count=3)
    answers = _answered_late(scene, monkeypatch, claims, "claim")
    scene.deliver()
    assert [len(claimed) for claimed in answers if isinstance(claimed, list) and claimed] == [3, 3]
    assert [(row.status, row.attempts) for row in scene.rows()] == [("delivered", 1)] * 3
    assert len(scene.receiver.requests) == 3


@pytest.mark.parametrize(
    ("consumed", "takes_part"), [([EVALUATE_QUEUE], False), ([EVALUATE_QUEUE, DELIVER_QUEUE], True)]
)
def test_a_worker_takes_part_where_it_consumes_deliveries(scene: Scene, consumed: list[str], takes_part: bool) -> None:
    app = _worker_app(scene.settings, consumed)
    process = build_process(scene.settings, app)
    assert process.fast_path.takes_part() is takes_part
    process.close()


def _worker_app(settings: Settings, consumed: list[str]) -> Celery:
    """As `celery -A worker worker -Q …` has it."""
    app = celery_app(settings)
    app.conf.task_queues = {EVALUATE_QUEUE: {}, DELIVER_QUEUE: {}}
    app.amqp.queues.select(consumed)
    return app
