"""Pages of projects, registries and collections, filtered and put in order as the client asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ariadne import ObjectType

from dispatcher.graphql.listing_filters import Fields, in_order, row_filter
from dispatcher.graphql.nodes import CollectionNode, EntityNode, ProjectNode, TypeNode, client_lists, is_registry
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
    "description": lambda _row: "",
    "created_at": lambda row: row.created_at.isoformat(),
}

entity = ObjectType("Entity")
project = ObjectType("Project")
artifact_type = ObjectType("ArtifactType")


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
    visible = session.visible(node.name)
    if collection_types is not None and "PORTFOLIO" not in collection_types:
        return {**connection([]), "total_count": 0}
    registries = _projects(session, visible, registries=True, filters=project_filters, argument="projectFilters")
    within = (ProjectNode(visible, registry.name, registry) for registry in registries)
    return _collections_page(session, within, filters=filters, after=after, first=first, order=order)


@project.field("artifactCollections")
def resolve_project_collections(
    node: ProjectNode,
    info: Info,
    *,
    filters: str | None = None,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
) -> Connection:
    """The project's collections."""
    return _collections_page(info.context, [node], filters=filters, after=after, first=first, order=order)


def resolve_collections_of_type(
    node: TypeNode,
    info: Info,
    *,
    filters: str | None = None,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
) -> Connection:
    """The project's collections of one type, and those whose type nothing has told yet."""
    return _collections_page(
        info.context, [node.project], type_=node.name, filters=filters, after=after, first=first, order=order
    )


for _name in ("artifactCollections", "artifactSequences"):
    artifact_type.set_field(_name, resolve_collections_of_type)


def _collections_page(
    session: Session,
    within: Iterable[ProjectNode],
    *,
    type_: str | None = None,
    filters: str | None,
    after: str | None,
    first: int | None,
    order: str | None,
) -> Connection:
    """A page of the projects' collections, without those whose names would break the client's listing."""
    matches = row_filter(filters, _COLLECTION_FIELDS, "filters")
    project_of = {
        stored: of
        for of in within
        for stored in _collections(session, of)
        if client_lists(stored.name) and (type_ is None or stored.type in ("", type_)) and matches(stored)
    }
    ordered = in_order(project_of, order, _COLLECTION_FIELDS)
    nodes = (((0, row.id), CollectionNode(project_of[row], row.name, row)) for row in ordered)
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
    """A page of an entity's projects, or of its registries alone, which are all that some may read."""
    registries = registries or not session.may_read(of.name)
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
    return (row for row in found if matches(row) and (not registries or is_registry(row.name)))


def _collections(session: Session, within: ProjectNode) -> Iterator[StoredCollection]:
    of, number = within.entity, within.known(session).id
    return scanned(
        lambda after, limit: store.list_collections(
            session.connection, of.id, project_id=number, after=after, limit=limit
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


BINDABLES = (entity, project, artifact_type)
