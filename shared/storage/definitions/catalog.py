"""The catalog that scopes refer to: projects (registries among them) and their collections."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select, update

from shared.storage.database.upserts import insert_ignore, insert_into
from shared.storage.definitions.entities import entity_ids
from shared.storage.schema.tables import collections, projects

REGISTRY_PREFIX = "wandb-registry-"
"""How the name of a project begins that is a registry (W&B's Registry documentation)."""
CatalogNames = tuple[str, str, str | None, str]
"""The names in one event: entity, project, its collection or None, and the collection's type, blank if unknown."""


@dataclass(frozen=True, slots=True)
class StoredProject:
    """One project or registry."""

    id: int
    name: str
    description: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredCollection:
    """One collection; `type` is blank until an event or a person names it."""

    id: int
    project: str
    name: str
    type: str
    created_at: datetime


def ensure_project(connection: Connection, entity_id: int, name: str, now: datetime) -> int:
    """The id of the entity's project of this name, which is registered if it was unknown."""
    statement = insert_into(connection, projects).values(entity_id=entity_id, name=name, created_at=now)
    created = connection.execute(statement.on_conflict_do_nothing().returning(projects.c.id)).scalar_one_or_none()
    if created is not None:
        return int(created)
    query = select(projects.c.id).where(projects.c.entity_id == entity_id, projects.c.name == name)
    return int(connection.execute(query).scalar_one())


def ensure_collection(connection: Connection, project_id: int, name: str, now: datetime, *, type_: str = "") -> int:
    """The id of the project's collection of this name, registered if it was unknown; a given type is stored."""
    statement = insert_into(connection, collections).values(
        project_id=project_id, name=name, type=type_, created_at=now
    )
    created = connection.execute(statement.on_conflict_do_nothing().returning(collections.c.id)).scalar_one_or_none()
    if created is not None:
        return int(created)
    here = (collections.c.project_id == project_id, collections.c.name == name)
    if type_:
        connection.execute(update(collections).where(*here, collections.c.type != type_).values(type=type_))
    return int(connection.execute(select(collections.c.id).where(*here)).scalar_one())


def register_names(connection: Connection, names: Collection[CatalogNames], now: datetime) -> frozenset[CatalogNames]:
    """Register the projects and collections that events name, with the collections' types where events have them.

    Every caller inserts rows in the same order, by their names, so that two of them can't wait for each other in a
    circle.

    Returns:
        The names whose entity exists; the others are not registered.
    """
    owners = entity_ids(connection, {entity for entity, *_ in names})
    known = sorted((name for name in names if name[0] in owners), key=lambda name: (*name[:2], name[2] or "", name[3]))
    if not known:
        return frozenset()
    wanted = dict.fromkeys((owners[entity], project) for entity, project, *_ in known)
    rows = [{"entity_id": entity_id, "name": name, "created_at": now} for entity_id, name in wanted]
    connection.execute(insert_ignore(connection, projects), rows)
    numbers = _project_numbers(connection, wanted)
    inside = [
        {"project_id": numbers[owners[entity], project], "name": name, "type": type_, "created_at": now}
        for entity, project, name, type_ in known
        if name is not None
    ]
    if inside:
        connection.execute(insert_ignore(connection, collections), inside)
        _update_types(connection, [row for row in inside if row["type"]])
    return frozenset(known)


def _project_numbers(connection: Connection, wanted: Collection[tuple[int, str]]) -> dict[tuple[int, str], int]:
    query = select(projects.c.entity_id, projects.c.name, projects.c.id).where(
        projects.c.entity_id.in_({entity_id for entity_id, _ in wanted}),
        projects.c.name.in_({name for _, name in wanted}),
    )
    return {(entity_id, name): number for entity_id, name, number in connection.execute(query)}


def _update_types(connection: Connection, typed: Sequence[Mapping[str, Any]]) -> None:
    if typed:
        connection.execute(
            update(collections)
            .where(
                collections.c.project_id == bindparam("of"),
                collections.c.name == bindparam("named"),
                collections.c.type != bindparam("told"),
            )
            .values(type=bindparam("told")),
            [{"of": row["project_id"], "named": row["name"], "told": row["type"]} for row in typed],
        )


def describe_project(connection: Connection, project_id: int, description: str | None) -> None:
    """Change a project's description."""
    connection.execute(update(projects).where(projects.c.id == project_id).values(description=description))


def find_project(connection: Connection, entity_id: int, name: str) -> StoredProject | None:
    """The entity's project of this name."""
    row = connection.execute(_projects(entity_id).where(projects.c.name == name)).first()
    return None if row is None else StoredProject(*row)


def list_projects(
    connection: Connection,
    entity_id: int,
    *,
    after: int,
    limit: int,
    text: str | None = None,
    registries: bool | None = None,
) -> list[StoredProject]:
    """The entity's projects in the order of their ids: all, those with a text in their names, registries or others."""
    query = _projects(entity_id).where(projects.c.id > after).order_by(projects.c.id).limit(limit)
    if text is not None:
        query = query.where(projects.c.name.icontains(text, autoescape=True))
    if registries is not None:
        is_registry = projects.c.name.startswith(REGISTRY_PREFIX, autoescape=True)
        query = query.where(is_registry if registries else ~is_registry)
    return [StoredProject(*row) for row in connection.execute(query)]


def _projects(entity_id: int) -> Select[Any]:
    return select(projects.c.id, projects.c.name, projects.c.description, projects.c.created_at).where(
        projects.c.entity_id == entity_id
    )


def get_collection(connection: Connection, collection_id: int) -> StoredCollection:
    """The collection of this id, which exists."""
    return StoredCollection(*connection.execute(_collections().where(collections.c.id == collection_id)).one())


def find_collection(connection: Connection, project_id: int, name: str) -> StoredCollection | None:
    """The project's collection of this name."""
    query = _collections().where(collections.c.project_id == project_id, collections.c.name == name)
    row = connection.execute(query).first()
    return None if row is None else StoredCollection(*row)


def list_collections(
    connection: Connection,
    entity_id: int,
    *,
    project_id: int | None = None,
    after: int,
    limit: int,
    text: str | None = None,
) -> list[StoredCollection]:
    """The entity's collections by their ids: all or those of one project, or with a text in their names."""
    query = (
        _collections()
        .where(projects.c.entity_id == entity_id, collections.c.id > after)
        .order_by(collections.c.id)
        .limit(limit)
    )
    if project_id is not None:
        query = query.where(collections.c.project_id == project_id)
    if text is not None:
        query = query.where(collections.c.name.icontains(text, autoescape=True))
    return [StoredCollection(*row) for row in connection.execute(query)]


def _collections() -> Select[Any]:
    return select(
        collections.c.id, projects.c.name, collections.c.name, collections.c.type, collections.c.created_at
    ).join(projects, projects.c.id == collections.c.project_id)


def projects_named(connection: Connection, entity_id: int, names: Collection[str]) -> dict[str, StoredProject]:
    """Those of an entity's projects that have one of these names."""
    query = _projects(entity_id).where(projects.c.name.in_(names))
    return {row.name: StoredProject(*row) for row in connection.execute(query)}


def collection_types(connection: Connection, project_id: int) -> dict[str, str]:
    """The type of each of a project's collections, by name."""
    query = select(collections.c.name, collections.c.type).where(collections.c.project_id == project_id)
    return {row.name: row.type for row in connection.execute(query)}


def all_projects(connection: Connection, entity_id: int) -> list[StoredProject]:
    """All projects of an entity, by name."""
    query = _projects(entity_id).order_by(projects.c.name)
    return [StoredProject(*row) for row in connection.execute(query)]


def all_collections(connection: Connection, entity_id: int) -> list[StoredCollection]:
    """All collections of an entity, by the names of project and collection."""
    query = _collections().where(projects.c.entity_id == entity_id).order_by(projects.c.name, collections.c.name)
    return [StoredCollection(*row) for row in connection.execute(query)]
