"""What the resolvers of one request share: its transaction, who asks, and what was found out already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from graphql import GraphQLResolveInfo
from sqlalchemy import Connection

from dispatcher.control.access import Action, entities_with, require
from dispatcher.control.webhook_checks import Checks
from dispatcher.graphql.budget import Budget
from dispatcher.graphql.pages import scanned
from dispatcher.graphql.scans import Scans
from shared.storage.accounts.users import Principal
from shared.storage.definitions.entities import StoredEntity, find_entity, list_entities


@dataclass(slots=True)
class Session:
    """One request's context."""

    connection: Connection
    principal: Principal
    checks: Checks
    budget: Budget = field(default_factory=Budget)
    scans: Scans = field(init=False)
    _readable: dict[str, StoredEntity] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scans = Scans(self.connection, self.budget)

    def close(self) -> None:
        """End what reads."""
        self.scans.close()

    def readable(self, name: str) -> StoredEntity:
        """The entity, if the principal may read there. Raises as `access.require`."""
        if name not in self._readable:
            self._readable[name] = require(self.connection, self.principal, name, Action.READ)
        return self._readable[name]

    def entities(self, after: int = 0) -> Iterator[StoredEntity]:
        """The entities that the principal may read, of number `after` and above, in the order of their numbers."""
        among = None if self.principal.is_admin else entities_with(self.principal, Action.READ)
        yield from scanned(
            lambda number, limit: list_entities(self.connection, among=among, after=number, limit=limit),
            lambda entity: entity.id,
            max(after - 1, 0),
        )

    def default_entity(self) -> str | None:
        """The first team that the principal may read, or else the first organization."""
        first = None
        for entity in self.entities():
            if entity.kind == "team":
                return entity.name
            first = first or entity.name
        return first

    def found(self, name: str) -> StoredEntity | None:
        """An entity by its name alone; what it holds is read through `readable`."""
        return find_entity(self.connection, name)


Info: TypeAlias = "GraphQLResolveInfo[Session]"
"""What a resolver gets told besides its arguments."""
