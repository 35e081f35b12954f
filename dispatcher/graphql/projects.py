"""Projects, registries and collections as the client reads them."""

from __future__ import annotations

from typing import Any

from ariadne import InterfaceType, ObjectType, QueryType

from dispatcher.graphql import opaque_ids, rows
from dispatcher.graphql.nodes import CollectionNode, EntityNode, ProjectNode, TypeNode, collection_typename
from dispatcher.graphql.pages import Connection, connection, page_of, position_after
from dispatcher.graphql.rows import StoredType
from dispatcher.graphql.session import Info, Session

UNKNOWN_TYPE = "unknown"
"""What the type of a collection is called that nothing has told yet: some versions can't read a blank one."""

query = QueryType()
project = ObjectType("Project")
artifact_type = ObjectType("ArtifactType")
collection = InterfaceType("ArtifactCollection")
portfolio = ObjectType("ArtifactPortfolio")
sequence = ObjectType("ArtifactSequence")


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
def resolve_artifact_types(
    node: ProjectNode, info: Info, *, after: str | None = None, first: int | None = None, include_all: bool = False
) -> Connection:
    """A page of the types of the artifacts in its collections."""
    session = info.context
    _, number = position_after(after)
    types = sorted(rows.artifact_types(session.connection, node.known(session).id), key=lambda each: each.id)
    return page_of((((0, each.id), TypeNode(each, node)) for each in types if each.id > number), first)


@project.field("artifactType")
def resolve_artifact_type(node: ProjectNode, info: Info, *, name: str) -> TypeNode | None:
    """A type of artifacts; null when the project is known to have none of it."""
    session = info.context
    stored = rows.find_type(session.connection, node.known(session).id, name)
    return None if stored is None else TypeNode(stored, node)


@project.field("artifactCollection")
def resolve_project_collection(node: ProjectNode, info: Info, *, name: str) -> CollectionNode | None:
    """A collection; null when there is none of this name."""
    return _find(info.context, node, name)


def _find(session: Session, within: ProjectNode, name: str) -> CollectionNode | None:
    stored = rows.find_collection(session.connection, within.known(session).id, name)
    return None if stored is None else CollectionNode(within, stored.name, stored)


@query.field("artifactCollection")
def resolve_collection_by_id(_root: Any, info: Info, *, id: str) -> CollectionNode | None:
    """The collection of an id from an answer; null for any other."""
    session = info.context
    if (named := opaque_ids.read_collection_id(id)) is None:
        return None
    of = ProjectNode(session.visible(named[0]), named[1])
    if not (of.is_registry or session.may_read(of.entity.name)):
        return None
    return _find(session, of, named[2])


@artifact_type.field("id")
def resolve_type_id(node: TypeNode, _info: Info) -> str:
    """An opaque id."""
    return opaque_ids.artifact_type_id(node.project.entity.name, node.project.name, node.name)


@artifact_type.field("createdAt")
def resolve_type_created(node: TypeNode, _info: Info) -> Any:
    """When the catalog first heard of a collection of this type."""
    return node.stored.created_at


def resolve_artifact_collection(node: TypeNode, info: Info, *, name: str) -> CollectionNode | None:
    """A collection of this type, or one whose type nothing has told yet; null when there is none of this name."""
    found = _find(info.context, node.project, name)
    return found if found is not None and found.known(info.context).type in ("", node.name) else None


# Older clients ask by the other name whether it is one of the project's own.
for _name in ("artifactCollection", "artifactSequence"):
    artifact_type.set_field(_name, resolve_artifact_collection)
artifact_type.set_field("description", lambda _node, _info: None)


def _resolve_collection_id(node: CollectionNode, _info: Info) -> str:
    return opaque_ids.collection_id(node.project.entity.name, node.project.name, node.name)


def _resolve_collection_created(node: CollectionNode, info: Info) -> Any:
    return node.known(info.context).created_at


def _resolve_collection_type(node: CollectionNode, info: Info) -> TypeNode:
    stored = node.known(info.context)
    return TypeNode(StoredType(stored.id, stored.type or UNKNOWN_TYPE, stored.created_at), node.project)


def _resolve_none(_node: CollectionNode, _info: Info, *, after: str | None = None, first: int | None = None) -> Any:
    return connection([])


collection.set_type_resolver(collection_typename)
for _collection in (portfolio, sequence):
    _collection.set_field("id", _resolve_collection_id)
    _collection.set_field("createdAt", _resolve_collection_created)
    _collection.set_field("defaultArtifactType", _resolve_collection_type)
    _collection.set_field("description", lambda _node, _info: None)
    _collection.set_field("updatedAt", lambda _node, _info: None)
    _collection.set_field("tags", _resolve_none)
    _collection.set_field("aliases", _resolve_none)

BINDABLES = (query, project, artifact_type, collection, portfolio, sequence)
