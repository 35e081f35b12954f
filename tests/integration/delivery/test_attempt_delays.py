"""How late attempts are, as the objective counts it: only what nothing but Hookline held up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client import REGISTRY
from pydantic import SecretStr
from sqlalchemy import select, update

from shared.domain.delivery.circuits import CircuitSignal as CircuitAnswer
from shared.domain.delivery.retries import DeliveryPolicy
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.delivery.circuits import reset_health, update_circuit
from shared.storage.schema.tables import pending_deliveries, webhooks
from tests.integration.receiver import Answer
from tests.integration.scene import Scene, alias_event, beside


def _value(name: str) -> float:
    return REGISTRY.get_sample_value(f"hookline_{name}") or 0.0


class _Seen:
    count = late = evaluated = unreadable = 0.0


@contextmanager
def _observed() -> Iterator[_Seen]:
    """What was counted inside, once it is over."""

    def now() -> tuple[float, ...]:
        count = _value("attempt_delay_seconds_count")
        in_time = REGISTRY.get_sample_value("hookline_attempt_delay_seconds_bucket", {"le": "10.0"}) or 0.0
        return count, count - in_time, _value("evaluation_delay_seconds_count"), _value("secrets_unreadable_total")

    seen, before = _Seen(), now()
    yield seen
    seen.count, seen.late, seen.evaluated, seen.unreadable = (b - a for a, b in zip(before, now(), strict=True))


def _fire(scene: Scene, hook: int, *, due_seconds_ago: float = 0) -> None:
    scene.automation(hook)
    scene.publish(alias_event(), alias_event())
    scene.evaluate()
    with write_transaction(scene.process.engine) as connection:
        due_at = datetime.now(UTC) - timedelta(seconds=due_seconds_ago)
        connection.execute(update(pending_deliveries).values(next_attempt_at=due_at))


def _set(scene: Scene, hook: int, **values: Any) -> None:
    with write_transaction(scene.process.engine) as connection:
        connection.execute(update(webhooks).where(webhooks.c.id == hook).values(values))


def _drained(scene: Scene, hook: int) -> _Seen:
    with _observed() as seen:
        scene.process.webhooks.drain(hook)
        scene.settle()
    return seen


def test_first_attempts_and_retries_count_from_when_they_were_due(scene: Scene) -> None:
    hook = scene.webhook(policy={"schedule_seconds": (60.0,)})
    scene.receiver.answer = lambda _request: Answer(status=500)
    with _observed() as seen:
        _fire(scene, hook, due_seconds_ago=11)
    assert seen.evaluated == 2
    seen = _drained(scene, hook)
    assert (seen.count, seen.late) == (2, 2)
    # A worker's reckoning of the database's time lags a little.
    a_moment_ago = datetime.now(UTC) - timedelta(seconds=1)
    with write_transaction(scene.process.engine) as connection:
        connection.execute(update(pending_deliveries).values(next_attempt_at=a_moment_ago))
    seen = _drained(scene, hook)
    assert (seen.count, seen.late) == (2, 0)


def test_what_the_webhook_itself_holds_up_does_not_count(scene: Scene) -> None:
    limited = scene.webhook("limited", policy={"rate_limit": "100/s"})
    _fire(scene, limited, due_seconds_ago=11)
    assert _drained(scene, limited).count == 0
    assert len(scene.receiver.requests) == 2

    slow = scene.webhook("slow")
    _set(scene, slow, slow=True)
    _fire(scene, slow, due_seconds_ago=11)
    assert _drained(scene, slow).count == 0

    resumed = scene.webhook("resumed")
    _set(scene, resumed, resumed_at=datetime.now(UTC) - timedelta(seconds=5))
    _fire(scene, resumed, due_seconds_ago=11)
    assert _drained(scene, resumed).count == 0
    _fire(scene, resumed, due_seconds_ago=1)
    assert _drained(scene, resumed).count >= 2


def test_a_circuit_that_closes_resumes_a_webhook(scene: Scene) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    hook = scene.webhook()
    opened = {"circuit_opened_at": now - timedelta(hours=1), "circuit_probe_at": now, "failures": 9}

    def resumed_at() -> datetime | None:
        with read_transaction(scene.process.engine) as connection:
            return connection.scalar(select(webhooks.c.resumed_at).where(webhooks.c.id == hook))

    _set(scene, hook, failures=3)
    with write_transaction(scene.process.engine) as connection:
        reset_health(connection, hook, now)
    assert resumed_at() is None  # it was never away
    _set(scene, hook, **opened)
    with write_transaction(scene.process.engine) as connection:
        reset_health(connection, hook, now)
    assert resumed_at() == now
    _set(scene, hook, **opened, resumed_at=None)
    with write_transaction(scene.process.engine) as connection:
        answers = [CircuitAnswer(responsive=True, probe=True)]
        update_circuit(connection, hook, DeliveryPolicy(), answers, now)
    assert resumed_at() == now


def test_a_secret_that_no_key_opens_is_counted(scene: Scene) -> None:
    scene.secret("TOKEN", "a-secret-value")
    hook = scene.webhook(access_token="TOKEN")
    _fire(scene, hook)
    with beside(scene, secret_keys=SecretStr("A" * 43 + "=")) as keyless:
        seen = _drained(keyless, hook)
    assert (seen.count, seen.unreadable) == (0, 1)
    assert len(scene.pending()) == 2
