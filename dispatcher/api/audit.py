"""`/v1/audit` and `/v1/entities/{entity}/audit`."""

from __future__ import annotations

from fastapi import APIRouter

from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import Paging
from dispatcher.api.resources import ResourcesDep
from dispatcher.control import audit
from dispatcher.control.audit import ChangeView
from dispatcher.control.paging import Page
from shared.storage.database.transactions import read_transaction

router = APIRouter(prefix="/v1", tags=["audit"])


@router.get("/entities/{entity}/audit")
def list_changes(entity: str, principal: PrincipalDep, resources: ResourcesDep, page: Paging) -> Page[ChangeView]:
    """List who changed what in the entity, newest first. For its administrators."""
    with read_transaction(resources.engine) as connection:
        return audit.list_changes(connection, principal, entity, page)


@router.get("/audit")
def list_all_changes(principal: PrincipalDep, resources: ResourcesDep, page: Paging) -> Page[ChangeView]:
    """List who changed what in all entities, users and keys, newest first. For instance administrators."""
    with read_transaction(resources.engine) as connection:
        return audit.list_all_changes(connection, principal, page)
