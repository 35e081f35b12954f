"""Sources: the list, and one with what to enter at the service and its last requests."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from dispatcher.console.entities import EntityDep
from dispatcher.console.json_fields import said
from dispatcher.console.listing import list_url
from dispatcher.console.origins import origin_of
from dispatcher.console.rendering import render
from dispatcher.console.visitors import ResourcesDep
from dispatcher.console.words import SOURCE_KINDS
from dispatcher.control import sources
from dispatcher.control.paging import page_request
from dispatcher.control.sources import SourceView
from shared.storage.database.transactions import read_transaction

router = APIRouter(prefix="/e/{entity}/settings/sources")
LISTED = 50
SHOWN_REQUESTS = 20


def proof_of(source: SourceView) -> dict[str, Any] | None:
    """How requests prove themselves, as people wrote it."""
    return None if source.verify is None else {way: said(proof) for way, proof in source.verify.items() if proof}


def rules_of(source: SourceView) -> list[dict[str, Any]]:
    """The rules, as people wrote them."""
    return [said(rule) for rule in source.events]


@router.get("")
def sources_page(request: Request, visit: EntityDep, resources: ResourcesDep, done: str = "") -> Response:
    """The entity's sources: services whose webhooks become its events."""
    url = list_url(request, ())
    asked = page_request(LISTED, url.cursor or None)
    with read_transaction(resources.engine) as connection:
        page = sources.list_sources(connection, visit.principal, visit.entity, asked)
    return render(request, "sources.html", page=page, url=url, kinds=SOURCE_KINDS, done=done)


@router.get("/{source_id}")
def source_page(
    source_id: str, request: Request, visit: EntityDep, resources: ResourcesDep, done: str = ""
) -> Response:
    """One source: its definition, and what became of its last requests."""
    url = list_url(request, ())
    asked = page_request(SHOWN_REQUESTS, url.cursor or None)
    with read_transaction(resources.engine) as connection:
        source = sources.get(connection, visit.principal, visit.entity, source_id)
        history = sources.list_requests(connection, visit.principal, visit.entity, source_id, asked)
    settings = resources.settings
    return render(
        request,
        "source.html",
        source=source,
        kind=SOURCE_KINDS[source.kind],
        address=f"{origin_of(request, settings)}{settings.root_path}{source.path}",
        in_query=((source.verify or {}).get("token") or {}).get("query"),
        history=history,
        definition=said({"verify": proof_of(source), "events": rules_of(source) or None}),
        url=url,
        done=done,
    )
