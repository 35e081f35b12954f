"""Pages of projects, registries and collections, filtered and put in order as the client asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ariadne import ObjectType

from dispatcher.graphql.listing_filters import Fields, in_order, row_filter
from dispatcher.graphql.nodes import REGISTRY_PREFIX, CollectionNode, EntityNode, ProjectNode
from dispatcher.graphql.pages import START, Connection, Position, connection, page_of, position_after, scanned
from dispatcher.graphql.session import Info, Session
from shared.domain.errors import InvalidDefinition
from shared.storage.definitions import catalog as store
from shared.storage.definitions.catalog import StoredCollection, StoredProject
from shared.storage.definitions.entities import StoredEntity

_PROJECT_FIELDS: Fields[StoredProject] = {
    "id": lambda row: row.id,
    "name": lambda row: row.name,
    "description": lambda row: row.description or "",
    "created_at": lambda row: row.created_at.isoformat(),
}
_COLLECTION_FIELDS: Fields[StoredCollection] = {
    "artifact_collection_id": lambda row: row.id,
    "name": lambda row: row.name,
    "created_at": lambda row: row.created_at.isoformat(),
}

entity = ObjectType("Entity")


@entity.field("artifactCollections")
def resolve_collections(
    node: EntityNode,
    info: Info,
    *,
    project_filters: str | None = None,
    filters: str | None = None,
    collection_types: list[str] | None = None,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
) -> Connection:
    """The collections of the entity's registries; `collectionTypes` without PORTFOLIO asks for none of them."""
    session = info.context
    readable = session.readable(node.name)
    if collection_types is not None and "PORTFOLIO" not in collection_types:
        return {**connection([]), "total_count": 0}
    matches = row_filter(filters, _COLLECTION_FIELDS, "filters")
    found = [
        (registry, stored)
        for registry in _projects(
            session, readable, registries=True, filters=project_filters, argument="projectFilters"
        )
        for stored in _collections(session, readable, registry)
        if matches(stored)
    ]
    registry_of = {stored.id: ProjectNode(readable, registry.name, registry) for registry, stored in found}
    ordered = in_order((stored for _, stored in found), order, _COLLECTION_FIELDS)
    nodes = (((0, row.id), CollectionNode(registry_of[row.id], row.name, row)) for row in ordered)
    return {**page_of(_after(nodes, after, ordered=bool(order)), first), "total_count": len(ordered)}


def projects_page(
    session: Session,
    of: StoredEntity,
    *,
    registries: bool = False,
    filters: str | None = None,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
) -> Connection:
    """A page of an entity's projects, or of its registries alone."""
    found = _projects(session, of, registries=registries, filters=filters, argument="filters")
    nodes = (((0, row.id), ProjectNode(of, row.name, row)) for row in in_order(found, order, _PROJECT_FIELDS))
    return page_of(_after(nodes, after, ordered=bool(order)), first)


def _projects(
    session: Session, of: StoredEntity, *, registries: bool, filters: str | None, argument: str
) -> Iterator[StoredProject]:
    matches = row_filter(filters, _PROJECT_FIELDS, argument)
    found = scanned(
        lambda after, limit: store.list_projects(session.connection, of.id, after=after, limit=limit),
        lambda row: row.id,
        0,
    )
    return (row for row in found if matches(row) and (not registries or row.name.startswith(REGISTRY_PREFIX)))


def _collections(session: Session, of: StoredEntity, within: StoredProject) -> Iterator[StoredCollection]:
    return scanned(
        lambda after, limit: store.list_collections(
            session.connection, of.id, project_id=within.id, after=after, limit=limit
        ),
        lambda row: row.id,
        0,
    )


def _after(
    nodes: Iterable[tuple[Position, Any]], cursor: str | None, *, ordered: bool
) -> Iterator[tuple[Position, Any]]:
    """The nodes after a cursor: by their numbers, or, when something else puts them in order, after that very node."""
    position = position_after(cursor)
    if position == START or not ordered:
        return (item for item in nodes if item[0] > position)
    rest = iter(nodes)
    if not any(item[0] == position for item in rest):
        raise InvalidDefinition.at(("after",), "must be the endCursor of an earlier answer")
    return rest


BINDABLES = (entity,)
