"""The projects and collections of a manifest: what is missing is registered, and nothing is ever removed.

A project that is not listed stays: events name projects by themselves, and their history refers to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Connection

from dispatcher.control.bodies import Body, parse_body
from dispatcher.control.catalog import check_name
from dispatcher.control.faults import FaultCollector
from shared.domain.errors import FieldError, InvalidDefinition, Loc
from shared.domain.events.values import is_name
from shared.domain.visible_text import has_unseen
from shared.storage.definitions import catalog as store
from shared.storage.definitions.entities import StoredEntity

MAX_COLLECTIONS = 10_000
"""Of all projects of a manifest."""


class CollectionDefinition(Body):
    """A collection of a project."""

    name: str
    type: Annotated[str, Field(max_length=512, description="The type of its artifacts; blank: as it is.")] = ""


class ProjectDefinition(Body):
    """A project or registry, with its collections."""

    name: Annotated[str, Field(description="A registry's begins with `wandb-registry-`.")]
    description: Annotated[str | None, Field(max_length=4000, description="Left out: as it is.")] = None
    collections: list[CollectionDefinition] = Field(default=[], max_length=MAX_COLLECTIONS)


@dataclass(frozen=True, slots=True)
class CatalogChange:
    """What became of a project or collection; a collection's name has its project's in front."""

    kind: Literal["project", "collection"]
    name: str
    change: Literal["created", "updated", "unchanged"]
    member: str | None = None
    before: str | None = None
    after: str | None = None


def check_projects(
    connection: Connection, entity: StoredEntity, definitions: Sequence[object], collector: FaultCollector
) -> list[ProjectDefinition]:
    """The definitions; the faults of those that are none go to the collector."""
    found: dict[str, ProjectDefinition] = {}
    known = _Known(connection, entity)
    for index, raw in enumerate(definitions):
        loc: Loc = ("projects", index)
        checked = collector.run(partial(_check, raw, known), loc=loc)
        if checked is None:
            continue
        if checked.name in found:
            collector.faults.append(FieldError((*loc, "name"), "comes twice"))
        found[checked.name] = checked
    if sum(len(one.collections) for one in found.values()) > MAX_COLLECTIONS:
        collector.faults.append(FieldError(("projects",), f"must have at most {MAX_COLLECTIONS} collections in all"))
        return []
    return list(found.values())


@dataclass(frozen=True, slots=True)
class _Known:
    """What is registered already, asked where a name has characters that new names may not have."""

    connection: Connection
    entity: StoredEntity

    def has(self, project: str, collection: str | None = None) -> bool:
        """Whether events have brought this name."""
        stored = store.find_project(self.connection, self.entity.id, project) if is_name(project) else None
        if stored is None or collection is None:
            return stored is not None
        return is_name(collection) and store.find_collection(self.connection, stored.id, collection) is not None


def _check(raw: object, known: _Known) -> ProjectDefinition:
    body = parse_body(ProjectDefinition, raw)
    check_name("name", body.name, known=has_unseen(body.name) and known.has(body.name))
    names = set()
    for index, collection in enumerate(body.collections):
        try:
            name = collection.name
            check_name("name", name, known=has_unseen(name) and known.has(body.name, name))
        except InvalidDefinition as exc:
            raise exc.under("collections", index) from None
        if name in names:
            raise InvalidDefinition.at(("collections", index, "name"), "comes twice")
        names.add(name)
    return body


def write_projects(
    connection: Connection, entity: StoredEntity, projects: Sequence[ProjectDefinition], now: datetime
) -> list[CatalogChange]:
    """Register what is missing, and change what is said otherwise; in the order of names, as all who register do."""
    changes: list[CatalogChange] = []
    known = store.projects_named(connection, entity.id, [one.name for one in projects])
    for project in sorted(projects, key=lambda one: one.name):
        stored = known.get(project.name)
        number = stored.id if stored else store.ensure_project(connection, entity.id, project.name, now)
        before = stored.description if stored else None
        described = "description" in project.model_fields_set and project.description != before
        if described:
            store.describe_project(connection, number, project.description)
        changes.append(_change("project", project.name, stored, "description", described, before, project.description))
        changes += _write_collections(connection, number, project, now)
    return changes


def _write_collections(
    connection: Connection, project_id: int, project: ProjectDefinition, now: datetime
) -> Iterator[CatalogChange]:
    if not project.collections:
        return
    known: Mapping[str, Any] = store.collection_types(connection, project_id)
    for one in sorted(project.collections, key=lambda one: one.name):
        before = known.get(one.name)
        typed = bool(one.type) and one.type != before
        if before is None or typed:
            store.ensure_collection(connection, project_id, one.name, now, type_=one.type)
        yield _change("collection", f"{project.name}/{one.name}", before, "type", typed, before, one.type)


def _change(
    kind: Literal["project", "collection"],
    name: str,
    stored: object,
    member: str,
    changed: bool,
    before: str | None,
    after: str | None,
) -> CatalogChange:
    if stored is None:
        return CatalogChange(kind, name, "created")
    return (
        CatalogChange(kind, name, "updated", member, before, after)
        if changed
        else CatalogChange(kind, name, "unchanged")
    )


def export_projects(connection: Connection, entity: StoredEntity) -> list[dict[str, Any]]:
    """The entity's projects and collections as a manifest has them."""
    collections: dict[str, list[dict[str, Any]]] = {}
    for one in store.all_collections(connection, entity.id):
        collections.setdefault(one.project, []).append({"name": one.name, **({"type": one.type} if one.type else {})})
    return [
        {
            "name": one.name,
            **({} if one.description is None else {"description": one.description}),
            **({"collections": collections[one.name]} if one.name in collections else {}),
        }
        for one in store.all_projects(connection, entity.id)
    ]
