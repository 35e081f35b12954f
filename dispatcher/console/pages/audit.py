"""The audit log of an entity, for its administrators."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from dispatcher.console.changes import FILTERS, shown_change
from dispatcher.console.entities import EntityDep
from dispatcher.console.listing import list_url
from dispatcher.console.rendering import render
from dispatcher.console.visitors import ResourcesDep
from dispatcher.control import audit
from dispatcher.control.access import Action
from dispatcher.control.paging import page_request
from shared.domain.errors import InvalidDefinition
from shared.storage.database.transactions import read_transaction

router = APIRouter(prefix="/e/{entity}/settings/audit")


@router.get("")
def audit_page(request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Who changed what, newest first."""
    visit.require(Action.ADMINISTER)
    url = list_url(request, FILTERS)
    page, fault = None, ""
    try:
        with read_transaction(resources.engine) as connection:
            asked = page_request(None, url.cursor or None, two_way=True)
            page = audit.list_changes(connection, visit.principal, visit.entity, url.given, asked)
    except InvalidDefinition as exc:
        fault = str(exc)
    return render(
        request,
        "audit.html",
        status=422 if fault else 200,
        page=page,
        changes=[] if page is None else [shown_change(one) for one in page.items],
        url=url,
        fault=fault,
    )
