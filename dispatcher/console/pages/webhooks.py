"""Webhooks: the list, and one with its state and uses."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from dispatcher.console.entities import EntityDep
from dispatcher.console.listing import list_url
from dispatcher.console.pages.revisions import gone_page
from dispatcher.console.rendering import render
from dispatcher.console.switches import SWITCHES, Switch
from dispatcher.console.visitors import ResourcesDep
from dispatcher.console.words import STATUSES, event_words
from dispatcher.control import deliveries, webhooks
from dispatcher.control.definition_lists import list_automations, list_webhooks
from dispatcher.control.errors import NotFound
from dispatcher.control.paging import PageRequest
from shared.domain.errors import InvalidDefinition
from shared.domain.ids import IdKind
from shared.storage.database.transactions import read_transaction, write_transaction

router = APIRouter(prefix="/e/{entity}/settings/webhooks")
LISTED = 40
FILTERS = ("text", "state", "sort")
SHOWN_DELIVERIES = 10
SHOWN_CALLERS = 20


@router.get("")
def webhooks_page(request: Request, visit: EntityDep, resources: ResourcesDep, done: str = "") -> Response:
    """The webhooks that match, with the state of each and how deliveries went."""
    url = list_url(request, FILTERS)
    wanted = {name: value for name, value in url.filters.items() if value}
    page, fault = None, ""
    try:
        with read_transaction(resources.engine) as connection:
            query = {**wanted, "cursor": url.cursor or None, "limit": LISTED, "stats": True}
            page = list_webhooks(connection, visit.principal, visit.entity, query, vault=resources.vault)
    except InvalidDefinition as exc:
        fault = str(exc)
    return render(request, "webhooks.html", status=422 if fault else 200, page=page, url=url, fault=fault, done=done)


@router.get("/{webhook_id}")
def webhook_page(
    webhook_id: str, request: Request, visit: EntityDep, resources: ResourcesDep, done: str = ""
) -> Response:
    """One webhook: endpoint, state, what payloads may use, and its newest deliveries."""
    try:
        with read_transaction(resources.engine) as connection:
            one = webhooks.get(connection, visit.principal, visit.entity, webhook_id, vault=resources.vault)
            newest = deliveries.list_deliveries(
                connection, visit.principal, visit.entity, {"webhook": webhook_id}, PageRequest(SHOWN_DELIVERIES)
            )
            calling = {"webhook": webhook_id, "sort": "name", "limit": SHOWN_CALLERS}
            callers = list_automations(connection, visit.principal, visit.entity, calling)
    except NotFound:
        return gone_page(request, visit, resources, IdKind.WEBHOOK, webhook_id)
    return render(
        request,
        "webhook.html",
        webhook=one,
        deliveries=newest,
        callers=callers,
        statuses=STATUSES,
        event_words=event_words,
        done=done,
    )


@router.post("/{webhook_id}/{change}")
def change(webhook_id: str, change: Switch, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Pause, resume, enable or disable a webhook."""
    with write_transaction(resources.engine) as connection:
        changed = webhooks.change(
            connection, visit.principal, visit.entity, webhook_id, SWITCHES[change], checks=resources.checks
        )
    resources.wake_if_open(IdKind.WEBHOOK, changed)
    return RedirectResponse(f"{visit.frame.path}/settings/webhooks/{webhook_id}?done={change}", 303)
