"""Circuit, rate limit, concurrency and the slow lane, through real drains, databases and a receiver."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from redis import Redis
from sqlalchemy import select, update
from structlog.testing import capture_logs

from shared.delivery.endpoint import Endpoint
from shared.messaging.celery_app import DELIVER_QUEUE, SLOW_QUEUE
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.delivery.backlog import due_webhooks, queue_state
from shared.storage.schema.tables import pending_deliveries, webhooks
from tests.integration.receiver import Answer, Received
from tests.integration.scene import Scene, alias_event

CLOCK_ERROR_SECONDS = 0.2
"""A worker reckons the time of the database, and may be so far off."""


def _fire(scene: Scene, hook: int, count: int) -> None:
    scene.automation(hook)
    scene.publish(*(alias_event() for _ in range(count)))
    scene.evaluate()


def _row(scene: Scene, hook: int) -> Any:
    with read_transaction(scene.process.engine) as connection:
        return connection.execute(select(webhooks).where(webhooks.c.id == hook)).one()


def _due(scene: Scene, at: datetime | None = None) -> list[int]:
    with read_transaction(scene.process.engine) as connection:
        return [one.id for one in due_webhooks(connection, at or datetime.now(UTC))]


def _cool_off(scene: Scene, hook: int) -> None:
    """As if the cool-off were over: a moment ago, since a worker's reckoning of the database's time lags a little."""
    a_moment_ago = datetime.now(UTC) - timedelta(seconds=1)
    with write_transaction(scene.process.engine) as connection:
        connection.execute(update(webhooks).where(webhooks.c.id == hook).values(circuit_probe_at=a_moment_ago))


def _drain(scene: Scene, hook: int) -> None:
    scene.process.webhooks.drain(hook)
    scene.settle()


class TestCircuit:
    POLICY: ClassVar = {"circuit_failures": 5, "circuit_cool_off_seconds": 60, "schedule_seconds": (0.0,) * 10}

    def test_it_opens_holds_the_rest_back_and_uses_up_no_retries(self, scene: Scene) -> None:
        scene.receiver.answer = lambda _request: Answer(status=503)
        hook = scene.webhook(policy=self.POLICY)
        _fire(scene, hook, 200)
        _drain(scene, hook)
        row, requests = _row(scene, hook), len(scene.receiver.requests)
        assert row.circuit_opened_at is not None
        assert row.failures == requests <= 2 * scene.settings.max_in_flight
        assert _due(scene) == []
        _drain(scene, hook)
        assert len(scene.receiver.requests) == requests
        assert len(scene.pending()) == 200

    def test_one_request_at_a_time_tries_it_and_a_success_closes_it(self, scene: Scene) -> None:
        scene.receiver.answer = lambda _request: Answer(status=503)
        hook = scene.webhook(policy=self.POLICY)
        _fire(scene, hook, 80)
        _drain(scene, hook)
        before = len(scene.receiver.requests)
        _cool_off(scene, hook)
        assert _due(scene) == [hook]
        _drain(scene, hook)
        assert len(scene.receiver.requests) == before + 1
        row = _row(scene, hook)
        assert row.circuit_openings == 2
        assert timedelta(seconds=100) < row.circuit_probe_at - row.circuit_opened_at < timedelta(seconds=121)
        scene.receiver.answer = lambda _request: Answer()
        _cool_off(scene, hook)
        _drain(scene, hook)
        assert scene.pending() == []
        row = _row(scene, hook)
        assert (row.failures, row.circuit_openings, row.circuit_opened_at, row.failing_since) == (0, 0, None, None)

    def test_a_probe_underway_keeps_others_from_probing(self, scene: Scene) -> None:
        hook = scene.webhook(policy=self.POLICY)
        _fire(scene, hook, 10)
        with write_transaction(scene.process.engine) as connection:
            connection.execute(
                update(webhooks).values(circuit_opened_at=datetime.now(UTC), failures=9, circuit_openings=1)
            )
        _cool_off(scene, hook)
        arrived, let_go = threading.Event(), threading.Event()

        def hold(_request: Received) -> Answer:
            arrived.set()
            let_go.wait(60)
            return Answer(status=500)

        scene.receiver.answer = hold
        with ThreadPoolExecutor() as pool:
            probe = pool.submit(scene.process.webhooks.drain, hook)
            assert arrived.wait(60)
            assert _due(scene) == []
            scene.process.webhooks.drain(hook)
            let_go.set()
            probe.result(timeout=60)
        scene.settle()
        assert len(scene.receiver.requests) == 1

    def test_a_fault_of_hooklines_own_is_retried_and_counts_against_no_endpoint(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hook = scene.webhook(policy={"circuit_failures": 1, "schedule_seconds": (3600.0,)})
        with write_transaction(scene.process.engine) as connection:
            connection.execute(update(webhooks).values(slow=True))
        _fire(scene, hook, 3)

        def break_down(*_args: object) -> None:
            raise RuntimeError("s3cr3t")

        with monkeypatch.context() as broken, capture_logs() as logs:
            broken.setattr(Endpoint, "request", break_down)
            _drain(scene, hook)
        assert {attempt.outcome for attempt in scene.attempts()} == {"internal"}
        assert {delivery.status for delivery in scene.rows()} == {"pending"}
        row = _row(scene, hook)
        assert (row.failures, row.circuit_opened_at, row.failing_since, row.slow) == (0, None, None, True)
        faults = [line for line in logs if line["event"] == "delivery.fault"]
        assert "break_down" in faults[0]["at"][-1]
        assert "s3cr3t" not in str([logs, scene.attempts(), scene.rows()])
        with write_transaction(scene.process.engine) as connection:
            connection.execute(update(pending_deliveries).values(next_attempt_at=datetime.now(UTC)))
        scene.deliver()
        assert {delivery.status for delivery in scene.rows()} == {"delivered"}

    def test_gauges_tell_what_is_ready_from_what_is_held(self, scene: Scene) -> None:
        scene.receiver.answer = lambda _request: Answer(status=500)
        hook, paused = scene.webhook(policy=self.POLICY), scene.webhook("paused", paused=True)
        _fire(scene, hook, 7)
        scene.automation(paused)
        scene.publish(alias_event())
        scene.evaluate()
        _drain(scene, hook)
        with read_transaction(scene.process.engine) as connection:
            state = queue_state(connection, datetime.now(UTC))
            assert (state.pending, state.due, state.held, state.circuits_open) == (9, 0, 9, 1)
            assert state.oldest_due_seconds == 0
            state = queue_state(connection, datetime.now(UTC) + timedelta(seconds=61))
            assert (state.due, state.held) == (8, 1)
            assert state.oldest_due_seconds > 60


class TestRateLimit:
    def test_requests_are_spaced_however_many_drains_ask(self, scene: Scene) -> None:
        hook = scene.webhook(policy={"rate_limit": "20/s"})
        _fire(scene, hook, 30)
        arrivals: list[float] = []

        def note(_request: Received) -> Answer:
            arrivals.append(time.monotonic())
            return Answer()

        scene.receiver.answer = note
        began = time.monotonic()
        with ThreadPoolExecutor() as pool:
            while scene.pending():
                for drain in [pool.submit(scene.process.webhooks.drain, hook) for _ in range(3)]:
                    drain.result(timeout=60)
                scene.settle()
        assert len(arrivals) == 30
        # On a busy machine some are late, and then come close to the next; none may be early.
        early = [began + number * 0.05 - arrival for number, arrival in enumerate(sorted(arrivals))]
        assert max(early) <= CLOCK_ERROR_SECONDS

    def test_what_has_to_wait_stays_due_and_keeps_its_attempts(self, scene: Scene) -> None:
        hook = scene.webhook(policy={"rate_limit": "2/h"})
        _fire(scene, hook, 3)
        _drain(scene, hook)
        assert len(scene.receiver.requests) == 1
        _drain(scene, hook)
        assert len(scene.receiver.requests) == 1
        assert [row.attempts for row in scene.pending()] == [0, 0]


class TestConcurrency:
    def test_never_more_at_a_time_than_the_policy_says(self, scene: Scene) -> None:
        hook = scene.webhook(policy={"concurrency": 3})
        _fire(scene, hook, 30)
        lock, now, most = threading.Lock(), 0, 0

        def hold(_request: Received) -> Answer:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.02)
            with lock:
                now -= 1
            return Answer()

        scene.receiver.answer = hold
        with ThreadPoolExecutor() as pool:
            while scene.pending():
                for drain in [pool.submit(scene.process.webhooks.drain, hook) for _ in range(3)]:
                    drain.result(timeout=60)
                scene.settle()
        assert len(scene.receiver.requests) == 30
        assert most == 3


class TestSlowLane:
    def test_a_drain_leaves_an_endpoint_that_takes_its_time(self, scene: Scene) -> None:
        let_go = threading.Event()

        def hold(_request: Received) -> Answer:
            let_go.wait(20)
            return Answer()

        scene.receiver.answer = hold
        hook = scene.webhook()
        _fire(scene, hook, 10)
        made = scene.process.webhooks.drain(hook)
        assert (made, scene.process.limiter.by_webhook()) == (0, {hook: 10})
        assert all(row.claim is not None for row in scene.pending())
        time.sleep(1.1)  # what makes it slow is that it takes more than a second
        let_go.set()
        scene.settle()
        assert [row.status for row in scene.rows()] == ["delivered"] * 10
        assert _row(scene, hook).slow

    def test_slow_ones_are_woken_in_their_own_lane_and_come_back(self, scene: Scene) -> None:
        hook = scene.webhook()
        with write_transaction(scene.process.engine) as connection:
            connection.execute(update(webhooks).values(slow=True))
        _fire(scene, hook, 1)
        broker = Redis.from_url(scene.settings.celery_broker_url)
        assert (broker.llen(SLOW_QUEUE), broker.llen(DELIVER_QUEUE)) == (1, 0)
        _drain(scene, hook)
        assert not _row(scene, hook).slow
        scene.publish(alias_event())
        scene.evaluate()
        assert (broker.llen(SLOW_QUEUE), broker.llen(DELIVER_QUEUE)) == (1, 1)

    def test_what_is_in_flight_when_the_process_ends_is_waited_for(self, scene: Scene) -> None:
        def slowly(_request: Received) -> Answer:
            time.sleep(1)
            return Answer()

        scene.receiver.answer = slowly
        hook = scene.webhook()
        _fire(scene, hook, 5)
        scene.process.webhooks.drain(hook)
        scene.process.background.close(grace_seconds=20)
        assert [row.status for row in scene.rows()] == ["delivered"] * 5
