"""Entities, organizations, projects, registries and collections, as the client looks them up for scopes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ariadne import InterfaceType, ObjectType, QueryType

from dispatcher.control.errors import NotFound
from dispatcher.graphql import opaque_ids, rows
from dispatcher.graphql.listing_filters import Fields, in_order, row_filter
from dispatcher.graphql.pages import START, Connection, Position, connection, page_of, position_after, scanned
from dispatcher.graphql.session import Info, Session
from shared.domain.errors import InvalidDefinition
from shared.storage import catalog as store
from shared.storage.catalog import StoredCollection, StoredProject
from shared.storage.entities import StoredEntity

REGISTRY_PREFIX = "wandb-registry-"
ORGANIZATION = "organization"
REGISTRY_TYPE = "ArtifactPortfolio"


@dataclass(frozen=True, slots=True)
class OrganizationNode:
    """An organization, by its name, which is that of its entity as well."""

    name: str


@dataclass(frozen=True, slots=True)
class EntityNode:
    """An entity that may or may not be readable; `of_organization`: asked for as an organization's `orgEntity`."""

    stored: StoredEntity
    of_organization: bool = False

    @property
    def name(self) -> str:
        """The entity's name."""
        return self.stored.name


@dataclass(frozen=True, slots=True)
class ProjectNode:
    """A project of a readable entity; a blank name stands for the entity as a whole, `triggers` for a known part."""

    entity: StoredEntity
    name: str
    stored: StoredProject | None = None
    triggers: tuple[Any, ...] | None = None

    @property
    def is_registry(self) -> bool:
        """Whether it is a registry."""
        return self.name.startswith(REGISTRY_PREFIX)

    def known(self, session: Session) -> StoredProject:
        """What the catalog has of it. Raises NotFound."""
        stored = self.stored or store.find_project(session.connection, self.entity.id, self.name)
        if stored is None:
            raise NotFound(f"there is no project {self.name!r} in {self.entity.name!r}")
        return stored


@dataclass(frozen=True, slots=True)
class TypeNode:
    """A type of artifacts, seen from a project."""

    name: str
    project: ProjectNode


@dataclass(frozen=True, slots=True)
class CollectionNode:
    """A collection of a readable entity."""

    project: ProjectNode
    name: str
    stored: StoredCollection | None = None

    def known(self, session: Session) -> StoredCollection:
        """What the catalog has of it. Raises NotFound."""
        stored = self.stored or rows.find_collection(session.connection, self.project.known(session).id, self.name)
        if stored is None:
            raise NotFound(f"there is no collection {self.name!r} in {self.project.entity.name}/{self.project.name}")
        return stored


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
_NO_PAGE = connection([])

query = QueryType()
entity = ObjectType("Entity")
organization = ObjectType("Organization")
project = ObjectType("Project")
artifact_type = ObjectType("ArtifactType")
collection = InterfaceType("ArtifactCollection")
portfolio = ObjectType("ArtifactPortfolio")
sequence = ObjectType("ArtifactSequence")


@query.field("entity")
def resolve_entity(_root: Any, info: Info, *, name: str | None = None) -> EntityNode | None:
    """The entity of this name, or the default one. Raises as `access.require`."""
    session = info.context
    name = name or session.default_entity()
    return None if name is None else EntityNode(session.readable(name))


@query.field("organization")
def resolve_organization(_root: Any, info: Info, *, name: str) -> OrganizationNode | None:
    """The organization, or null when there is none for this key: the client says that best itself."""
    try:
        found = info.context.readable(name)
    except NotFound:
        return None
    return OrganizationNode(found.name) if found.kind == ORGANIZATION else None


@query.field("project")
def resolve_project(
    _root: Any, info: Info, *, name: str | None = None, entity_name: str | None = None
) -> ProjectNode | None:
    """A project, or null when the entity has none of this name."""
    found = resolve_entity(None, info, name=entity_name)
    return None if found is None else _project(info.context, found.stored, name)


@query.field("models")
def resolve_models(
    _root: Any,
    info: Info,
    *,
    entity_name: str | None = None,
    after: str | None = None,
    first: int | None = None,
) -> Connection:
    """An entity's projects."""
    found = resolve_entity(None, info, name=entity_name)
    return _NO_PAGE if found is None else projects_page(info.context, found.stored, after=after, first=first)


@organization.field("id")
def resolve_organization_id(node: OrganizationNode, _info: Info) -> str:
    """An opaque id."""
    return opaque_ids.organization_id(node.name)


@organization.field("orgEntity")
def resolve_org_entity(node: OrganizationNode, info: Info) -> EntityNode | None:
    """The organization's entity, in which the key may have no role: then nothing but its name can be read."""
    found = info.context.found(node.name)
    return None if found is None else EntityNode(found, of_organization=True)


@organization.field("advancedRegistryFeatures")
def resolve_registry_features(_node: OrganizationNode, _info: Info) -> dict[str, bool]:
    """Versions of artifacts are not kept here, so there is nothing to search among."""
    return {"advanced_search": False}


def _entity_constants() -> dict[str, Any]:
    absent = dict.fromkeys(("photoUrl", "readOnly", "isPaid", "user"))
    switches = dict.fromkeys(("readOnlyAdmin", "privateOnly", "codeSavingEnabled"), False)
    return {**absent, **switches, "available": True, "storageBytes": 0, "defaultAccess": "WRITE", "members": []}


for _name, _value in _entity_constants().items():
    entity.set_field(_name, lambda _node, _info, _value=_value: _value)


@entity.field("id")
def resolve_entity_id(node: EntityNode, _info: Info) -> str:
    """An opaque id."""
    return opaque_ids.entity_id(node.name)


@entity.field("entityType")
def resolve_entity_type(node: EntityNode, _info: Info) -> str:
    """`team` or `organization`."""
    return node.stored.kind


@entity.field("isTeam")
def resolve_is_team(node: EntityNode, _info: Info) -> bool:
    """Whether it is a team."""
    return node.stored.kind != ORGANIZATION


@entity.field("organization")
def resolve_organization_of(node: EntityNode, _info: Info) -> OrganizationNode | None:
    """The organization that the entity is, or belongs to."""
    name = node.name if node.stored.kind == ORGANIZATION else node.stored.parent
    return None if name is None else OrganizationNode(name)


@entity.field("project")
def resolve_entity_project(node: EntityNode, info: Info, *, name: str | None = None) -> Any:
    """A project, or null when the entity has none of this name."""
    session = info.context
    return _project(session, session.readable(node.name), name)


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
        return {**_NO_PAGE, "total_count": 0}
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


def _project(session: Session, of: StoredEntity, name: str | None) -> ProjectNode | None:
    stored = None if name is None else store.find_project(session.connection, of.id, name)
    return None if stored is None else ProjectNode(of, stored.name, stored)


def _project_constants() -> dict[str, Any]:
    switches = {"isBenchmark": False, "readOnly": False, "allowAllArtifactTypesInRegistry": True}
    return {**switches, "updatedAt": None, "user": None, "views": None, "access": "PRIVATE"}


for _name, _value in _project_constants().items():
    project.set_field(_name, lambda _node, _info, _value=_value: _value)


@project.field("id")
def resolve_project_id(node: ProjectNode, _info: Info) -> str:
    """An opaque id."""
    return opaque_ids.project_id(node.entity.name, node.name)


@project.field("internalId")
def resolve_internal_id(node: ProjectNode, info: Info) -> str:
    """An id from which the client takes the project's number."""
    return opaque_ids.internal_project_id(node.known(info.context).id)


@project.field("entityName")
def resolve_entity_name(node: ProjectNode, _info: Info) -> str:
    """The owner's name."""
    return node.entity.name


@project.field("entity")
def resolve_project_entity(node: ProjectNode, _info: Info) -> EntityNode:
    """The owner."""
    return EntityNode(node.entity)


@project.field("description")
def resolve_description(node: ProjectNode, info: Info) -> str | None:
    """Its description."""
    return node.known(info.context).description


@project.field("createdAt")
def resolve_created_at(node: ProjectNode, info: Info) -> Any:
    """When the catalog first heard of it."""
    return node.known(info.context).created_at


@project.field("artifactTypes")
def resolve_artifact_types(node: ProjectNode, info: Info, **_all: bool) -> Connection:
    """The types of the artifacts in its collections."""
    session = info.context
    return connection(
        [TypeNode(name, node) for name in rows.artifact_types(session.connection, node.known(session).id)]
    )


@project.field("artifactType")
def resolve_artifact_type(node: ProjectNode, _info: Info, *, name: str) -> TypeNode:
    """A type of artifacts; whether there are any shows when a collection is looked up."""
    return TypeNode(name, node)


@artifact_type.field("artifactCollection")
def resolve_artifact_collection(node: TypeNode, info: Info, *, name: str) -> CollectionNode | None:
    """A collection of this type, or one whose type nothing has told yet; null when there is none of this name."""
    session = info.context
    stored = rows.find_collection(session.connection, node.project.known(session).id, name)
    if stored is None or stored.type not in ("", node.name):
        return None
    return CollectionNode(node.project, stored.name, stored)


def _resolve_collection_id(node: CollectionNode, _info: Info) -> str:
    return opaque_ids.collection_id(node.project.entity.name, node.project.name, node.name)


def _resolve_collection_created(node: CollectionNode, info: Info) -> Any:
    return node.known(info.context).created_at


def _resolve_collection_type(node: CollectionNode, info: Info) -> TypeNode:
    return TypeNode(node.known(info.context).type, node.project)


def collection_typename(node: CollectionNode, *_: Any) -> str:
    """What W&B calls a collection in a registry, and one in a project."""
    return REGISTRY_TYPE if node.project.is_registry else "ArtifactSequence"


collection.set_type_resolver(collection_typename)
for _collection in (portfolio, sequence):
    _collection.set_field("id", _resolve_collection_id)
    _collection.set_field("createdAt", _resolve_collection_created)
    _collection.set_field("defaultArtifactType", _resolve_collection_type)
    _collection.set_field("description", lambda _node, _info: None)
    _collection.set_field("updatedAt", lambda _node, _info: None)
    _collection.set_field("tags", lambda _node, _info: {"edges": []})

BINDABLES = (query, entity, organization, project, artifact_type, collection, portfolio, sequence)
