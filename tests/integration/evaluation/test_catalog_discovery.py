"""The catalog learned from events: what they name of known entities, once, with the batch that brings it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import select

from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.catalog import ensure_project, list_collections, list_projects
from shared.storage.definitions.entities import insert_entity
from shared.storage.schema.tables import projects
from tests.integration.scene import Scene, alias_event, metric_event
from worker.evaluation.catalog_discovery import CatalogDiscovery


def typed(collection: str, type_: str, **data: Any) -> Any:
    event = alias_event(**data)
    event["data"]["collection"] = {"name": collection, "type": type_}
    return event


def known(scene: Scene) -> tuple[list[str], list[tuple[str, str, str]]]:
    with read_transaction(scene.process.engine) as connection:
        found = list_projects(connection, scene.entity_id, after=0, limit=100)
        inside = list_collections(connection, scene.entity_id, after=0, limit=100)
    return sorted(one.name for one in found), sorted((one.project, one.name, one.type) for one in inside)


def test_projects_and_collections_of_events_get_into_the_catalog(scene: Scene) -> None:
    scene.publish(alias_event(collection="llm"), alias_event(collection="vision"), metric_event(1, acc=1))
    scene.publish(typed("llm", "", project="other"))
    scene.publish(alias_event(entity="nobody", project="elsewhere"))
    scene.evaluate()

    assert known(scene) == (
        ["digits", "other", "wandb-registry-model"],
        [("other", "llm", ""), ("wandb-registry-model", "llm", "model"), ("wandb-registry-model", "vision", "model")],
    )


def test_a_type_is_noted_when_it_is_told_and_kept_when_it_is_not(scene: Scene) -> None:
    for told, expected in (("", ""), ("model", "model"), ("", "model"), ("dataset", "dataset")):
        scene.publish(typed("c", told))
        scene.evaluate()
        assert known(scene)[1] == [("wandb-registry-model", "c", expected)]


def test_what_is_known_costs_no_statement(scene: Scene) -> None:
    scene.publish(alias_event())
    scene.evaluate()
    seen: list[str] = []

    def see(_c: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        seen.append(statement)

    sqlalchemy_event.listen(scene.process.engine, "before_cursor_execute", see)
    scene.publish(alias_event())
    scene.evaluate()
    sqlalchemy_event.remove(scene.process.engine, "before_cursor_execute", see)

    assert seen
    assert not [statement for statement in seen if "projects" in statement or "collections" in statement]


def test_an_entity_that_is_made_later_gets_its_names_later(scene: Scene) -> None:
    scene.publish(alias_event(entity="late"))
    scene.evaluate()
    with write_transaction(scene.process.engine) as connection:
        insert_entity(connection, name="late", kind="team", parent_id=None, now=datetime.now(UTC))
    scene.publish(alias_event(entity="late"))
    scene.evaluate()
    with read_transaction(scene.process.engine) as connection:
        assert connection.scalars(select(projects.c.name)).all() == ["wandb-registry-model"]


def test_nothing_is_remembered_of_a_batch_that_was_rolled_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("between registering and committing")

    event = alias_event()
    scene.publish(event)
    original = CatalogDiscovery.register
    with monkeypatch.context() as patched:
        patched.setattr(CatalogDiscovery, "register", lambda *given: fail(original(*given)))
        with pytest.raises(RuntimeError):
            for partition in range(scene.settings.partitions):
                scene.process.evaluator.evaluate_next(partition)
    assert known(scene) == ([], [])
    scene.evaluate()
    assert known(scene)[0] == ["wandb-registry-model"]


def test_what_is_remembered_is_bounded_and_what_was_forgotten_is_registered_again(scene: Scene) -> None:
    catalog, now = CatalogDiscovery(max_known=3), datetime.now(UTC)
    names = [("acme", f"p{number}", "c", "t") for number in range(10)]
    with write_transaction(scene.process.engine) as connection:
        ensure_project(connection, scene.entity_id, "p0", now)
        for name in names:
            catalog.remember(catalog.register(connection, {name}, now))
        assert catalog.register(connection, {names[-1]}, now) == frozenset()
        assert catalog.register(connection, {names[0]}, now) == {names[0]}
    assert known(scene)[0] == sorted(name[1] for name in names)
