"""An optimistic commit has the effects of the longer way, or none, and then the longer way is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, select, update

from shared.domain.delivery.circuits import CircuitSignal, CircuitState, failure_streak_of
from shared.domain.delivery.retries import DeliveryPolicy
from shared.domain.events.partitioning import Offset
from shared.messaging.celery_app import DELIVER_QUEUE
from shared.storage.database.transactions import read_transaction, write_statement, write_transaction
from shared.storage.definitions.revisions import next_revision
from shared.storage.delivery.circuits import set_lane, update_circuit
from shared.storage.delivery.failure_recording import HealthUpdate, record_with_health
from shared.storage.delivery.recording import AttemptRecord, record
from shared.storage.delivery.webhook_health import update_health
from shared.storage.delivery.webhook_snapshots import WebhookSnapshot, load_endpoints
from shared.storage.evaluation.new_deliveries import NewClaims, insert_deliveries
from shared.storage.evaluation.offsets import read_offset, seed_partitions
from shared.storage.evaluation.optimistic_commit import Committed, commit_optimistically
from shared.storage.schema.tables import attempts, deliveries, partitions, pending_deliveries, webhooks
from tests.integration.scene import Scene, alias_event, delivery_row, webhook_with

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
LEASE = NOW + timedelta(seconds=45)
TOKEN = 7
SINCE = Offset("5-0", 5)
LIMIT = 3
DISABLE_AFTER = timedelta(days=5)


_row = partial(delivery_row, at=NOW)


def _edit_something(scene: Scene, _hook: int) -> None:
    with write_transaction(scene.process.engine) as connection:
        next_revision(connection)


def _store(scene: Scene, hook: int) -> None:
    with write_transaction(scene.process.engine) as connection:
        insert_deliveries(connection, [_row(scene, 5, hook)])


def _move(scene: Scene, _hook: int) -> None:
    with write_transaction(scene.process.engine) as connection:
        connection.execute(update(partitions).where(partitions.c.partition == 0).values(offset="6-0"))


class TestABatch:
    """`commit_optimistically`."""

    @pytest.fixture
    def hooks(self, scene: Scene) -> list[int]:
        """Two webhooks, and a partition that was read up to `SINCE`."""
        with write_transaction(scene.process.engine) as connection:
            seed_partitions(connection, 1, NOW)
            connection.execute(
                update(partitions).where(partitions.c.partition == 0).values(offset="5-0", entries_read=5)
            )
        return [scene.webhook("one"), scene.webhook("two")]

    def _commit(self, scene: Scene, expected: dict[int, WebhookSnapshot], hooks: list[int]) -> Committed:
        rows = [
            _row(scene, 1, hooks[0]),
            _row(scene, 2, hooks[1]),
            _row(scene, 3, None, status="delivered"),
            _row(scene, 4, hooks[0], status="skipped"),
            _row(scene, 5, hooks[0]),
        ]
        claim = NewClaims((hooks[0],), TOKEN, LEASE)
        with write_statement(scene.process.engine) as connection:
            return commit_optimistically(
                connection, 0, rows, expected.values(), claim, since=SINCE, entry_id="9-0", count=4, now=NOW
            )

    def _read(self, scene: Scene, hooks: list[int]) -> dict[int, WebhookSnapshot]:
        with read_transaction(scene.process.engine) as connection:
            return load_endpoints(connection, hooks)

    def _offset(self, scene: Scene) -> Offset:
        with read_transaction(scene.process.engine) as connection:
            return read_offset(connection, 0)

    def test_all_is_stored_where_all_is_as_expected(self, scene: Scene, hooks: list[int]) -> None:
        done = self._commit(scene, self._read(scene, hooks), hooks)
        assert (done.preconditions_held, done.offset_advanced) == (True, True)
        assert self._offset(scene) == Offset("9-0", 9)
        rows = {row.id: row for row in scene.rows()}
        assert [row.status for row in scene.rows()] == ["pending", "pending", "delivered", "skipped", "pending"]
        assert done.claimed == {"dlv_1": rows["dlv_1"].seq, "dlv_5": rows["dlv_5"].seq}
        assert {(one.seq, one.webhook_id, one.claim, one.next_attempt_at) for one in scene.pending()} == {
            (rows["dlv_1"].seq, hooks[0], TOKEN, LEASE),
            (rows["dlv_5"].seq, hooks[0], TOKEN, LEASE),
            (rows["dlv_2"].seq, hooks[1], None, NOW),
        }

    @pytest.mark.parametrize(
        ("change", "preconditions_held"),
        [
            pytest.param(webhook_with(enabled=False), False, id="disabled"),
            pytest.param(webhook_with(deleted_at=NOW), False, id="deleted"),
            pytest.param(webhook_with(paused=True), False, id="paused"),
            pytest.param(webhook_with(slow=True), False, id="in the other lane"),
            pytest.param(webhook_with(circuit_opened_at=NOW), False, id="circuit open"),
            pytest.param(_edit_something, False, id="an edit anywhere"),
            pytest.param(_store, False, id="evaluated before"),
            pytest.param(_move, True, id="another was faster"),
        ],
    )
    def test_nothing_is_stored_where_something_is_not(
        self, scene: Scene, hooks: list[int], change: Callable[[Scene, int], None], preconditions_held: bool
    ) -> None:
        expected = self._read(scene, hooks)
        change(scene, hooks[1])
        before = (self._offset(scene), scene.rows(), scene.pending())
        done = self._commit(scene, expected, hooks)
        assert (done.preconditions_held, done.offset_advanced, done.claimed) == (preconditions_held, False, {})
        assert (self._offset(scene), scene.rows(), scene.pending()) == before

    @pytest.mark.parametrize(
        "change", [webhook_with(paused=True), webhook_with(slow=True), webhook_with(circuit_opened_at=NOW)]
    )
    def test_what_was_known_before_is_expected(
        self, scene: Scene, hooks: list[int], change: Callable[[Scene, int], None]
    ) -> None:
        change(scene, hooks[1])
        assert self._commit(scene, self._read(scene, hooks), hooks).offset_advanced


@pytest.fixture
def statements(scene: Scene) -> Iterator[list[str]]:
    """What is sent to the database."""
    seen: list[str] = []

    def see(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    event.listen(scene.process.engine, "before_cursor_execute", see)
    yield seen
    event.remove(scene.process.engine, "before_cursor_execute", see)


def test_the_second_event_of_a_known_webhook_takes_one_statement(scene: Scene, statements: list[str]) -> None:
    scene.consumed.add(DELIVER_QUEUE)
    scene.automation(scene.webhook())
    for _ in range(2):  # the first is read for in a transaction, and opens the endpoint
        scene.publish(alias_event(collection="llm"))
        scene.evaluate()
        scene.deliver()
    scene.publish(alias_event(collection="llm"))
    statements.clear()
    scene.evaluate()
    changes = [one for one in statements if "INSERT" in one or "UPDATE" in one]
    assert len([one for one in changes if "UPDATE partitions" in one]) == 1
    scene.settle()
    assert [row.status for row in scene.rows()] == ["delivered"] * 3


class TestAttempts:
    """`record_with_health`."""

    @pytest.fixture(autouse=True)
    def _postgresql(self, scene: Scene) -> None:
        if scene.process.engine.dialect.name != "postgresql":
            pytest.skip("SQLite takes no such statement")

    HEARD = st.sampled_from(["delivered", "retried", "refused for now", "not sent"])

    @hypothesis_settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(
        heard=st.lists(HEARD, min_size=1, max_size=5),
        failures=st.integers(0, LIMIT + 1),
        limit=st.sampled_from([0, LIMIT]),
        failing_days=st.sampled_from([None, 0, 1, 4, 6]),
        failed_days=st.sampled_from([0, 1, 6]),
        was_slow=st.booleans(),
        slow=st.booleans(),
        opened=st.booleans(),
        stolen=st.booleans(),
    )
    @example(["retried"], 1, LIMIT, 4, 0, False, True, False, True)
    def test_they_change_what_the_longer_way_changes_or_nothing(
        self,
        scene: Scene,
        heard: list[str],
        failures: int,
        limit: int,
        failing_days: int | None,
        failed_days: int,
        was_slow: bool,
        slow: bool,
        opened: bool,
        stolen: bool,
    ) -> None:
        policy = DeliveryPolicy(circuit_failures=limit)
        state = {
            "failures": failures,
            "circuit_opened_at": NOW - timedelta(seconds=9) if opened else None,
            "circuit_probe_at": NOW if opened else None,
            "failing_since": None if failing_days is None else NOW - timedelta(days=failing_days),
            "failed_at": None if failing_days is None else NOW - timedelta(days=min(failed_days, failing_days)),
            "slow": was_slow,
            "enabled": True,
        }
        answers = [_answer(one) for one in heard]
        found = []
        for way in (_the_longer_way, _in_one_statement):
            hook, results = _claimed(scene, heard, state, stolen=stolen)
            before = _seen(scene, hook, heard)
            told = way(scene, hook, results, policy, answers, heard, slow)
            found.append((told, _seen(scene, hook, heard), before))
        (longer, after, _), (short, seen, before) = found
        if short:
            assert longer == "nothing to tell"
            assert seen == after
        else:
            assert seen == before
            assert longer == "told" or opened or 0 < limit <= failures + sum(one.responsive is False for one in answers)


def _answer(heard: str) -> CircuitSignal:
    return CircuitSignal({"delivered": True, "retried": False, "refused for now": True, "not sent": None}[heard])


def _claimed(scene: Scene, heard: list[str], state: dict[str, Any], *, stolen: bool) -> tuple[int, list[AttemptRecord]]:
    with write_transaction(scene.process.engine) as connection:
        for table in (attempts, pending_deliveries, deliveries):
            connection.execute(delete(table))
        hook = connection.scalar(select(webhooks.c.id))
    hook = hook or scene.webhook()
    webhook_with(**state)(scene, hook)
    with write_transaction(scene.process.engine) as connection:
        rows = [_row(scene, number, hook) for number in range(len(heard))]
        stored = insert_deliveries(connection, rows, NewClaims((hook,), TOKEN, LEASE))
        if stolen:
            connection.execute(
                update(pending_deliveries).where(pending_deliveries.c.seq == min(stored.values())).values(claim=8)
            )
    return hook, [_attempted(seq, one) for seq, one in zip(sorted(stored.values()), heard, strict=True)]


def _attempted(seq: int, heard: str) -> AttemptRecord:
    delivered = heard == "delivered"
    return AttemptRecord(
        seq=seq,
        number=1,
        started_at=NOW,
        duration_ms=5,
        outcome="2xx" if delivered else "5xx",
        status_code=200 if delivered else 503,
        error=None,
        response_body="",
        response_truncated=False,
        next_attempt_at=None if delivered else NOW + timedelta(seconds=30),
        final_status="delivered" if delivered else None,
        reason=None,
    )


def _health(heard: list[str]) -> dict[str, bool]:
    delivered = [one == "delivered" for one in heard]
    return {"succeeded": any(delivered), "failed": not all(delivered)}


def _the_longer_way(
    scene: Scene,
    hook: int,
    results: list[AttemptRecord],
    policy: DeliveryPolicy,
    answers: list[CircuitSignal],
    heard: list[str],
    slow: bool,
) -> str:
    with write_transaction(scene.process.engine) as connection:
        record(connection, results, token=TOKEN, now=NOW)
        set_lane(connection, hook, slow=slow)
        turn = update_circuit(connection, hook, policy, answers, NOW)
        disabled = update_health(connection, hook, disable_before=NOW - DISABLE_AFTER, now=NOW, **_health(heard))
    told = turn.transition is not None or turn.circuit.state(NOW) is CircuitState.OPEN or disabled is not None
    return "told" if told else "nothing to tell"


def _in_one_statement(
    scene: Scene,
    hook: int,
    results: list[AttemptRecord],
    policy: DeliveryPolicy,
    answers: list[CircuitSignal],
    heard: list[str],
    slow: bool,
) -> str:
    run = failure_streak_of(policy, answers)
    if run is None:
        return ""
    standing = HealthUpdate(
        streak=run,
        circuit_failures=policy.circuit_failures,
        slow=slow,
        disable_before=NOW - DISABLE_AFTER,
        **_health(heard),
    )
    with write_statement(scene.process.engine) as connection:
        done = record_with_health(connection, hook, results, standing, token=TOKEN, now=NOW)
    if done is None:
        return ""
    with read_transaction(scene.process.engine) as connection:
        assert connection.scalar(select(webhooks.c.failures)) == done[1]
        ended = select(deliveries.c.seq).where(deliveries.c.status == "delivered")
        assert set(connection.scalars(ended)) == done[0]
    return "recorded"


def _seen(scene: Scene, hook: int, heard: list[str]) -> Any:
    """All that recording may change, without what tells one run from the other."""
    columns = [one for one in webhooks.c if one.name not in {"revision", "updated_at", "disabled_reason"}]
    with read_transaction(scene.process.engine) as connection:
        webhook = connection.execute(select(*columns).where(webhooks.c.id == hook)).one()
    first = min(row.seq for row in scene.rows())
    return (
        tuple(webhook),
        [(row.seq - first, row.status, row.reason, row.attempts, row.finished_at) for row in scene.rows()],
        [(one.delivery_seq - first, *tuple(one)[1:]) for one in scene.attempts()],
        [(one.seq - first, *tuple(one)[1:]) for one in scene.pending()],
        len(heard),
    )
