"""Runs that go on from a checkpoint, and samples that are no numbers, from the stream to deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select

from shared.domain.events.decoding import check_event
from shared.domain.events.partitioning import partition_of
from shared.messaging.streams import FIELD, stream_key
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.automations import (
    AutomationFields,
    StoredAutomation,
    find_automation,
    update_automations,
)
from shared.storage.definitions.revisions import next_revision
from shared.storage.schema.tables import metric_windows, poison_entries
from tests.integration.scene import Scene, metric_event, state_event

ABOVE: dict[str, Any] = {
    "event": "RUN_METRIC",
    "cooldown": None,
    "conditions": [{"metric": "loss", "op": "$gt", "threshold": 5}],
}
ODD: dict[str, Any] = {"event": "RUN_METRIC", "cooldown": None, "conditions": [{"metric": "loss", "finite": False}]}


def fired(scene: Scene) -> list[str]:
    return [row.event_id for row in scene.rows()]


def logged(*steps: int | None, loss: float | str | None = 99, **more: Any) -> list[Any]:
    return [metric_event(step, loss=loss, **more) for step in steps]


@pytest.mark.parametrize("together", [True, False])
def test_a_run_that_starts_again_is_watched_below_its_last_step(scene: Scene, *, together: bool) -> None:
    scene.automation(None, **ABOVE)
    before = logged(10, 20, 100, loss=1)
    spike = logged(60, 70, 80, 90)
    repeated = state_event("running", event_id="start-1")
    events = [repeated, *before, *logged(50), repeated, *logged(55), state_event("running"), *spike, *logged(60)]
    publish(scene, events, together=together)
    assert fired(scene) == [spike[0]["id"]]


def test_samples_without_a_rising_step_count_in_their_order(scene: Scene) -> None:
    scene.automation(None, **ABOVE | {"conditions": [ABOVE["conditions"][0] | {"aggregate": "MIN", "window": 3}]})
    zeros = logged(0, 0, 0, run="mlflow")
    without = logged(None, None, None, run="plain")
    publish(scene, [zeros[0], zeros[0], zeros[1], without[0], without[1], without[1], without[0]], together=True)
    assert fired(scene) == []
    publish(scene, [zeros[2], without[2]], together=False)
    assert sorted(fired(scene)) == sorted([zeros[2]["id"], without[2]["id"]])


def test_starts_are_kept_only_where_metrics_are_watched(scene: Scene) -> None:
    scene.automation(None, event="RUN_STATE", states=["running"])
    publish(scene, [state_event("running")], together=True)
    assert stored_starts(scene) == 0
    scene.automation(None, **ABOVE, scope={"project": "digits"})
    publish(scene, [state_event("running", run="r2"), state_event("finished", run="r3")], together=True)
    assert stored_starts(scene) == 1


def test_what_is_no_number_fires_once_and_is_no_recovery(scene: Scene) -> None:
    scene.automation(None, **ABOVE)
    odd = scene.automation(None, **ODD)
    texts = [
        orjson.dumps(event)
        for event in [*logged(1, loss=6), *logged(2, loss="NaN"), *logged(3, loss=6), *logged(4, loss=None)]
    ]
    bare = metric_event(5, loss=0.125)
    texts.append(orjson.dumps(bare).replace(b"0.125", b"NaN"))
    partition = partition_of(check_event(bare), scene.settings.partitions)
    for text in texts:
        scene.redis.xadd(stream_key(partition), {FIELD: text})
        scene.evaluate()
    ids = [orjson.loads(text.replace(b":NaN", b":0"))["id"] for text in texts]
    assert [(row.event_id, row.automation_id == odd) for row in scene.rows()] == [
        (ids[0], False),
        (ids[1], True),
        (ids[3], True),
    ]
    with read_transaction(scene.process.engine) as connection:
        assert connection.scalar(select(func.count()).select_from(poison_entries)) == 0


def test_a_sample_that_was_ignored_is_shown_with_its_automation_until_it_is_edited(scene: Scene) -> None:
    number = scene.automation(None, **ABOVE)
    publish(scene, logged(10, 60, 50, 40, loss=1), together=True)
    stored = automation_of(scene, number)
    about = {"project": "digits", "run": "r1", "metric": "loss", "step": 40, "last_step": 60}
    assert (stored.ignored_sample, stored.ignored_at is None) == (about, False)
    publish(scene, logged(30), together=True)
    assert automation_of(scene, number).ignored_sample == about, "at most once an hour"
    with write_transaction(scene.process.engine) as connection:
        revision = next_revision(connection)
        row = {**AUTOMATION_COLUMNS, "definition": stored.definition, "epoch": revision}
        edit = stored, AutomationFields(**row), revision
        update_automations(connection, [edit], now=stored.updated_at, by="alice")
    assert automation_of(scene, number).ignored_sample is None


AUTOMATION_COLUMNS: dict[str, Any] = {
    "name": "edited",
    "enabled": True,
    "event_type": "RUN_METRIC",
    "scope_project": None,
    "scope_collection": None,
    "webhook_id": None,
}


def automation_of(scene: Scene, number: int) -> StoredAutomation:
    with read_transaction(scene.process.engine) as connection:
        found = find_automation(connection, scene.entity_id, automation_id=number)
    assert found is not None
    return found


def publish(scene: Scene, events: Sequence[Any], *, together: bool) -> None:
    """Publish events and evaluate them: at the end, or after each."""
    for event in events:
        scene.publish(event)
        if not together:
            scene.evaluate()
    scene.evaluate()


def stored_starts(scene: Scene) -> int:
    query = select(func.count()).select_from(metric_windows).where(metric_windows.c.automation_id == 0)
    with read_transaction(scene.process.engine) as connection:
        return connection.scalar(query) or 0
