"""Drains, edits and deletions at the same moment: nobody overwrites, deadlocks or outwaits anybody."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import pytest
from sqlalchemy import Connection, delete, event, func, select, text, update
from sqlalchemy.exc import DBAPIError

from dispatcher.console.forms import Form
from dispatcher.console.meanwhile import ChangedMeanwhile, refuse_if_changed
from dispatcher.control import deliveries as control_deliveries
from dispatcher.control import webhooks as control_webhooks
from shared.delivery.endpoint import Endpoint
from shared.domain.delivery.circuits import CircuitSignal as CircuitAnswer
from shared.domain.delivery.rate_limit import HORIZON
from shared.domain.delivery.retries import DeliveryPolicy
from shared.http.request import Request
from shared.storage.database import clock
from shared.storage.database import engine as engine_module
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.revisions import lock_edits, next_revision
from shared.storage.definitions.webhooks import WebhookEdit, delete_webhook, find_webhook, update_webhooks
from shared.storage.delivery.abandon import abandon_deliveries
from shared.storage.delivery.circuits import CircuitTransition, update_circuit
from shared.storage.delivery.claims import ClaimedDelivery, claim
from shared.storage.delivery.recording import AttemptRecord, record
from shared.storage.delivery.webhook_health import disable_webhook, update_health
from shared.storage.delivery.webhook_snapshots import load_endpoint, load_secrets
from shared.storage.maintenance.orphaned_deliveries import dead_letter_orphans
from shared.storage.schema.tables import automations, secrets, webhooks
from tests.integration.processes import wait_until
from tests.integration.receiver import Answer, Received
from tests.integration.scene import Scene, alias_event


def _fire(scene: Scene, hook: int, count: int) -> None:
    scene.automation(hook)
    scene.publish(*(alias_event() for _ in range(count)))
    scene.evaluate()


def _claim(scene: Scene, hook: int, limit: int) -> list[ClaimedDelivery]:
    now = datetime.now(UTC)
    with write_transaction(scene.process.engine) as connection:
        return claim(connection, hook, limit=limit, now=now, lease_until=now + timedelta(seconds=60), token=1)


def _attempted(one: ClaimedDelivery, now: datetime, *, final_status: str | None) -> AttemptRecord:
    return AttemptRecord(
        seq=one.seq,
        number=1,
        started_at=now,
        duration_ms=1,
        outcome="2xx" if final_status else "5xx",
        status_code=204 if final_status else 500,
        error=None,
        response_body="",
        response_truncated=False,
        next_attempt_at=None if final_status else now,
        final_status=final_status,
        reason=None,
    )


def _delete(scene: Scene, hook: int) -> int:
    with write_transaction(scene.process.engine) as connection:
        now = datetime.now(UTC)
        buried = abandon_deliveries(connection, hook, reason="deleted", now=now)
        stored = find_webhook(connection, scene.entity_id, webhook_id=hook)
        assert stored is not None
        delete_webhook(connection, stored, revision=next_revision(connection), now=now)
        return buried


def test_what_is_underway_when_its_webhook_is_deleted_ends_as_it_ends(scene: Scene) -> None:
    hook = scene.webhook()
    _fire(scene, hook, 4)
    delivered, failed = _claim(scene, hook, 2)
    assert _delete(scene, hook) == 2
    now = datetime.now(UTC)
    with write_transaction(scene.process.engine) as connection:
        results = [
            _attempted(delivered, now, final_status="delivered"),
            _attempted(failed, now, final_status=None),
        ]
        assert record(connection, results, token=1, now=now) == {delivered.seq}
        assert dead_letter_orphans(connection, reason="deleted", now=now) == 1
    assert [row.status for row in scene.rows()] == ["delivered", "dead", "dead", "dead"]
    assert [row.attempts for row in scene.rows()] == [1, 1, 0, 0]


def test_deleting_a_webhook_waits_for_no_worker_that_records(scene: Scene) -> None:
    if scene.settings.sqlalchemy_url.startswith("sqlite"):
        pytest.skip("SQLite has one writer at a time")
    hook = scene.webhook()
    _fire(scene, hook, 3)
    first, second = _claim(scene, hook, 2)
    now = datetime.now(UTC)
    with ThreadPoolExecutor() as pool, write_transaction(scene.process.engine) as connection:
        record(connection, [_attempted(first, now, final_status=None)], token=1, now=now)
        # Were it to wait for the first while it holds the second, neither could go on.
        assert pool.submit(_delete, scene, hook).result(timeout=60) == 1
        assert record(connection, [_attempted(second, now, final_status="delivered")], token=1, now=now)


def test_a_late_recorder_and_the_deletion_of_its_webhook_do_not_wait_for_one_another(scene: Scene) -> None:
    if scene.settings.sqlalchemy_url.startswith("sqlite"):
        pytest.skip("SQLite has one writer at a time")
    hook = scene.webhook()
    _fire(scene, hook, 2)
    now = datetime.now(UTC)
    with write_transaction(scene.process.engine) as connection:
        over = now - timedelta(seconds=1)
        first, _ = claim(connection, hook, limit=2, now=now, lease_until=over, token=1)
    with ThreadPoolExecutor() as pool:
        with write_transaction(scene.process.engine) as connection:
            # As where failures are recorded in one statement: the webhook's row, and then those of the deliveries.
            update_health(connection, hook, succeeded=False, failed=True, disable_before=over, now=now)
            deletion = pool.submit(_delete, scene, hook)
            wait_until(lambda: _waits_for_lock(scene) or deletion.done(), "the deletion to wait")
            assert record(connection, [_attempted(first, now, final_status="delivered")], token=1, now=now)
        assert deletion.result(timeout=60) == 1
    assert [row.status for row in scene.rows()] == ["delivered", "dead"]


def _waits_for_lock(scene: Scene, number: int = 1) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with read_transaction(scene.process.engine) as connection:
        return bool(connection.execute(text(query)).scalar_one() >= number)


def test_an_edit_does_not_undo_that_a_worker_disabled_the_webhook(scene: Scene) -> None:
    hook = scene.webhook()
    with read_transaction(scene.process.engine) as connection:
        stored = find_webhook(connection, scene.entity_id, webhook_id=hook)
    assert stored is not None
    now = datetime.now(UTC)
    with write_transaction(scene.process.engine) as connection:
        assert disable_webhook(connection, hook, reason="gone", now=now)
    with write_transaction(scene.process.engine) as connection:
        edit = WebhookEdit(
            stored=stored,
            after=replace(stored.fields, name="renamed"),
            revision=next_revision(connection),
            clear_failures=False,
        )
        update_webhooks(connection, [edit], secret_ids={}, now=now)
    with read_transaction(scene.process.engine) as connection:
        edited = find_webhook(connection, scene.entity_id, webhook_id=hook)
    assert edited is not None
    assert (edited.fields.name, edited.fields.enabled, edited.disabled_reason) == ("renamed", False, "gone")


def test_leases_and_slots_count_from_when_a_drain_was_let_in(scene: Scene) -> None:
    hook = scene.webhook(policy={"rate_limit": "20/s", "timeout_seconds": 5})
    _fire(scene, hook, 40)
    arrived, let_go = threading.Event(), threading.Event()

    def hold(_request: Received) -> Answer:
        arrived.set()
        let_go.wait(60)
        return Answer()

    scene.receiver.answer = hold
    with ThreadPoolExecutor() as pool:
        with write_transaction(scene.process.engine) as connection:
            connection.execute(update(webhooks).where(webhooks.c.id == hook).values(name="held"))
            drain = pool.submit(scene.process.webhooks.drain, hook)
            wait_until(lambda: bool(scene.redis.exists(f"hookline:drain:webhook:{hook}:0")), "start of the drain")
            time.sleep(0.5)  # it waits for the row; were it slow to do so, nothing would fail
            let_in_at = scene.process.clock.estimate()
        assert arrived.wait(60)
        claimed = [row for row in scene.pending() if row.claim is not None]
        let_go.set()
        drain.result(timeout=60)
    scene.settle()
    assert claimed
    longest = timedelta(seconds=5) + HORIZON
    assert min(row.next_attempt_at for row in claimed) >= let_in_at + longest + scene.settings.lease_margin
    with read_transaction(scene.process.engine) as connection:
        slot = connection.scalar(select(webhooks.c.next_slot_at).where(webhooks.c.id == hook))
    assert slot is not None
    assert slot >= let_in_at + timedelta(seconds=0.9)


def test_a_delivery_that_we_fail_to_write_keeps_no_other_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = scene.webhook()
    _fire(scene, hook, 5)
    bad = scene.pending()[2].seq
    write = Endpoint.request

    def fails(self: Endpoint, delivery: ClaimedDelivery, now: datetime) -> Request:
        if delivery.seq == bad:
            raise ZeroDivisionError
        return write(self, delivery, now)

    monkeypatch.setattr(Endpoint, "request", fails)
    scene.process.webhooks.drain(hook)
    scene.settle()
    assert len(scene.receiver.requests) == 4
    ended: dict[int, Any] = {row.seq: row for row in scene.rows()}
    assert ended.pop(bad).status == "dead"
    assert {row.status for row in ended.values()} == {"delivered"}
    errors = [one.error for one in scene.attempts() if one.delivery_seq == bad]
    assert errors == ["a fault in Hookline, not in the endpoint (ZeroDivisionError)"]


def test_no_thread_wants_a_second_connection_while_it_holds_one(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "LOOK_SECONDS", 0.0)  # it looks whenever it is asked
    holds: Counter[int] = Counter()
    at_once: list[int] = []

    def taken(*_args: object) -> None:
        holds[threading.get_ident()] += 1
        at_once.append(holds[threading.get_ident()])

    def given_back(*_args: object) -> None:
        holds[threading.get_ident()] -= 1

    event.listen(scene.process.engine, "checkout", taken)
    event.listen(scene.process.engine, "checkin", given_back)
    hooks = (
        scene.webhook("plain"),
        scene.webhook("limited", policy={"rate_limit": "500/s"}),
        scene.webhook("failing", policy={"schedule_seconds": (0.01,), "circuit_failures": 2}),
    )
    scene.receiver.answer = lambda request: Answer(503 if request.path == "/failing" else 200)
    for hook in hooks:
        _fire(scene, hook, 5)
    for hook in hooks:
        scene.process.webhooks.drain(hook)
    scene.settle()
    assert Counter(row.status for row in scene.rows() if row.webhook_id != hooks[-1]) == {"delivered": 25}
    assert set(at_once) == {1}


def test_a_webhook_that_is_edited_while_it_is_read_keeps_its_token(scene: Scene) -> None:
    scene.secret("OLD", "old-token")
    scene.secret("NEW", "new-token")
    hook = scene.webhook(access_token="OLD")
    other = open_engine(scene.settings)
    edits: list[int] = []

    def edit(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "FROM webhooks" in statement and not edits:
            edits.append(hook)
            with write_transaction(other) as connection:
                renewed = {"access_token_secret_id": scene.secret_ids["NEW"]}
                connection.execute(update(webhooks).where(webhooks.c.id == hook).values(renewed))
                connection.execute(delete(secrets).where(secrets.c.id == scene.secret_ids["OLD"]))

    event.listen(scene.process.engine, "after_cursor_execute", edit)
    with read_transaction(scene.process.engine) as connection:
        row = load_endpoint(connection, hook)
        assert row is not None
        token = load_secrets(connection, row).access_token
    other.dispose()
    assert edits
    assert token is not None
    assert scene.process.vault.decrypt(token) == "old-token"


@pytest.fixture
def impatient(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A scene on PostgreSQL that ends transactions in which nothing happens for a moment."""
    if scene.process.engine.dialect.name != "postgresql":
        pytest.skip("SQLite's transactions end with their process")
    monkeypatch.setitem(engine_module.SESSION, "idle_in_transaction_session_timeout", 300)
    scene.process.engine.dispose()
    return scene


def test_who_stands_still_in_a_transaction_locks_nobody_out(impatient: Scene) -> None:
    hook = impatient.webhook()
    rename = update(webhooks).where(webhooks.c.id == hook)
    with impatient.process.engine.connect() as still:
        still.execute(rename.values(name="still"))
        with write_transaction(impatient.process.engine) as connection:
            connection.execute(text("SET LOCAL lock_timeout = '20s'"))
            connection.execute(rename.values(name="other"))
        with pytest.raises(DBAPIError):
            still.execute(rename.values(name="late"))
        still.invalidate()


def test_outcomes_are_recorded_by_who_stood_still_while_recording(
    impatient: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of what is given up others are told, in a transaction. Else there is one statement, in which nobody can stand.
    hook = impatient.webhook(policy={"schedule_seconds": ()})
    impatient.receiver.answer = lambda _request: Answer(status=500)
    _fire(impatient, hook, 3)
    stood: list[int] = []

    def note_late(
        connection: Connection, webhook_id: int, policy: DeliveryPolicy, answers: Sequence[CircuitAnswer], now: datetime
    ) -> CircuitTransition:
        if not stood:
            stood.append(webhook_id)
            time.sleep(1)
        return update_circuit(connection, webhook_id, policy, answers, now)

    monkeypatch.setattr("worker.delivery.recorder.update_circuit", note_late)
    impatient.process.webhooks.drain(hook)
    impatient.settle()
    assert stood
    assert len(impatient.receiver.requests) == 3
    assert {row.status for row in impatient.rows()} == {"dead"}


class _Ahead(datetime):
    """The clock of a host that is an hour ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> _Ahead:
        return super().now(tz) + timedelta(hours=1)


def test_an_api_whose_clock_is_ahead_ends_no_attempt_and_holds_no_replay_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    if scene.process.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no clock but its machine's")
    for module in (control_webhooks, control_deliveries):
        monkeypatch.setattr(module, "datetime", _Ahead)
    hook, doomed = scene.webhook("kept"), scene.webhook("doomed")
    _fire(scene, hook, 1)
    scene.deliver()
    with write_transaction(scene.process.engine) as connection:
        control_deliveries._replay(connection, [scene.rows()[0].seq])
    (replayed,) = scene.pending()
    assert replayed.next_attempt_at <= scene.process.clock.now() + timedelta(seconds=30)
    _fire(scene, doomed, 2)
    underway = _claim(scene, doomed, 1)
    with write_transaction(scene.process.engine) as connection:
        stored = find_webhook(connection, scene.entity_id, webhook_id=doomed)
        assert stored is not None
        connection.execute(update(automations).values(deleted_at=func.now()))
        control_webhooks.remove_webhook(connection, stored, by="alice")
    assert [row.seq for row in scene.pending() if row.webhook_id == doomed] == [underway[0].seq]


def test_of_two_who_save_a_form_at_the_same_moment_one_is_refused(scene: Scene) -> None:
    if scene.settings.sqlalchemy_url.startswith("sqlite"):
        pytest.skip("SQLite has one writer at a time")
    hook = scene.webhook()

    def revision(connection: Connection) -> int:
        return int(connection.execute(select(webhooks.c.revision).where(webhooks.c.id == hook)).scalar_one())

    with read_transaction(scene.process.engine) as connection:
        form = Form({"revision": [str(revision(connection))]})

    def save() -> None:
        with write_transaction(scene.process.engine) as connection:
            refuse_if_changed(connection, form, "webhook", lambda: revision(connection))
            changed = update(webhooks).where(webhooks.c.id == hook).values(revision=next_revision(connection))
            connection.execute(changed)

    with ThreadPoolExecutor() as pool:
        with write_transaction(scene.process.engine) as connection:
            lock_edits(connection)
            saved = [pool.submit(save) for _ in range(2)]
            wait_until(lambda: _waits_for_lock(scene, 2), "both to wait")
        refused = [one.exception(timeout=60) for one in saved]
    assert [type(one) for one in refused if one is not None] == [ChangedMeanwhile]
