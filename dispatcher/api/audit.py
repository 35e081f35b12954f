"""`/v1/audit` and `/v1/entities/{entity}/audit`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import TwoWayPaging
from dispatcher.api.resources import ResourcesDep
from dispatcher.control import audit
from dispatcher.control.audit import ChangeView
from dispatcher.control.paging import TwoWayPage
from shared.storage.database.transactions import read_transaction

router = APIRouter(prefix="/v1", tags=["audit"])


async def _criteria(
    by: Annotated[str | None, Query(description="The name of the user who made the changes.")] = None,
    action: Annotated[
        str | None, Query(description="The action, such as webhook.update, or its kind of thing: webhook.")
    ] = None,
    target: Annotated[str | None, Query(description="The id or name of what was changed.")] = None,
    since: Annotated[
        str | None, Query(description="Made at this time or later (RFC 3339), or so long ago: 1h.")
    ] = None,
    until: Annotated[str | None, Query(description="Made before this time (RFC 3339), or longer ago: 1h.")] = None,
) -> dict[str, Any]:
    given = {"by": by, "action": action, "target": target, "since": since, "until": until}
    return {name: value for name, value in given.items() if value is not None}


Criteria = Annotated[dict[str, Any], Depends(_criteria)]


@router.get("/entities/{entity}/audit")
def list_changes(
    entity: str, principal: PrincipalDep, resources: ResourcesDep, page: TwoWayPaging, wanted: Criteria
) -> TwoWayPage[ChangeView]:
    """List who changed what in the entity, newest first. For its administrators."""
    with read_transaction(resources.engine) as connection:
        return audit.list_changes(connection, principal, entity, wanted, page)


@router.get("/audit")
def list_all_changes(
    principal: PrincipalDep, resources: ResourcesDep, page: TwoWayPaging, wanted: Criteria
) -> TwoWayPage[ChangeView]:
    """List who changed what in all entities, users and keys, newest first. For instance administrators."""
    with read_transaction(resources.engine) as connection:
        return audit.list_all_changes(connection, principal, wanted, page)
