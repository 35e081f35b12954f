"""Batches at the edge of what is expected: those that fire nothing or call nobody, and circuits that close."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from shared.domain.delivery.circuits import Circuit
from shared.domain.events.partitioning import Offset
from shared.storage.database.transactions import read_transaction, write_statement, write_transaction
from shared.storage.delivery.webhook_snapshots import WebhookSnapshot, load_endpoints
from shared.storage.evaluation.new_deliveries import NewClaims, NewDelivery
from shared.storage.evaluation.offsets import read_offset, seed_partitions
from shared.storage.evaluation.optimistic_commit import Committed, commit_optimistically
from tests.integration.scene import Scene, delivery_row

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
CLAIM = NewClaims((), 7, NOW + timedelta(seconds=45))
PARTITION = 1
BEFORE, AFTER = Offset("5-0", 5), Offset("9-0", 7)
NOTHING_DONE = Committed(preconditions_held=False, offset_advanced=False, claimed={})


def _row(scene: Scene, number: int, webhook_id: int | None) -> NewDelivery:
    ended: dict[str, Any] = {"status": "delivered", "payload": None, "finished_at": NOW}
    return delivery_row(scene, number, webhook_id, at=NOW, **({"payload": '{"n": 1}'} if webhook_id else ended))


def _stand(scene: Scene, offset: Offset) -> None:
    with write_transaction(scene.process.engine) as connection:
        seed_partitions(connection, 2, NOW)
        place = {"entry_id": offset.entry_id, "read": offset.entries_read, "of": PARTITION}
        connection.execute(
            text('UPDATE partitions SET "offset" = :entry_id, entries_read = :read WHERE partition = :of'), place
        )


def _read(scene: Scene, *webhook_ids: int) -> list[WebhookSnapshot]:
    with read_transaction(scene.process.engine) as connection:
        return list(load_endpoints(connection, webhook_ids).values())


def _commit(scene: Scene, rows: list[NewDelivery], expected: list[WebhookSnapshot]) -> Committed:
    with write_statement(scene.process.engine) as connection:
        return commit_optimistically(
            connection, PARTITION, rows, expected, CLAIM, since=BEFORE, entry_id=AFTER.entry_id, count=2, now=NOW
        )


def _offset(scene: Scene) -> Offset:
    with read_transaction(scene.process.engine) as connection:
        return read_offset(connection, PARTITION)


def test_entries_that_fire_nothing_move_the_offset(scene: Scene) -> None:
    _stand(scene, BEFORE)
    assert _commit(scene, [], []) == Committed(preconditions_held=True, offset_advanced=True, claimed={})
    assert _offset(scene) == AFTER


def test_an_action_without_a_webhook_expects_none(scene: Scene) -> None:
    _stand(scene, BEFORE)
    assert _commit(scene, [_row(scene, 1, None)], []) == Committed(
        preconditions_held=True, offset_advanced=True, claimed={}
    )
    assert [row.status for row in scene.rows()] == ["delivered"]


def test_nothing_is_done_once_a_circuit_has_closed(scene: Scene) -> None:
    hook = scene.webhook()
    _stand(scene, BEFORE)
    [read] = _read(scene, hook)
    expected = replace(read, circuit=Circuit(opened_at=NOW, probe_at=NOW))
    assert _commit(scene, [_row(scene, 1, hook)], [expected]) == NOTHING_DONE
    assert (scene.rows(), _offset(scene)) == ([], BEFORE)
