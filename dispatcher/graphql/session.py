"""What the resolvers of one request share: its transaction, who asks, and what was found out already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

from graphql import GraphQLResolveInfo
from sqlalchemy import Connection

from dispatcher.control.access import Action, entities_with, may, require
from dispatcher.control.errors import Forbidden, NotFound
from dispatcher.control.webhook_checks import Checks
from dispatcher.graphql import rows
from dispatcher.graphql.budget import Budget
from dispatcher.graphql.client_versions import NEWEST, ClientVersion
from dispatcher.graphql.pages import scanned
from dispatcher.graphql.scans import Scans
from shared.storage.accounts.users import Principal, find_user
from shared.storage.definitions.entities import StoredEntity, find_entity, list_entities


@dataclass(slots=True)
class Session:
    """One request's context."""

    connection: Connection
    principal: Principal
    checks: Checks
    client: ClientVersion = NEWEST
    budget: Budget = field(default_factory=Budget)
    base_url: str = ""
    """Where the client found the API."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """To publish once the transaction is committed."""
    scans: Scans = field(init=False)
    _readable: dict[str, StoredEntity] = field(default_factory=dict)
    _visible: dict[int, str] | None = None

    def __post_init__(self) -> None:
        self.scans = Scans(self.connection, self.budget)

    def readable(self, name: str) -> StoredEntity:
        """The entity, if the principal may read there. Raises as `access.require`."""
        if name not in self._readable:
            self._readable[name] = require(self.connection, self.principal, name, Action.READ)
        return self._readable[name]

    def may_read(self, name: str) -> bool:
        """Whether the principal may read everything in this entity."""
        try:
            self.readable(name)
        except (Forbidden, NotFound):
            return False
        return True

    def visible(self, name: str) -> StoredEntity:
        """A readable entity, or an organization above one, of which no more than its registries may be read.

        Raises as `access.require`.
        """
        if name in self.organizations() and not self.may_read(name) and (found := self.found(name)) is not None:
            return found
        return self.readable(name)

    def only_publishes(self, name: str) -> bool:
        """Whether runs are served, and the principal may publish to this entity, but read nothing there."""
        if not self.checks.settings.wandb_runs or self.may_read(name):
            return False
        found = self.found(name)
        return found is not None and may(self.principal, found, Action.PUBLISH)

    def organizations(self) -> list[str]:
        """The organizations that the principal may read, and those above what it may read."""
        if self._visible is None:
            among = None if self.principal.is_admin else entities_with(self.principal, Action.READ)
            self._visible = rows.organizations_of(self.connection, among)
        return list(self._visible.values())

    def entities(self, after: int = 0) -> Iterator[StoredEntity]:
        """The entities that the principal may read, of number `after` and above, in the order of their numbers."""
        among = None if self.principal.is_admin else entities_with(self.principal, Action.READ)
        yield from scanned(
            lambda number, limit: list_entities(self.connection, among=among, after=number, limit=limit),
            lambda entity: entity.id,
            max(after - 1, 0),
        )

    def default_entity(self) -> str | None:
        """The entity that the user has chosen; else a service user's own, or the only one that the user may read.

        Never one of several: which would then depend on who added the user where. Only an instance administrator, whom
        nobody needs to add, gets the first team, or else the first organization; none when they are of several, since
        the client takes this entity's organization where none is named, and would take a wrong one.
        """
        user = find_user(self.connection, self.principal.user_name)
        own = self.principal.user_name.partition("/")[0] if "/" in self.principal.user_name else None
        for name in (None if user is None else user.default_entity, own):
            if name is not None and self.found(name) is not None and self.may_read(name):
                return name
        if not self.principal.is_admin:
            readable = list(islice(self.entities(), 2))
            return readable[0].name if len(readable) == 1 else None
        if rows.belong_to_several(self.connection, None):
            return None
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
