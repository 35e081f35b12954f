"""Projects, registries and collections as the client reads them."""

from __future__ import annotations

from typing import Any

from ariadne import InterfaceType, ObjectType

from dispatcher.graphql import opaque_ids, rows
from dispatcher.graphql.nodes import CollectionNode, EntityNode, ProjectNode, TypeNode, collection_typename
from dispatcher.graphql.pages import Connection, connection
from dispatcher.graphql.session import Info

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


collection.set_type_resolver(collection_typename)
for _collection in (portfolio, sequence):
    _collection.set_field("id", _resolve_collection_id)
    _collection.set_field("createdAt", _resolve_collection_created)
    _collection.set_field("defaultArtifactType", _resolve_collection_type)
    _collection.set_field("description", lambda _node, _info: None)
    _collection.set_field("updatedAt", lambda _node, _info: None)
    _collection.set_field("tags", lambda _node, _info: {"edges": []})
    _collection.set_field("aliases", lambda _node, _info: {"edges": []})

BINDABLES = (project, artifact_type, collection, portfolio, sequence)
