"""Automations that cost too much, or that are beyond a limit: they match nothing, others go on, and owners are told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import select, update

from dispatcher.pump.notices import append_notices
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.revisions import next_revision
from shared.storage.schema.tables import automations, notices
from tests.integration.scene import Scene, alias_event
from worker.evaluation.quiet_reports import SILENCE

# 20 kB of a text take 40,000,000 units.
SLOW_PATTERN = "(?:a?b?){490}c"


def long_event(**fields: Any) -> Any:
    return alias_event(artifact={"id": "a", "version": "v3", "metadata": {"k": "ab" * 10_000}}, **fields)


def stored(scene: Scene, automation_id: int) -> Any:
    with read_transaction(scene.process.engine) as connection:
        return connection.execute(select(automations).where(automations.c.id == automation_id)).one()


def told(scene: Scene) -> list[Any]:
    with read_transaction(scene.process.engine) as connection:
        return [orjson.loads(event) for event in connection.scalars(select(notices.c.event).order_by(notices.c.id))]


def test_owners_are_told_once_in_a_while_of_a_filter_that_costs_too_much(scene: Scene) -> None:
    costly = scene.automation(None, filter={"metadata.k": {"$regex": SLOW_PATTERN}})
    other = scene.automation(None, filter={"alias": "prod"})
    watching = scene.automation(None, event="AUTOMATION_UNMATCHED", filter={"reason": {"$contains": "units of work"}})
    scene.publish(*(long_event(event_id=f"e{n}") for n in range(5)))
    scene.evaluate()
    assert {row.automation_id for row in scene.rows()} == {other}
    assert len(scene.rows()) == 5
    [notice] = told(scene)
    assert notice["type"] == "AUTOMATION_UNMATCHED"
    assert notice["data"]["automation"]["id"] == f"aut_{costly}"
    assert "8,000,000 units of work" in notice["data"]["reason"]
    row = stored(scene, costly)
    assert row.unmatched_reason == notice["data"]["reason"]
    assert row.unmatched_at is not None
    assert append_notices(scene.process.engine, scene.redis, scene.settings.partitions) == 1
    scene.evaluate()
    assert scene.rows()[-1].automation_id == watching

    # Another process would tell it again as soon as it is over.
    scene.process.evaluator._unmatched._reports._told.clear()
    scene.publish(long_event())
    scene.evaluate()
    assert told(scene) == []
    scene.clock.advance(SILENCE.total_seconds())
    scene.process.evaluator._unmatched._reports._told.clear()
    scene.publish(long_event())
    scene.evaluate()
    assert len(told(scene)) == 1


def test_a_short_text_matches_the_same_filter(scene: Scene) -> None:
    costly = scene.automation(None, filter={"metadata.type": {"$regex": "(?:l?m?){490}"}})
    scene.publish(alias_event())
    scene.evaluate()
    assert [row.automation_id for row in scene.rows()] == [costly]
    assert told(scene) == []


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"filter": {"alias": {"$regex": "(?:a?b?){1000}c"}}}, "filter.alias.$regex: must be a smaller RE2 pattern"),
        (
            {"filter": {"$or": [{"alias": {"$regex": f"^{n}"}} for n in range(30)]}},
            "filter: must have at most 20 $regex",
        ),
        ({"filter": {"metadata." + "k" * 600: 1}}, "filter: must not name a field by more than 512 characters"),
        ({"action": {"webhook": "wh_1", "payload": {"a": "$tag" * 2_000}}}, "a payload names variables at most 1,000"),
    ],
)
def test_what_was_saved_before_there_was_a_limit_is_loaded_matches_nothing_and_is_told(
    scene: Scene, members: dict[str, Any], reason: str
) -> None:
    hook = scene.webhook(paused=True)
    old = scene.automation(hook)
    other = scene.automation(hook)
    with write_transaction(scene.process.engine) as connection:
        definition = {**stored(scene, old).definition, **members}
        connection.execute(
            update(automations)
            .where(automations.c.id == old)
            .values(definition=definition, revision=next_revision(connection))
        )
    scene.publish(*(alias_event("prod") for _ in range(3)))
    scene.evaluate()
    assert {row.automation_id for row in scene.rows()} == {other}
    [notice] = told(scene)
    assert reason in notice["data"]["reason"]
    assert reason in stored(scene, old).unmatched_reason
    assert timedelta(0) < SILENCE
