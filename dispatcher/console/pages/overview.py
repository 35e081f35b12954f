"""An entity's first page: what needs a look, and for a new entity what to do first. And finding a thing by its id."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from dispatcher.console.entities import EntityDep
from dispatcher.console.rendering import query, render
from dispatcher.console.visitors import ResourcesDep
from dispatcher.console.words import STATUSES, event_words
from dispatcher.control import deliveries
from dispatcher.control.glances import take_glance
from dispatcher.control.paging import PageRequest
from shared.domain.ids import IdKind, decode_id
from shared.storage.database.transactions import read_transaction
from shared.storage.definitions.glances import MAX_COUNTED

router = APIRouter(prefix="/e/{entity}")
NEWEST = 5
SHOWN_WEBHOOKS = 10


@router.get("")
def overview(request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """The entity at a glance."""
    principal, entity = visit.principal, visit.entity
    with read_transaction(resources.engine) as connection:
        glance, troubled = take_glance(connection, principal, entity, webhooks=SHOWN_WEBHOOKS)
        newest = deliveries.list_deliveries(connection, principal, entity, {}, PageRequest(NEWEST))
    return render(
        request,
        "overview.html",
        glance=glance,
        most_counted=MAX_COUNTED,
        troubled=troubled,
        newest=newest,
        statuses=STATUSES,
        event_words=event_words,
    )


@router.get("/find")
def find(visit: EntityDep, id: str = "") -> Response:
    """The page of what has an id."""
    text, path = id.strip(), visit.frame.path
    if decode_id(IdKind.AUTOMATION, text) is not None:
        target = f"/automations/{text}"
    elif decode_id(IdKind.WEBHOOK, text) is not None:
        target = f"/settings/webhooks/{text}"
    elif decode_id(IdKind.SLACK, text) is not None:
        target = f"/settings/slack/{text}"
    elif text.startswith("dlv_") and text.isascii() and text.isalnum() is False and "/" not in text:
        target = f"/deliveries/{text}" if text.removeprefix("dlv_").isalnum() else "/deliveries"
    else:
        target = f"/deliveries{query({'event': text})}"
    return RedirectResponse(f"{path}{target}", 303)
