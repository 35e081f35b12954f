"""What every page of an entity has around it: the entity, one's role there, and the other entities to go to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request

from dispatcher.console.alerts import Alert, alerts_of, version_of
from dispatcher.console.preferences import HIDDEN_COOKIE, preferences_of
from dispatcher.console.visitors import ResourcesDep, Visitor, VisitorDep, presented_token
from dispatcher.control.access import Action, may, require
from dispatcher.control.catalog import list_entities
from dispatcher.control.errors import Forbidden
from dispatcher.control.paging import PageRequest
from shared.storage.accounts.users import Principal
from shared.storage.database.transactions import read_transaction

MAX_SWITCHED = 100
"""Entities that the switcher lists; all of them are on the first page."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The entity whose page is shown."""

    entity: str
    role: str
    """The visitor's role there; blank for an instance administrator without one."""
    administers: bool
    others: list[str]
    """The entities that the visitor may go to."""
    alerts: list[Alert]

    @property
    def path(self) -> str:
        """Where the entity's pages begin."""
        return f"/console/e/{self.entity}"


@dataclass(frozen=True, slots=True)
class EntityVisit:
    """A visitor at an entity whose pages they may read."""

    visitor: Visitor
    frame: Frame

    @property
    def principal(self) -> Principal:
        """The user, with the roles of this moment."""
        return self.visitor.principal

    @property
    def entity(self) -> str:
        """The entity's name."""
        return self.frame.entity

    def require(self, action: Action) -> None:
        """Refuse the page to those who may not do what it is for. Raises Forbidden."""
        if action is Action.ADMINISTER and not self.frame.administers:
            raise Forbidden(f"this needs the role admin in {self.entity!r}; yours is {self.frame.role}")


def visit_of(entity: str, request: Request, visitor: VisitorDep, resources: ResourcesDep) -> EntityVisit:
    """The visitor at an entity. Raises NotFound and Forbidden for those who may not look at it."""
    principal = visitor.principal
    lag = request.app.state.lag.current(resources.settings, resources.engine)
    with read_transaction(resources.engine) as connection:
        # First the list: mostly it has the entity, which is then not looked up again.
        others = list_entities(connection, principal, PageRequest(MAX_SWITCHED)).items
        stored = require(connection, principal, entity, Action.READ)
        hidden = preferences_of(request).hidden_alerts
        alerts = alerts_of(connection, stored.id, lag, datetime.now(UTC), hidden)
    token, taken_away = presented_token(request, resources.settings) or "", request.cookies.get(HIDDEN_COOKIE, "")
    request.app.state.quiet.remember_alerts(token, entity, taken_away, version_of(alerts))
    frame = Frame(
        entity=stored.name,
        role=str(principal.roles.get(stored.id, "")),
        administers=may(principal, stored, Action.ADMINISTER),
        others=[one.name for one in others],
        alerts=alerts,
    )
    request.state.frame = frame
    return EntityVisit(visitor, frame)


EntityDep = Annotated[EntityVisit, Depends(visit_of)]
