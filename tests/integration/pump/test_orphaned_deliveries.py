"""A firing that was committed while its webhook was being deleted becomes a dead letter, and is counted as one."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from prometheus_client import REGISTRY
from sqlalchemy import update

from dispatcher.pump.pump import Pump
from shared.storage.database.transactions import write_transaction
from shared.storage.delivery.claims import claim
from shared.storage.maintenance.orphaned_deliveries import dead_letter_orphans
from shared.storage.schema.tables import webhooks
from tests.integration.scene import Scene, alias_event

DEADLINE_SECONDS = 60


def orphan(scene: Scene, count: int = 3) -> int:
    """Deliveries that are pending for a webhook which was deleted in the meantime."""
    hook = scene.webhook("doomed")
    scene.automation(hook)
    scene.publish(*(alias_event(collection=f"c{number}") for number in range(count)))
    scene.evaluate()
    with write_transaction(scene.process.engine) as connection:
        connection.execute(update(webhooks).where(webhooks.c.id == hook).values(deleted_at=datetime.now(UTC)))
    return hook


def test_orphans_are_buried_and_others_are_left_alone(scene: Scene) -> None:
    orphan(scene)
    scene.automation(scene.webhook("alive"))
    scene.publish(alias_event(event_id="alive"))
    scene.evaluate()
    now = datetime.now(UTC)
    with write_transaction(scene.process.engine) as connection:
        assert dead_letter_orphans(connection, reason="the webhook was deleted", now=now) == 3
        assert dead_letter_orphans(connection, reason="the webhook was deleted", now=now) == 0

    ended = [(row.status, row.reason, row.finished_at) for row in scene.rows() if row.event_id != "alive"]
    assert ended == [("dead", "the webhook was deleted", now)] * 3
    assert len(scene.pending()) == 1


def test_an_attempt_underway_may_end_before_its_orphan_is_buried(scene: Scene) -> None:
    hook = scene.webhook("doomed")
    scene.automation(hook)
    scene.publish(alias_event())
    scene.evaluate()
    now = datetime.now(UTC)
    until = now + timedelta(seconds=60)
    with write_transaction(scene.process.engine) as connection:
        assert len(claim(connection, hook, limit=1, now=now, lease_until=until, token=1)) == 1
        connection.execute(update(webhooks).where(webhooks.c.id == hook).values(deleted_at=now))
        assert dead_letter_orphans(connection, reason="gone", now=now) == 0
        assert dead_letter_orphans(connection, reason="gone", now=until) == 1


def test_the_pump_s_sweep_finds_them_and_counts_them(scene: Scene) -> None:
    orphan(scene)
    before = REGISTRY.get_sample_value("hookline_deliveries_total", {"outcome": "dead"}) or 0.0
    pump = Pump(scene.settings)
    pump.start()
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while scene.pending() and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        pump.stop()
    assert [row.status for row in scene.rows()] == ["dead"] * 3
    assert REGISTRY.get_sample_value("hookline_deliveries_total", {"outcome": "dead"}) == before + 3
