"""An organization's automations fire for its teams, from the moment a team belongs to it until it no longer does."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import update

from shared.storage.database.transactions import write_transaction
from shared.storage.definitions.entities import find_entity, insert_entity, update_entity
from shared.storage.definitions.revisions import next_revision
from shared.storage.schema.tables import automations, entities
from tests.integration.scene import Scene, alias_event


def entity(scene: Scene, name: str, *, kind: str = "team", parent: str | None = None) -> int:
    """Make an entity or change it, under a new revision."""
    with write_transaction(scene.process.engine) as connection:
        above = find_entity(connection, parent) if parent else None
        parent_id = None if above is None else above.id
        if not insert_entity(connection, name=name, kind=kind, parent_id=parent_id, now=datetime.now(UTC)):
            known = find_entity(connection, name)
            assert known is not None
            update_entity(connection, known.id, kind=kind, parent_id=parent_id)
        next_revision(connection)
        found = find_entity(connection, name)
    assert found is not None
    return found.id


def owned_by(scene: Scene, owner: int, automation_id: int) -> int:
    """Hand an automation over to another entity."""
    with write_transaction(scene.process.engine) as connection:
        values = {"entity_id": owner, "revision": next_revision(connection)}
        connection.execute(update(automations).where(automations.c.id == automation_id).values(values))
    return automation_id


def fired(scene: Scene) -> set[tuple[str, int]]:
    return {(row.event_id, row.automation_id) for row in scene.rows()}


def test_an_organization_s_automation_follows_its_teams(scene: Scene) -> None:
    org = entity(scene, "org", kind="organization")
    hook = scene.webhook()
    wide = owned_by(scene, org, scene.automation(hook))
    narrow = owned_by(scene, org, scene.automation(hook, scope={"project": "wandb-registry-model"}))
    for event_id, parent in (("before", None), ("inside", "org"), ("after", None)):
        entity(scene, "acme", parent=parent)
        scene.publish(alias_event(event_id=event_id))
        scene.evaluate()
    scene.publish(alias_event(event_id="own", entity="org"))
    scene.evaluate()

    assert fired(scene) == {("inside", wide), ("own", wide), ("own", narrow)}
    scene.deliver()
    assert {row.entity_id for row in scene.rows()} == {org}
    assert {request.json["entity_name"] for request in scene.receiver.requests} == {"acme", "org"}


def test_an_organization_that_becomes_a_team_watches_only_itself(scene: Scene) -> None:
    org = entity(scene, "org", kind="organization")
    group = entity(scene, "group", kind="organization")
    entity(scene, "org", kind="organization", parent="group")
    entity(scene, "acme", parent="org")
    own, above = (owned_by(scene, owner, scene.automation(scene.webhook(f"h{owner}"))) for owner in (org, group))
    scene.publish(alias_event(event_id="1"))
    scene.evaluate()
    with write_transaction(scene.process.engine) as connection:
        connection.execute(update(entities).where(entities.c.id == org).values(kind="team"))
        next_revision(connection)
    scene.publish(alias_event(event_id="2"))
    scene.evaluate()
    assert fired(scene) == {("1", own), ("1", above)}


def test_an_organization_s_automation_delivers_with_a_team_s_webhook_and_its_secrets(scene: Scene) -> None:
    org = entity(scene, "org", kind="organization")
    entity(scene, "acme", parent="org")
    scene.secret("DEPLOY", "d3pl0y")
    hook = scene.webhook(secrets=("DEPLOY",))
    owned_by(scene, org, scene.automation(hook, secrets=["DEPLOY"], payload={"key": "${DEPLOY}"}))
    scene.publish(alias_event())
    scene.evaluate()
    scene.deliver()
    assert [request.json for request in scene.receiver.requests] == [{"key": "d3pl0y"}]
