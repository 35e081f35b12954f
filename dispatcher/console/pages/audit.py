"""The audit log of an entity, for its administrators."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from dispatcher.console.changes import changes_page
from dispatcher.console.entities import EntityDep
from dispatcher.console.visitors import ResourcesDep
from dispatcher.control import audit
from dispatcher.control.access import Action

router = APIRouter(prefix="/e/{entity}/settings/audit")


@router.get("")
def audit_page(request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Who changed what, newest first."""
    visit.require(Action.ADMINISTER)
    return changes_page(
        request,
        resources,
        "audit.html",
        lambda connection, given, asked: audit.list_changes(connection, visit.principal, visit.entity, given, asked),
    )
