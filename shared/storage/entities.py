"""Entities: teams and organizations, the owners of everything else."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, select, update

from shared.storage.tables import entities
from shared.storage.upserts import insert_into


@dataclass(frozen=True, slots=True)
class StoredEntity:
    """One entity; `parent` is the name of the organization it belongs to."""

    id: int
    name: str
    kind: str
    parent: str | None
    created_at: datetime


def _entities() -> Select[Any]:
    parents = entities.alias("parents")
    return select(
        entities.c.id, entities.c.name, entities.c.kind, parents.c.name.label("parent"), entities.c.created_at
    ).select_from(entities.outerjoin(parents, parents.c.id == entities.c.parent_id))


def find_entity(connection: Connection, name: str) -> StoredEntity | None:
    """The entity of this name."""
    row = connection.execute(_entities().where(entities.c.name == name)).first()
    return None if row is None else StoredEntity(*row)


def list_entities(
    connection: Connection, *, among: Collection[int] | None, after: int, limit: int
) -> list[StoredEntity]:
    """Entities in the order of their ids; `among` limits them to these ids."""
    query = _entities().where(entities.c.id > after).order_by(entities.c.id).limit(limit)
    if among is not None:
        query = query.where(entities.c.id.in_(among))
    return [StoredEntity(*row) for row in connection.execute(query)]


def insert_entity(connection: Connection, *, name: str, kind: str, parent_id: int | None, now: datetime) -> bool:
    """Store a new entity; False when the name is taken, and nothing changes."""
    statement = insert_into(connection, entities).values(name=name, kind=kind, parent_id=parent_id, created_at=now)
    inserted = connection.execute(statement.on_conflict_do_nothing().returning(entities.c.id))
    return inserted.scalar_one_or_none() is not None


def update_entity(connection: Connection, entity_id: int, *, kind: str, parent_id: int | None) -> None:
    """Change an entity's kind and the organization it belongs to."""
    connection.execute(update(entities).where(entities.c.id == entity_id).values(kind=kind, parent_id=parent_id))


def entity_ids(connection: Connection, names: Collection[str]) -> dict[str, int]:
    """The ids of the entities of these names; a name that no entity has is left out."""
    query = select(entities.c.name, entities.c.id).where(entities.c.name.in_(names))
    return {row.name: row.id for row in connection.execute(query)}
