"""Replays are sent in the order of the deliveries that they repeat, however many and on whichever database."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, select

from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.delivery.claims import claim
from shared.storage.delivery.history import DeliveryFilter, DeliveryStatus
from shared.storage.delivery.replay import list_replayable, replay
from shared.storage.schema.tables import deliveries
from tests.integration.scene import Scene

COUNT = 2_500
"""More than are replayed in one statement."""
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def _dead_letters(scene: Scene, hook: int) -> list[str]:
    """Dead letters of a webhook, among others'; their ids are in no order."""
    ids = [f"dlv_{number}" for number in random.Random(7).sample(range(10**6), 2 * COUNT)]
    rows = [
        {
            "id": id_,
            "entity_id": scene.entity_id,
            "automation_id": 1,
            "webhook_id": hook,
            "status": "dead" if number % 2 else "delivered",
            "payload": "{}",
            "event_id": id_,
            "event_source": "/test",
            "event_type": "ADD_ARTIFACT_ALIAS",
            "event_received_at": NOW,
            "created_at": NOW,
        }
        for number, id_ in enumerate(ids)
    ]
    with write_transaction(scene.process.engine) as connection:
        connection.execute(insert(deliveries), rows)
    return ids[1::2]


@pytest.mark.parametrize("interval", [timedelta(), timedelta(milliseconds=10)])
def test_replays_are_claimed_in_the_order_of_the_old_ones(scene: Scene, interval: timedelta) -> None:
    hook = scene.webhook()
    dead = _dead_letters(scene, hook)
    with write_transaction(scene.process.engine) as connection:
        found = list_replayable(
            connection, scene.entity_id, DeliveryFilter(statuses=(DeliveryStatus.DEAD,)), limit=COUNT
        )
        replay(connection, found, NOW, interval=interval)
    later = NOW + interval * COUNT
    claimed: list[int] = []
    while True:
        with write_transaction(scene.process.engine) as connection:
            batch = claim(connection, hook, limit=400, now=later, lease_until=later + timedelta(hours=1), token=1)
        if not batch:
            break
        claimed += [one.seq for one in batch]
    with read_transaction(scene.process.engine) as connection:
        query = select(deliveries.c.seq, deliveries.c.replay_of).where(deliveries.c.replay_of.is_not(None))
        of = {row.seq: row.replay_of for row in connection.execute(query)}
    assert [of[seq] for seq in claimed] == dead
