"""What a batch stores, claims and records is the same on both databases, however many rows and whatever is in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest

from shared.storage.database.transactions import write_transaction
from shared.storage.delivery.claims import ClaimedDelivery, claim
from shared.storage.delivery.recording import AttemptRecord, RecordedSuccesses, Successes, record, record_successes
from shared.storage.evaluation.new_deliveries import NewClaims, NewDelivery, insert_deliveries
from tests.integration.scene import Scene, delivery_row

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
LEASE = NOW + timedelta(seconds=45)
TOKEN = (1 << 62) - 1


_row = partial(delivery_row, at=NOW)


def _insert(scene: Scene, rows: list[NewDelivery], claim: NewClaims | None = None) -> dict[str, int]:
    with write_transaction(scene.process.engine) as connection:
        return insert_deliveries(connection, rows, claim)


def _claim(scene: Scene, webhook_id: int, *, limit: int = 1_000, token: int = TOKEN) -> list[ClaimedDelivery]:
    with write_transaction(scene.process.engine) as connection:
        return claim(connection, webhook_id, limit=limit, now=NOW, lease_until=LEASE, token=token)


def _delivered(seq: int, **fields: Any) -> AttemptRecord:
    values: dict[str, Any] = {
        "seq": seq,
        "number": 1,
        "started_at": NOW,
        "duration_ms": 12,
        "outcome": "2xx",
        "status_code": 200,
        "error": None,
        "response_body": "ok",
        "response_truncated": False,
        "next_attempt_at": None,
        "final_status": "delivered",
        "reason": None,
    }
    return AttemptRecord(**values | fields)


@pytest.mark.parametrize("count", [1, 127, 300])
def test_of_a_batch_what_is_claimed_is_told_and_the_rest_is_due(scene: Scene, count: int) -> None:
    mine, other = scene.webhook("mine"), scene.webhook("other")
    rows = [_row(scene, number, (mine, other)[number % 2]) for number in range(2 * count)]
    rows.append(_row(scene, -1, mine, status="skipped", reason="cooldown", finished_at=NOW))
    stored = _insert(scene, rows, NewClaims((mine,), TOKEN, LEASE))
    seqs = {row.id: row.seq for row in scene.rows()}
    assert [row.id for row in scene.rows()] == [row["id"] for row in rows]
    assert stored == {f"dlv_{number}": seqs[f"dlv_{number}"] for number in range(0, 2 * count, 2)}
    assert [(row.seq, row.webhook_id, row.attempts, row.next_attempt_at, row.claim) for row in scene.pending()] == [
        (seqs[row["id"]], row["webhook_id"], 0, *((LEASE, TOKEN) if row["webhook_id"] == mine else (NOW, None)))
        for row in rows[:-1]
    ]


def test_what_was_stored_before_is_neither_stored_nor_queued_again(scene: Scene) -> None:
    hook = scene.webhook()
    _insert(scene, [_row(scene, number, hook) for number in range(40)])
    [*before] = scene.pending()
    again = [_row(scene, number, hook, payload='{"again": 1}') for number in range(20, 60)]
    stored = _insert(scene, again, NewClaims((hook,), TOKEN, LEASE))
    assert set(stored) == {f"dlv_{number}" for number in range(40, 60)}
    assert scene.pending()[:40] == before
    assert [row.payload for row in scene.rows()] == ["{}"] * 40 + ['{"again": 1}'] * 20


def test_a_claim_gives_all_there_is_to_know_of_a_delivery(scene: Scene) -> None:
    hook = scene.webhook()
    payloads = [
        '{"n": "snow ☃ \\u0000 \\"quoted\\" 𝄞"}',
        '{"n": "' + "ü" * 20_000 + '"}',
        None,
        '{"n": "' + "x" * 15_000 + '"}',
    ]
    received = datetime(2026, 11, 23, 11, 30, 0, 7, tzinfo=timezone(timedelta(hours=2)))
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    rows = [
        _row(scene, number, hook, payload=payload, event_received_at=received, traceparent=parent, automation_id=None)
        for number, payload in enumerate(payloads)
    ]
    _insert(scene, rows)
    seqs = [row.seq for row in scene.rows()]
    assert _claim(scene, hook) == [
        ClaimedDelivery(
            seq=seq,
            id=f"dlv_{number}",
            payload=payload or "{}",
            attempts=0,
            event_received_at=received,
            due_at=NOW,
            automation_id=None,
            entity="acme",
            event_id=f"event-{number}",
            event_source="/test",
            event_type="ADD_ARTIFACT_ALIAS",
            traceparent=parent,
        )
        for number, (seq, payload) in enumerate(zip(seqs, payloads, strict=True))
    ]
    assert {(row.next_attempt_at, row.claim) for row in scene.pending()} == {(LEASE, TOKEN)}


def test_what_is_longest_due_is_claimed_first(scene: Scene) -> None:
    hook = scene.webhook()
    minutes = (3, 1, 2, 0)
    rows = [_row(scene, ago, hook, created_at=NOW - timedelta(minutes=ago)) for ago in minutes]
    _insert(scene, rows)
    assert [one.id for one in _claim(scene, hook, limit=2)] == ["dlv_3", "dlv_2"]
    assert [one.id for one in _claim(scene, hook)] == ["dlv_1", "dlv_0"]


@pytest.mark.parametrize(("enabled", "paused"), [(False, False), (True, True)])
def test_nothing_is_claimed_for_a_webhook_that_takes_nothing(scene: Scene, enabled: bool, paused: bool) -> None:
    hook = scene.webhook(enabled=enabled, paused=paused)
    _insert(scene, [_row(scene, 1, hook)])
    assert _claim(scene, hook) == []
    assert [row.claim for row in scene.pending()] == [None]


def test_a_batch_that_all_went_well_is_recorded_whole(scene: Scene) -> None:
    hook = scene.webhook()
    _insert(scene, [_row(scene, number, hook) for number in range(150)])
    mine = [one.seq for one in _claim(scene, hook, limit=140)]
    others = [one.seq for one in _claim(scene, hook, token=5)]
    results = [_delivered(seq) for seq in mine + others]
    with write_transaction(scene.process.engine) as connection:
        recorded = record_successes(connection, [Successes(hook, TOKEN, results)], now=LEASE)
    assert recorded == RecordedSuccesses(frozenset(set(mine)), frozenset())
    assert [row.seq for row in scene.pending()] == others
    ends = [(row.seq, row.status, row.attempts, row.finished_at) for row in scene.rows()]
    assert ends == [(seq, "delivered", 1, LEASE) for seq in mine] + [(seq, "pending", 0, None) for seq in others]
    assert [(row.delivery_seq, row.claim, row.started_at, row.response_truncated) for row in scene.attempts()] == [
        (seq, TOKEN, NOW, False) for seq in mine + others
    ]


def test_where_there_are_failures_to_forget_nothing_is_recorded_so(scene: Scene) -> None:
    hook = scene.webhook()
    _insert(scene, [_row(scene, 1, hook)])
    [one] = _claim(scene, hook)
    with write_transaction(scene.process.engine) as connection:
        connection.exec_driver_sql(f"UPDATE webhooks SET failures = 1 WHERE id = {hook}")
        recorded = record_successes(connection, [Successes(hook, TOKEN, [_delivered(one.seq)])], now=NOW)
    assert recorded == RecordedSuccesses(frozenset(), frozenset({hook}))
    assert scene.attempts() == []
    assert [row.claim for row in scene.pending()] == [TOKEN]


def test_webhooks_are_recorded_together_each_under_its_own_claim_but_for_those_that_failed(scene: Scene) -> None:
    hooks = [scene.webhook(name=f"hook-{number}") for number in range(3)]
    _insert(scene, [_row(scene, number, hooks[number % 3]) for number in range(30)])
    claimed = [[one.seq for one in _claim(scene, hook, token=TOKEN + hook)] for hook in hooks]
    others = [claimed[0].pop(), claimed[1].pop()]  # of each other's claims, as after a lease that ran out
    several = [
        Successes(hooks[number], TOKEN + hooks[number], list(map(_delivered, claimed[number]))) for number in (0, 1, 2)
    ]
    several[0] = Successes(hooks[0], TOKEN + hooks[0], [*several[0].results, _delivered(others[1])])
    with write_transaction(scene.process.engine) as connection:
        connection.exec_driver_sql(f"UPDATE webhooks SET failures = 1 WHERE id = {hooks[2]}")
        recorded = record_successes(connection, several, now=LEASE)
    assert recorded == RecordedSuccesses(frozenset({*claimed[0], *claimed[1]}), frozenset({hooks[2]}))
    assert {row.seq for row in scene.pending()} == {*others, *claimed[2]}
    assert {row.delivery_seq for row in scene.attempts()} == {*claimed[0], *claimed[1], others[1]}


def test_each_end_of_a_mixed_batch_is_its_own(scene: Scene) -> None:
    hook = scene.webhook()
    _insert(scene, [_row(scene, number, hook) for number in range(4)])
    well, refused, again, dead = (one.seq for one in _claim(scene, hook))
    results = [
        _delivered(well),
        _delivered(refused, outcome="4xx", status_code=400, final_status="refused", reason="HTTP 400"),
        _delivered(again, outcome="5xx", status_code=503, final_status=None, next_attempt_at=LEASE),
        _delivered(
            dead, outcome="timeout", status_code=None, error="no answer", final_status="dead", reason="no answer"
        ),
    ]
    with write_transaction(scene.process.engine) as connection:
        assert record(connection, results, token=TOKEN, now=NOW) == {well, refused, dead}
    assert [(row.status, row.unfulfilled, row.reason) for row in scene.rows()] == [
        ("delivered", None, None),
        ("refused", "refused", "HTTP 400"),
        ("pending", None, None),
        ("dead", "dead", "no answer"),
    ]
    assert [(row.seq, row.attempts, row.next_attempt_at, row.claim) for row in scene.pending()] == [
        (again, 1, LEASE, None)
    ]
    assert [(row.outcome, row.status_code, row.error) for row in scene.attempts()] == [
        ("2xx", 200, None),
        ("4xx", 400, None),
        ("5xx", 503, None),
        ("timeout", None, "no answer"),
    ]
