"""A claim is a lease: who sleeps past it decides nothing any more, and nothing stays claimed for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.delivery.backlog import due_webhooks
from shared.storage.delivery.claims import ClaimedDelivery, claim
from shared.storage.delivery.recording import AttemptRecord, record
from tests.integration.scene import Scene, alias_event


def _claim(scene: Scene, hook: int, *, token: int, at: datetime, limit: int = 10) -> list[ClaimedDelivery]:
    with write_transaction(scene.process.engine) as connection:
        return claim(connection, hook, limit=limit, now=at, lease_until=at + timedelta(seconds=60), token=token)


def _result(claimed: ClaimedDelivery, at: datetime, *, status: str | None = "delivered") -> AttemptRecord:
    return AttemptRecord(
        seq=claimed.seq,
        number=claimed.attempts + 1,
        started_at=at,
        duration_ms=1,
        outcome="2xx",
        status_code=200,
        error=None,
        response_body="",
        response_truncated=False,
        next_attempt_at=None if status else at + timedelta(seconds=5),
        final_status=status,
        reason=None,
    )


def test_a_claimed_delivery_is_nobody_elses_until_its_lease_ends(scene: Scene) -> None:
    hook = scene.webhook()
    scene.automation(hook)
    scene.publish(*(alias_event() for _ in range(5)))
    scene.evaluate()
    now = datetime.now(UTC)
    first = _claim(scene, hook, token=1, at=now, limit=3)
    second = _claim(scene, hook, token=2, at=now)
    assert (len(first), len(second)) == (3, 2)
    assert _claim(scene, hook, token=3, at=now + timedelta(seconds=59)) == []
    with read_transaction(scene.process.engine) as connection:
        assert due_webhooks(connection, now + timedelta(seconds=59)) == []
        assert [one.id for one in due_webhooks(connection, now + timedelta(seconds=60))] == [hook]
    assert {one.seq for one in _claim(scene, hook, token=3, at=now + timedelta(seconds=60))} == {
        one.seq for one in (*first, *second)
    }


def test_a_worker_that_slept_past_its_lease_decides_nothing(scene: Scene) -> None:
    hook = scene.webhook()
    scene.automation(hook)
    scene.publish(alias_event())
    scene.evaluate()
    now = datetime.now(UTC)
    [asleep] = _claim(scene, hook, token=1, at=now)
    later = now + timedelta(seconds=61)
    [awake] = _claim(scene, hook, token=2, at=later)
    with write_transaction(scene.process.engine) as connection:
        assert record(connection, [_result(asleep, later)], token=1, now=later) == set()
    assert [row.status for row in scene.rows()] == ["pending"]
    with write_transaction(scene.process.engine) as connection:
        record(connection, [_result(asleep, later, status=None)], token=1, now=later)
    assert [row.attempts for row in scene.pending()] == [0]
    with write_transaction(scene.process.engine) as connection:
        assert record(connection, [_result(awake, later)], token=2, now=later) == {awake.seq}
    assert [row.status for row in scene.rows()] == ["delivered"]
    assert [(row.number, row.claim) for row in scene.attempts()] == [(1, 1), (1, 2)]


def test_recording_the_same_attempt_twice_changes_nothing(scene: Scene) -> None:
    hook = scene.webhook()
    scene.automation(hook)
    scene.publish(alias_event())
    scene.evaluate()
    now = datetime.now(UTC)
    [claimed] = _claim(scene, hook, token=1, at=now)
    for _ in range(2):
        with write_transaction(scene.process.engine) as connection:
            record(connection, [_result(claimed, now)], token=1, now=now)
    assert len(scene.attempts()) == 1
    assert [row.attempts for row in scene.rows()] == [1]
