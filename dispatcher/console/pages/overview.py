"""An entity's first page: what needs a look, and for a new entity what to do first. And finding a thing by its id."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from dispatcher.console.entities import EntityDep
from dispatcher.console.rendering import query, render
from dispatcher.console.visitors import ResourcesDep
from dispatcher.console.words import STATUSES, event_words
from dispatcher.control import deliveries, secrets
from dispatcher.control.definition_lists import list_automations, list_webhooks
from dispatcher.control.paging import MAX_LIMIT, PageRequest
from shared.domain.ids import IdKind, decode_id
from shared.storage.database.transactions import read_transaction

router = APIRouter(prefix="/e/{entity}")
NEWEST = 5


@router.get("")
def overview(request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """The entity at a glance."""
    principal, entity, few = visit.principal, visit.entity, PageRequest(NEWEST)
    with read_transaction(resources.engine) as connection:
        hooks = list_webhooks(connection, principal, entity, {"limit": MAX_LIMIT}, vault=resources.vault)
        rules = list_automations(connection, principal, entity, {"limit": MAX_LIMIT})
        kept = secrets.list_secrets(connection, principal, entity, PageRequest(1))
        newest = deliveries.list_deliveries(connection, principal, entity, {}, few)
        failed = {
            status: deliveries.list_deliveries(connection, principal, entity, {"status": status}, few)
            for status in ("dead", "refused", "skipped")
        }
    return render(
        request,
        "overview.html",
        webhooks=hooks,
        automations=rules,
        has_secret=bool(kept.items),
        newest=newest,
        failed=failed,
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
