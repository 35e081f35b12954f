"""What resolvers pass to each other: entities, projects and collections by name, looked up where more is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dispatcher.control.errors import NotFound
from dispatcher.graphql import rows
from dispatcher.graphql.rows import StoredType
from dispatcher.graphql.session import Session
from shared.storage.definitions import catalog as store
from shared.storage.definitions.catalog import REGISTRY_PREFIX as REGISTRY_PREFIX
from shared.storage.definitions.catalog import StoredCollection, StoredProject
from shared.storage.definitions.entities import StoredEntity

ORGANIZATION = "organization"


MAX_CLIENT_NAME = 128


def is_registry(project: str) -> bool:
    """Whether a project of this name is a registry; the prefix alone names none, and breaks the client's listing."""
    return project.startswith(REGISTRY_PREFIX) and project != REGISTRY_PREFIX


def client_lists(collection: str) -> bool:
    """Whether the client can read a listing with a collection of this name."""
    return "/" not in collection and len(collection) <= MAX_CLIENT_NAME


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
        return is_registry(self.name)

    def known(self, session: Session) -> StoredProject:
        """What the catalog has of it. Raises NotFound."""
        stored = self.stored or store.find_project(session.connection, self.entity.id, self.name)
        if stored is None:
            raise NotFound(f"there is no project {self.name!r} in {self.entity.name!r}")
        return stored


@dataclass(frozen=True, slots=True)
class TypeNode:
    """A type of artifacts, seen from a project."""

    stored: StoredType
    project: ProjectNode

    @property
    def name(self) -> str:
        """The type's name."""
        return self.stored.name


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


def collection_typename(node: CollectionNode, *_: Any) -> str:
    """What W&B calls a collection in a registry, and one in a project."""
    return "ArtifactPortfolio" if node.project.is_registry else "ArtifactSequence"
