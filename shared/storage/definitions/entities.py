"""Entities: teams and organizations, the owners of everything else."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Select, select, update

from shared.storage.database.transactions import recalled
from shared.storage.database.upserts import insert_into
from shared.storage.schema.tables import entities


@dataclass(frozen=True, slots=True)
class StoredEntity:
    """One entity; `parent` is the name of the organization it belongs to.

    `answers_hidden`: members see nothing of what endpoints answered.
    """

    id: int
    name: str
    kind: str
    parent: str | None
    created_at: datetime
    answers_hidden: bool


def _entities() -> Select[Any]:
    parents = entities.alias("parents")
    return select(
        entities.c.id,
        entities.c.name,
        entities.c.kind,
        parents.c.name.label("parent"),
        entities.c.created_at,
        entities.c.answers_hidden,
    ).select_from(entities.outerjoin(parents, parents.c.id == entities.c.parent_id))


def find_entity(connection: Connection, name: str) -> StoredEntity | None:
    """The entity of this name."""

    def find() -> StoredEntity | None:
        row = connection.execute(_entities().where(entities.c.name == name)).first()
        return None if row is None else StoredEntity(*row)

    return recalled(connection, ("entity", name), find)


def list_entities(
    connection: Connection, *, among: Collection[int] | None, after: int, limit: int
) -> list[StoredEntity]:
    """Entities in the order of their ids; `among` limits them to these ids."""
    query = _entities().where(entities.c.id > after).order_by(entities.c.id).limit(limit)
    if among is not None:
        query = query.where(entities.c.id.in_(among))
    found = [StoredEntity(*row) for row in connection.execute(query)]
    return [recalled(connection, ("entity", one.name), partial(_itself, one)) for one in found]


def _itself(found: StoredEntity) -> StoredEntity:
    return found


def insert_entity(connection: Connection, *, name: str, kind: str, parent_id: int | None, now: datetime) -> bool:
    """Store a new entity; False, and nothing changes, when the name is taken."""
    statement = insert_into(connection, entities).values(name=name, kind=kind, parent_id=parent_id, created_at=now)
    inserted = connection.execute(statement.on_conflict_do_nothing().returning(entities.c.id))
    return inserted.scalar_one_or_none() is not None


def update_entity(connection: Connection, entity_id: int, *, kind: str, parent_id: int | None) -> None:
    """Change an entity's kind and the organization it belongs to."""
    connection.execute(update(entities).where(entities.c.id == entity_id).values(kind=kind, parent_id=parent_id))


def hide_answers(connection: Connection, entity_id: int, *, hidden: bool) -> None:
    """Hide what endpoints answered from an entity's members, or show it."""
    connection.execute(update(entities).where(entities.c.id == entity_id).values(answers_hidden=hidden))


@dataclass(frozen=True, slots=True)
class OrganizationLink:
    """An entity, and the organization it belongs to."""

    id: int
    name: str
    parent_id: int
    parent: str


def organization_links(connection: Connection) -> list[OrganizationLink]:
    """Every entity that belongs to an organization, with that organization."""

    def find() -> list[OrganizationLink]:
        parents = entities.alias("parents")
        query = (
            select(entities.c.id, entities.c.name, parents.c.id, parents.c.name)
            .join(parents, parents.c.id == entities.c.parent_id)
            .where(parents.c.kind == "organization")
        )
        return [OrganizationLink(*row) for row in connection.execute(query)]

    return recalled(connection, "organization links", find)


def related_entities(connection: Connection, entity_id: int) -> dict[int, str]:
    """The names of the organizations above an entity and of the entities below it, by their ids, without itself."""
    links = organization_links(connection)
    found: dict[int, str] = {}
    _climb({link.id: [(link.parent_id, link.parent)] for link in links}, entity_id, found)
    below: dict[int, list[tuple[int, str]]] = {}
    for link in links:
        below.setdefault(link.parent_id, []).append((link.id, link.name))
    _climb(below, entity_id, found)
    found.pop(entity_id, None)
    return found


def _climb(steps: Mapping[int, Sequence[tuple[int, str]]], start: int, found: dict[int, str]) -> None:
    seen, left = {start}, [start]
    while left:
        for number, name in steps.get(left.pop(), ()):
            if number not in seen:
                seen.add(number)
                found[number] = name
                left.append(number)


def entity_ids(connection: Connection, names: Collection[str]) -> dict[str, int]:
    """The ids of the entities of these names; a name that no entity has is left out."""
    query = select(entities.c.name, entities.c.id).where(entities.c.name.in_(names))
    return {row.name: row.id for row in connection.execute(query)}


def entity_names(connection: Connection) -> frozenset[str]:
    """The names of all entities."""
    return frozenset(connection.scalars(select(entities.c.name)))
