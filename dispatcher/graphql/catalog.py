"""Entities and organizations, and the projects in them by name: where the client begins when it looks for a scope."""

from __future__ import annotations

from typing import Any

from ariadne import ObjectType, QueryType

from dispatcher.graphql import opaque_ids
from dispatcher.graphql.catalog_pages import projects_page
from dispatcher.graphql.nodes import ORGANIZATION, EntityNode, OrganizationNode, ProjectNode, is_registry
from dispatcher.graphql.pages import Connection, connection
from dispatcher.graphql.session import Info, Session
from shared.storage.definitions import catalog as store
from shared.storage.definitions.entities import StoredEntity

query = QueryType()
entity = ObjectType("Entity")
organization = ObjectType("Organization")


@query.field("entity")
def resolve_entity(_root: Any, info: Info, *, name: str | None = None) -> EntityNode | None:
    """The entity of this name, or the default one. Raises as `access.require`.

    Null for a publisher's key where runs are served: the client asks about the entity of its run, and can do without.
    """
    session = info.context
    name = name or session.default_entity()
    if name is None or session.only_publishes(name):
        return None
    return EntityNode(session.visible(name))


@query.field("organization")
def resolve_organization(_root: Any, info: Info, *, name: str) -> OrganizationNode | None:
    """The organization, or null when there is none for this key: the client says that best itself."""
    return OrganizationNode(name) if name in info.context.organizations() else None


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
    return connection([]) if found is None else projects_page(info.context, found.stored, after=after, first=first)


@organization.field("id")
def resolve_organization_id(node: OrganizationNode, _info: Info) -> str:
    """An opaque id."""
    return opaque_ids.organization_id(node.name)


@organization.field("orgEntity")
def resolve_org_entity(node: OrganizationNode, info: Info) -> EntityNode | None:
    """The organization's entity, in which the key may have no role: then nothing but its name can be read."""
    found = info.context.found(node.name)
    return None if found is None else EntityNode(found, of_organization=True)


@organization.field("featureFlags")
def resolve_feature_flags(_node: OrganizationNode, _info: Info, *, ramp_id_type: str) -> list[Any]:
    """What W&B switches on for one organization at a time, and is served to all here.

    Without its flag the client takes an automation of a whole entity for one that this organization can't have.
    """
    return [{"ramp_key": "automation_entity_scope", "is_enabled": True}]


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
    return _project(session, session.visible(node.name), name)


def _project(session: Session, of: StoredEntity, name: str | None) -> ProjectNode | None:
    if name is None or not (is_registry(name) or session.may_read(of.name)):
        return None
    stored = store.find_project(session.connection, of.id, name)
    return None if stored is None else ProjectNode(of, stored.name, stored)


BINDABLES = (query, entity, organization)
