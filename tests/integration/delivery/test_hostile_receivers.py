"""Every hostile receiver at once, on the whole way of a delivery: the right outcome, in time, in little memory.

What the sender makes of each alone is tested in `tests.integration.http`; here is what follows for deliveries.
"""

from __future__ import annotations

import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from anyio.from_thread import start_blocking_portal
from redis import Redis
from sqlalchemy import func, select

from shared.domain.delivery.outcomes import OutcomeKind
from shared.domain.delivery.retries import DeliveryPolicy
from shared.http.connection import KEPT_RESPONSE_BYTES
from shared.settings import Settings
from shared.storage.database.transactions import read_transaction
from shared.storage.delivery.backlog import due_webhooks
from shared.storage.schema.tables import pending_deliveries, webhooks
from tests.hostility import CONNECT_SECONDS, HOSTILITIES, NO_CONNECTION, TIMEOUT_SECONDS, Hostility, contexts, listening
from tests.integration.http.hostile import Endpoint
from tests.integration.receiver import Answer, Receiver
from tests.integration.scene import AdvancingClock, Scene, alias_event, opened_scene

EACH = 3
"""Deliveries at the same time to each receiver."""
RETRY_SECONDS = 60.0
PATIENT_SECONDS = 30.0
"""For those that are to be told by what they do, however busy the machine is."""
LATE_SECONDS = 20.0
"""How much later than its time-out an attempt may be over on a machine that is busy with other tests."""
MEMORY_BYTES = 48 << 20
"""For all at once, the receivers' side and the test's own included. One endless body alone would fill it in a blink."""


def test_each_hostile_receiver_has_its_outcome_in_time_and_in_little_memory(
    settings: Settings, redis: Redis, receiver: Receiver, tmp_path: Path
) -> None:
    with _scene(settings, redis, receiver, tmp_path) as (scene, places):
        hooks = {}
        for number, one in enumerate(HOSTILITIES):
            hooks[scene.webhook(f"hook-{number}", url=places[one.name][0], policy=_policy(one))] = one
        for hook in hooks:
            scene.automation(hook)
        scene.publish(*(alias_event() for _ in range(EACH)))
        scene.evaluate()

        began, peak_bytes = datetime.now(UTC), _deliver(scene, list(hooks))

        found, expected = _found(scene, hooks, began), {one.name: _expected(one) for one in HOSTILITIES}
        assert {name: found[name] for name in expected if found[name] != expected[name]} == {}
        assert _disabled(scene, hooks) == ["410"]
        assert peak_bytes < MEMORY_BYTES
        # Redirects were not followed, and answered deliveries were sent once.
        requests = {name: len(endpoint.requests) for name, (_url, endpoint) in places.items()}
        assert {requests[one.name] for one in HOSTILITIES if one.status is not None} == {EACH}
        for one in HOSTILITIES:
            assert requests[one.name] <= EACH, one.name


def test_an_hour_of_failures_costs_few_requests_and_loses_nothing(scene: Scene) -> None:
    """With a clock that is moved to whatever is due next; retries and circuit are those that webhooks have."""
    hook = scene.webhook(policy=DeliveryPolicy().model_dump())
    scene.automation(hook)
    scene.publish(*(alias_event() for _ in range(40)))
    scene.evaluate()
    scene.receiver.answer = lambda _request: Answer(503)
    clock = scene.clock
    recovers = clock.now() + timedelta(hours=1)

    _deliver_until(scene, hook, clock, lambda: clock.now() >= recovers)
    failed = len(scene.receiver.requests)
    assert {row.status for row in scene.rows()} == {"pending"}
    # 40 at first; then the circuit lets one through after 10, 20, 40, 80 and 160 seconds, and then every 5 minutes.
    assert 40 + 12 <= failed <= 40 + 20
    scene.receiver.answer = lambda _request: Answer(200)
    _deliver_until(scene, hook, clock, lambda: not scene.pending())

    assert [row.status for row in scene.rows()] == ["delivered"] * 40
    assert len(scene.receiver.requests) == failed + 40
    numbers = defaultdict(list)
    for request in scene.receiver.requests:
        numbers[request.headers["webhook-id"]].append(int(request.headers["hookline-attempt"]))
    assert set(numbers) == {row.id for row in scene.rows()}
    assert all(tried == list(range(1, len(tried) + 1)) for tried in numbers.values())
    with read_transaction(scene.process.engine) as connection:
        row = connection.execute(select(webhooks)).one()
    assert (row.enabled, row.failures, row.circuit_opened_at, row.failing_since) == (True, 0, None, None)


def _deliver_until(scene: Scene, hook: int, clock: AdvancingClock, over: Callable[[], bool]) -> None:
    """Drain the webhook whenever the pump would wake it, and move the clock on when it would not."""
    while not over():
        with read_transaction(scene.process.engine) as connection:
            due = due_webhooks(connection, clock.now())
            row = connection.execute(select(webhooks)).one()
            soonest = connection.scalar(select(func.min(pending_deliveries.c.next_attempt_at)))
        if due:
            scene.process.webhooks.drain(hook)
            scene.settle()
        else:
            assert soonest is not None
            clock.advance_to(max(soonest, row.circuit_probe_at or soonest))


def _policy(one: Hostility) -> dict[str, Any]:
    impatient = one.kind is OutcomeKind.TIMEOUT
    return {
        "timeout_seconds": TIMEOUT_SECONDS if impatient else PATIENT_SECONDS,
        "connect_timeout_seconds": CONNECT_SECONDS if impatient and one.error == NO_CONNECTION else PATIENT_SECONDS,
        "schedule_seconds": (RETRY_SECONDS,),
        "jitter": 0.0,
    }


def _expected(one: Hostility) -> set[tuple[Any, ...]]:
    return {(one.delivery, one.kind, one.status, one.error, True, True)}


def _found(scene: Scene, hooks: dict[int, Hostility], began: datetime) -> dict[str, set[tuple[Any, ...]]]:
    """What is recorded for each receiver: all its deliveries fared alike, so there is one of it."""
    found: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
    attempts = defaultdict(list)
    for attempt in scene.attempts():
        attempts[attempt.delivery_seq].append(attempt)
    again = {row.seq: row.next_attempt_at for row in scene.pending()}
    for row in scene.rows():
        one = hooks[row.webhook_id]
        [attempt] = attempts[row.seq]
        assert len(attempt.response_body or "") <= KEPT_RESPONSE_BYTES
        if row.status == "pending":
            wait = timedelta(seconds=max(RETRY_SECONDS, one.asked_seconds))
            # A date asks for up to two seconds more than it was reckoned with.
            fits = began + wait <= again[row.seq] <= datetime.now(UTC) + wait + timedelta(seconds=2)
        else:
            fits = row.seq not in again
        found[one.name].add((row.status, attempt.outcome, attempt.status_code, attempt.error, _in_time(attempt), fits))
    return found


def _in_time(attempt: Any) -> bool:
    seconds = attempt.duration_ms / 1000
    if attempt.outcome == OutcomeKind.TIMEOUT:
        return bool(CONNECT_SECONDS <= seconds <= TIMEOUT_SECONDS + LATE_SECONDS)
    return bool(seconds < PATIENT_SECONDS)


def _disabled(scene: Scene, hooks: dict[int, Hostility]) -> list[str]:
    with read_transaction(scene.process.engine) as connection:
        return [hooks[row.id].name for row in connection.execute(select(webhooks)) if not row.enabled]


def _deliver(scene: Scene, hooks: list[int]) -> int:
    """Drain all webhooks as a worker's threads do. Returns the most memory that was allocated meanwhile, in bytes."""
    tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        with ThreadPoolExecutor(8) as pool:
            for drain in [pool.submit(scene.process.webhooks.drain, hook) for hook in hooks]:
                drain.result(timeout=60)
        scene.settle()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@contextmanager
def _scene(
    settings: Settings, redis: Redis, receiver: Receiver, folder: Path
) -> Iterator[tuple[Scene, dict[str, tuple[str, Endpoint]]]]:
    bundle, served = contexts(folder)
    trusting = settings.model_copy(update={"ca_bundle": bundle})
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(listening(HOSTILITIES, served)) as places,
        opened_scene(trusting, redis, receiver) as scene,
    ):
        yield scene, places
