"""The catalog that scopes refer to: entities, and their projects and collections."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Connection

from dispatcher.control.access import Action, require, require_any_role, require_instance_admin
from dispatcher.control.audit import changed_members, record_change
from dispatcher.control.bodies import Body, View, parse_body
from dispatcher.control.errors import NotFound
from dispatcher.control.paging import Page, PageRequest
from dispatcher.control.quotas import QuotasBody, QuotaView, event_rate, quota_views
from shared.domain.errors import InvalidDefinition
from shared.domain.events.values import NAME_FORM, is_name
from shared.domain.visible_text import NO_UNSEEN, has_unseen
from shared.storage.accounts.users import Principal
from shared.storage.definitions import catalog as store
from shared.storage.definitions import entities as entity_store
from shared.storage.definitions.catalog import StoredCollection, StoredProject
from shared.storage.definitions.entities import StoredEntity, find_entity
from shared.storage.definitions.quotas import read_own_limits, write_own_limits
from shared.storage.definitions.revisions import lock_edits, next_revision

_ENTITY_NAME = re.compile(r"[A-Za-z0-9_][-A-Za-z0-9_.]{0,127}")


class EntityBody(Body):
    """An entity's definition."""

    kind: Literal["team", "organization"] = "team"
    parent: Annotated[str | None, Field(description="The organization that it belongs to.")] = None


class EntityView(View):
    """An entity."""

    name: str
    kind: str
    parent: str | None
    answers_hidden: bool
    """Whether only administrators see what endpoints answered."""
    created_at: datetime


class EntityDetail(EntityView):
    """An entity, and how much it has of what it may have."""

    quotas: dict[str, QuotaView]
    events_per_second: int | None
    """The most events that it may publish over HTTP in a second, on average over ten; null: no limit."""


class EntityPatchBody(Body):
    """What may be changed of an entity by itself; the rest is replaced by PUT."""

    answers_hidden: Annotated[
        bool, Field(description="Show what endpoints answered to administrators only, and not to members.")
    ] = False
    quotas: Annotated[
        QuotasBody | None,
        Field(description="The limits to change, by instance administrators; null sets the defaults for all of them."),
    ] = None


class ProjectBody(Body):
    """A project's definition."""

    description: Annotated[str | None, Field(max_length=4000)] = None


class ProjectView(View):
    """A project or registry."""

    name: str
    description: str | None
    created_at: datetime


class CollectionBody(Body):
    """A collection's definition."""

    type: Annotated[str, Field(max_length=512, description="The type of its artifacts, such as `model`.")] = ""


class CollectionView(View):
    """A collection."""

    project: str
    name: str
    type: str
    created_at: datetime


def put_entity(connection: Connection, principal: Principal, name: str, raw: object) -> tuple[EntityDetail, bool]:
    """Create or change an entity; returns it, and whether it is new. For instance administrators.

    Its quotas stay.

    Raises:
        InvalidDefinition: for a name that can't be used, or an unknown parent.
    """
    require_instance_admin(principal)
    if not _ENTITY_NAME.fullmatch(name):
        raise InvalidDefinition.at(
            ("entity",), "must be 1 to 128 letters, digits, - _ and . , beginning with none of - ."
        )
    body = parse_body(EntityBody, raw)
    lock_edits(connection)
    before, parent_id = find_entity(connection, name), _parent_id(connection, name, body.parent)
    if before is None:
        entity_store.insert_entity(connection, name=name, kind=body.kind, parent_id=parent_id, now=datetime.now(UTC))
        changed = ["kind", "parent"]
    else:
        changed = changed_members(_links(before), body.model_dump())
        entity_store.update_entity(connection, before.id, kind=body.kind, parent_id=parent_id)
    stored = _entity(connection, name)
    if changed:
        # Workers know which organizations are above an entity: they look again at a new revision.
        next_revision(connection)
        did = "entity.create" if before is None else "entity.update"
        record_change(connection, principal, did, entity=stored, target_id=name, name=name, changed=changed)
    return _entity_detail(connection, stored), before is None


def change_entity(connection: Connection, principal: Principal, name: str, raw: object) -> EntityDetail:
    """Change settings of an entity, for its administrators, or its quotas, for instance administrators.

    Raises:
        InvalidDefinition: naming each fault.
        Forbidden: for quotas.
    """
    entity = require(connection, principal, name, Action.ADMINISTER)
    body = parse_body(EntityPatchBody, raw)
    lock_edits(connection)
    changed: dict[str, Any] = {}
    if "quotas" in body.model_fields_set:
        require_instance_admin(principal)
        before = read_own_limits(connection, entity.id)
        limits = {} if body.quotas is None else before | body.quotas.model_dump(exclude_unset=True)
        limits = {quota: limit for quota, limit in limits.items() if limit is not None}
        if limits != before:
            write_own_limits(connection, entity.id, limits)
            changed["quotas"] = limits
    if "answers_hidden" in body.model_fields_set and body.answers_hidden is not entity.answers_hidden:
        entity_store.hide_answers(connection, entity.id, hidden=body.answers_hidden)
        changed["answers_hidden"] = body.answers_hidden
    if changed:
        record_change(
            connection,
            principal,
            "entity.update",
            entity=entity,
            target_id=name,
            name=name,
            changed=list(changed),
            **changed,
        )
    return _entity_detail(connection, _entity(connection, name))


def _links(stored: StoredEntity) -> dict[str, str | None]:
    return {"kind": stored.kind, "parent": stored.parent}


def _parent_id(connection: Connection, name: str, parent: str | None) -> int | None:
    if parent is None:
        return None
    organization = find_entity(connection, parent)
    if organization is None or organization.kind != "organization" or parent == name:
        raise InvalidDefinition.at(("parent",), "must be the name of another entity that is an organization")
    return organization.id


def get_entity(connection: Connection, principal: Principal, name: str) -> EntityDetail:
    """An entity in which the principal has any role, with its quotas. Raises NotFound."""
    return _entity_detail(connection, require_any_role(connection, principal, name))


def list_entities(connection: Connection, principal: Principal, page: PageRequest) -> Page[EntityView]:
    """The entities in which the principal has any role; all of them for an instance administrator."""
    among = None if principal.is_admin else list(principal.roles)
    rows = entity_store.list_entities(connection, among=among, after=page.after, limit=page.with_one_more)
    return page.page(rows, _entity_view, lambda row: row.id)


def put_project(connection: Connection, principal: Principal, entity_name: str, name: str, raw: object) -> ProjectView:
    """Register a project, or change its description where the body has one."""
    entity = require(connection, principal, entity_name, Action.AUTOMATE)
    check_name("project", name, known=is_name(name) and store.find_project(connection, entity.id, name) is not None)
    body = parse_body(ProjectBody, raw)
    project_id = store.ensure_project(connection, entity.id, name, datetime.now(UTC))
    if "description" in body.model_fields_set:
        store.describe_project(connection, project_id, body.description)
    return _project_view(_project(connection, entity, name))


def list_projects(
    connection: Connection,
    principal: Principal,
    entity_name: str,
    page: PageRequest,
    *,
    text: str | None = None,
    registries: bool | None = None,
) -> Page[ProjectView]:
    """The entity's projects: all, those with a text in their names, or registries or others only."""
    entity = require(connection, principal, entity_name, Action.READ)
    rows = store.list_projects(
        connection, entity.id, after=page.after, limit=page.with_one_more, text=text, registries=registries
    )
    return page.page(rows, _project_view, lambda row: row.id)


def get_project(connection: Connection, principal: Principal, entity_name: str, name: str) -> ProjectView:
    """A project or registry. Raises NotFound."""
    return _project_view(_project(connection, require(connection, principal, entity_name, Action.READ), name))


def get_collection(
    connection: Connection, principal: Principal, entity_name: str, project: str, name: str
) -> CollectionView:
    """A collection of a project or registry. Raises NotFound."""
    entity = require(connection, principal, entity_name, Action.READ)
    stored = store.find_collection(connection, _project(connection, entity, project).id, name)
    if stored is None:
        raise NotFound(f"{project!r} has no collection {name!r}")
    return _collection_view(stored)


def put_collection(
    connection: Connection, principal: Principal, entity_name: str, project: str, name: str, raw: object
) -> CollectionView:
    """Register a collection, and its project if that is unknown; store the collection's type if the body has one."""
    entity = require(connection, principal, entity_name, Action.AUTOMATE)
    known = is_name(project) and store.find_project(connection, entity.id, project)
    check_name("project", project, known=bool(known))
    check_name("collection", name, known=False)
    body = parse_body(CollectionBody, raw)
    now = datetime.now(UTC)
    project_id = store.ensure_project(connection, entity.id, project, now)
    number = store.ensure_collection(connection, project_id, name, now, type_=body.type)
    return _collection_view(store.get_collection(connection, number))


def list_collections(
    connection: Connection,
    principal: Principal,
    entity_name: str,
    project: str | None,
    page: PageRequest,
    *,
    text: str | None = None,
) -> Page[CollectionView]:
    """The entity's collections, all or those of one project, or those with a text in their names.

    Raises:
        NotFound: when there is no such project.
    """
    entity = require(connection, principal, entity_name, Action.READ)
    project_id = None if project is None else _project(connection, entity, project).id
    rows = store.list_collections(
        connection, entity.id, project_id=project_id, after=page.after, limit=page.with_one_more, text=text
    )
    return page.page(rows, _collection_view, lambda row: row.id)


def check_name(member: str, name: str, *, known: bool) -> None:
    """Refuse what no event has as a name, and new names with characters that are not seen, which events may have."""
    if not is_name(name):
        raise InvalidDefinition.at((member,), f"must be {NAME_FORM}")
    if not known and has_unseen(name):
        raise InvalidDefinition.at((member,), NO_UNSEEN)


def _entity(connection: Connection, name: str) -> StoredEntity:
    stored = find_entity(connection, name)
    if stored is None:
        raise NotFound(f"there is no entity {name!r}")
    return stored


def _project(connection: Connection, entity: StoredEntity, name: str) -> StoredProject:
    stored = store.find_project(connection, entity.id, name)
    if stored is None:
        raise NotFound(f"{entity.name!r} has no project {name!r}")
    return stored


def _entity_view(stored: StoredEntity) -> EntityView:
    return EntityView(
        name=stored.name,
        kind=stored.kind,
        parent=stored.parent,
        answers_hidden=stored.answers_hidden,
        created_at=stored.created_at,
    )


def _entity_detail(connection: Connection, stored: StoredEntity) -> EntityDetail:
    return EntityDetail(
        **_entity_view(stored).model_dump(),
        quotas=quota_views(connection, stored),
        events_per_second=event_rate(connection, stored),
    )


def _project_view(stored: StoredProject) -> ProjectView:
    return ProjectView(name=stored.name, description=stored.description, created_at=stored.created_at)


def _collection_view(stored: StoredCollection) -> CollectionView:
    return CollectionView(project=stored.project, name=stored.name, type=stored.type, created_at=stored.created_at)
