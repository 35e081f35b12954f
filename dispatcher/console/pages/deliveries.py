"""Deliveries: the list with its filters, one with its attempts, and replaying."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection

from dispatcher.api.deliveries import export_answer
from dispatcher.console.entities import EntityDep
from dispatcher.console.forms import FormDep
from dispatcher.console.listing import list_url
from dispatcher.console.once import act_once
from dispatcher.console.rendering import digest, render
from dispatcher.console.visitors import ResourcesDep
from dispatcher.console.webhook_script import webhook_script
from dispatcher.console.words import STATUSES, event_words
from dispatcher.control import deliveries
from dispatcher.control.delivery_views import DeliveryDetail
from dispatcher.control.paging import page_request
from shared.domain.errors import InvalidDefinition
from shared.domain.payloads.content_types import JSON, is_json
from shared.storage.database.transactions import read_transaction

router = APIRouter(prefix="/e/{entity}/deliveries")
FILTERS = ("status", "automation", "webhook", "event", "project", "collection", "run", "reason", "since", "until")


@router.get("")
def deliveries_page(request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """The deliveries that match, newest first."""
    url = list_url(request, FILTERS)
    wanted = {name: value for name, value in url.filters.items() if value}
    page, fault, newest = None, "", 0
    try:
        with read_transaction(resources.engine) as connection:
            newest = deliveries.newest_number(connection, visit.principal, visit.entity)
            asked = page_request(None, url.cursor or None, two_way=True)
            page = deliveries.list_deliveries(connection, visit.principal, visit.entity, wanted, asked)
    except InvalidDefinition as exc:
        fault = str(exc)
    return render(
        request,
        "deliveries.html",
        status=422 if fault else 200,
        page=page,
        newest=newest,
        url=url,
        fault=fault,
        statuses=STATUSES,
        event_words=event_words,
    )


@router.get("/export")
async def export(request: Request, visit: EntityDep, resources: ResourcesDep, format: str = "csv") -> Response:
    """All deliveries that match, as a file."""
    wanted = {name: value for name, value in list_url(request, FILTERS).filters.items() if value}
    return await export_answer(resources, visit.principal, visit.entity, wanted, format)


@router.get("/{delivery_id}")
def delivery_page(
    delivery_id: str, request: Request, visit: EntityDep, resources: ResourcesDep, done: str = "", seen: str = ""
) -> Response:
    """One delivery: what was sent, what came back, and what comes next. Nothing if that was seen already."""
    with read_transaction(resources.engine) as connection:
        delivery = deliveries.get(connection, visit.principal, visit.entity, delivery_id)
    if seen == digest(delivery):
        return Response(status_code=204)
    return render(
        request,
        "delivery.html",
        delivery=delivery,
        script=_script_of(delivery),
        statuses=STATUSES,
        event_words=event_words,
        done=done,
    )


def _script_of(delivery: DeliveryDetail) -> str:
    """The script that sends the body to where the last attempt went; blank for none, and for a body that is no JSON."""
    url = next((one.request.url for one in reversed(delivery.attempt_log) if one.request), None)
    content_type = delivery.content_type or JSON
    return webhook_script(url, delivery.payload, content_type) if url and is_json(content_type) else ""


@router.post("/{delivery_id}/replay")
def replay(delivery_id: str, visit: EntityDep, resources: ResourcesDep, form: FormDep) -> Response:
    """Deliver once more, as a new delivery."""
    woken: list[int] = []

    def act(connection: Connection) -> str:
        replayed = deliveries.replay_one(connection, visit.principal, visit.entity, delivery_id)
        woken.extend(replayed.webhook_ids)
        return f"{visit.frame.path}/deliveries/{replayed.ids[0]}?done=replayed"

    led_to = act_once(resources, visit.principal, form, act)
    resources.wake(woken)
    return RedirectResponse(led_to, 303)
