"""A batch is committed at once where all is as its maker expects, and else not at all: the same on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from shared.domain.circuits import Circuit
from shared.storage.engine import at_once, reading, writing
from shared.storage.evaluation import Claim, insert_deliveries, read_offset, seed_partitions
from shared.storage.expected import Committed, commit_expected
from shared.storage.queue import EndpointRow, load_endpoints
from shared.streams import Offset
from tests.integration.worker.conftest import Scene

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
CLAIM = Claim((), 7, NOW + timedelta(seconds=45))
PARTITION = 1
BEFORE, AFTER = Offset("5-0", 5), Offset("9-0", 7)
NOTHING_DONE = Committed(as_expected=False, moved=False, claimed={})


def _row(scene: Scene, number: int, webhook_id: int | None) -> dict[str, Any]:
    return {
        "id": f"dlv_{number}",
        "entity_id": scene.entity_id,
        "automation_id": 1,
        "webhook_id": webhook_id,
        "status": "pending" if webhook_id else "delivered",
        "payload": '{"n": 1}' if webhook_id else None,
        "event_id": f"event-{number}",
        "event_source": "/test",
        "event_type": "ADD_ARTIFACT_ALIAS",
        "event_received_at": NOW,
        "created_at": NOW,
        "finished_at": None if webhook_id else NOW,
    }


def _stand(scene: Scene, offset: Offset) -> None:
    with writing(scene.runtime.engine) as connection:
        seed_partitions(connection, 2, NOW)
        place = {"entry_id": offset.entry_id, "read": offset.entries_read, "of": PARTITION}
        connection.execute(
            text('UPDATE partitions SET "offset" = :entry_id, entries_read = :read WHERE partition = :of'), place
        )


def _read(scene: Scene, *webhook_ids: int) -> list[EndpointRow]:
    with reading(scene.runtime.engine) as connection:
        return list(load_endpoints(connection, webhook_ids).values())


def _commit(
    scene: Scene, rows: list[dict[str, Any]], expected: list[EndpointRow], *, claim: Claim = CLAIM
) -> Committed:
    with at_once(scene.runtime.engine) as connection:
        return commit_expected(
            connection, PARTITION, rows, expected, claim, since=BEFORE, entry_id=AFTER.entry_id, count=2, now=NOW
        )


def _offset(scene: Scene) -> Offset:
    with reading(scene.runtime.engine) as connection:
        return read_offset(connection, PARTITION)


def test_all_of_it_is_committed_where_all_is_as_expected(scene: Scene) -> None:
    mine, other = scene.webhook("mine"), scene.webhook("other")
    _stand(scene, BEFORE)
    rows = [_row(scene, 1, mine), _row(scene, 2, other), _row(scene, 3, None)]
    done = _commit(scene, rows, _read(scene, mine, other), claim=replace(CLAIM, webhook_ids=(mine,)))
    assert [row.id for row in scene.rows()] == ["dlv_1", "dlv_2", "dlv_3"]
    first, second, _ = (row.seq for row in scene.rows())
    assert done == Committed(as_expected=True, moved=True, claimed={"dlv_1": first})
    assert _offset(scene) == AFTER
    assert [(row.seq, row.next_attempt_at, row.claim) for row in scene.pending()] == [
        (first, CLAIM.lease_until, CLAIM.token),
        (second, NOW, None),
    ]


def test_entries_that_fire_nothing_move_the_offset(scene: Scene) -> None:
    _stand(scene, BEFORE)
    assert _commit(scene, [], []) == Committed(as_expected=True, moved=True, claimed={})
    assert _offset(scene) == AFTER


def test_an_action_without_a_webhook_expects_none(scene: Scene) -> None:
    _stand(scene, BEFORE)
    assert _commit(scene, [_row(scene, 1, None)], []) == Committed(as_expected=True, moved=True, claimed={})
    assert [row.status for row in scene.rows()] == ["delivered"]


@pytest.mark.parametrize("change", ["enabled = false", "paused = true", "slow = true", "deleted_at = created_at"])
def test_nothing_is_done_once_a_webhook_is_changed(scene: Scene, change: str) -> None:
    same, hook = scene.webhook("same"), scene.webhook("hook")
    _stand(scene, BEFORE)
    expected = _read(scene, same, hook)
    with writing(scene.runtime.engine) as connection:
        connection.execute(text(f"UPDATE webhooks SET {change} WHERE id = {hook}"))
    rows = [_row(scene, 1, same), _row(scene, 2, hook)]
    assert _commit(scene, rows, expected) == NOTHING_DONE
    assert (scene.rows(), _offset(scene)) == ([], BEFORE)


@pytest.mark.parametrize("was_open", [False, True])
def test_nothing_is_done_once_a_circuit_has_turned(scene: Scene, was_open: bool) -> None:
    hook = scene.webhook()
    _stand(scene, BEFORE)
    [read] = _read(scene, hook)
    expected = replace(read, circuit=Circuit(opened_at=NOW, probe_at=NOW)) if was_open else read
    if not was_open:
        with writing(scene.runtime.engine) as connection:
            connection.execute(text(f"UPDATE webhooks SET circuit_opened_at = created_at WHERE id = {hook}"))
    assert _commit(scene, [_row(scene, 1, hook)], [expected]) == NOTHING_DONE
    assert (scene.rows(), _offset(scene)) == ([], BEFORE)


def test_nothing_is_done_once_anything_was_edited(scene: Scene) -> None:
    hook = scene.webhook()
    _stand(scene, BEFORE)
    expected = _read(scene, hook)
    scene.automation(hook)
    assert _commit(scene, [_row(scene, 1, hook)], expected) == NOTHING_DONE
    assert (scene.rows(), _offset(scene)) == ([], BEFORE)


def test_nothing_is_done_where_a_delivery_exists(scene: Scene) -> None:
    hook = scene.webhook()
    _stand(scene, BEFORE)
    with writing(scene.runtime.engine) as connection:
        insert_deliveries(connection, [_row(scene, 1, hook)])
    rows = [_row(scene, 2, hook), _row(scene, 1, hook)]
    assert _commit(scene, rows, _read(scene, hook)) == NOTHING_DONE
    assert ([row.id for row in scene.rows()], _offset(scene)) == (["dlv_1"], BEFORE)


def test_nothing_is_done_where_another_was_faster(scene: Scene) -> None:
    hook = scene.webhook()
    _stand(scene, AFTER)
    done = _commit(scene, [_row(scene, 1, hook)], _read(scene, hook))
    assert done == Committed(as_expected=True, moved=False, claimed={})
    assert (scene.rows(), scene.pending(), _offset(scene)) == ([], [], AFTER)
