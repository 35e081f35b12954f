"""Sources: the list, and one with its last requests. They are defined over REST or as YAML, not here."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from dispatcher.console.entities import EntityDep
from dispatcher.console.listing import list_url
from dispatcher.console.rendering import render
from dispatcher.console.visitors import ResourcesDep
from dispatcher.control import sources
from dispatcher.control.paging import page_request
from shared.storage.database.transactions import read_transaction

router = APIRouter(prefix="/e/{entity}/settings/sources")
LISTED = 50
SHOWN_REQUESTS = 20


@router.get("")
def sources_page(request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """The entity's sources: services whose webhooks become its events."""
    url = list_url(request, ())
    asked = page_request(LISTED, url.cursor or None)
    with read_transaction(resources.engine) as connection:
        page = sources.list_sources(connection, visit.principal, visit.entity, asked)
    return render(request, "sources.html", page=page, url=url)


@router.get("/{source_id}")
def source_page(source_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """One source: its definition, and what became of its last requests."""
    url = list_url(request, ())
    asked = page_request(SHOWN_REQUESTS, url.cursor or None)
    with read_transaction(resources.engine) as connection:
        source = sources.get(connection, visit.principal, visit.entity, source_id)
        history = sources.list_requests(connection, visit.principal, visit.entity, source_id, asked)
    definition = {"verify": source.verify, "events": source.events}
    return render(request, "source.html", source=source, history=history, definition=definition, url=url)
