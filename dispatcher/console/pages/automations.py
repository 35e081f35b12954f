"""Automations: the hub, and one with what it does and did."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection

from dispatcher.api.resources import ApiResources
from dispatcher.console.confirmation import Question, act_or_ask_again, ask
from dispatcher.console.entities import EntityDep, EntityVisit
from dispatcher.console.listing import ListUrl, list_url
from dispatcher.console.pages.revisions import gone_page
from dispatcher.console.rendering import render
from dispatcher.console.visitors import ResourcesDep
from dispatcher.console.words import EVENTS, STATUSES, event_words, sentence
from dispatcher.control import automations, deliveries
from dispatcher.control.definition_lists import list_automations
from dispatcher.control.errors import NotFound
from dispatcher.control.paging import PageRequest
from shared.domain.errors import InvalidDefinition
from shared.domain.ids import IdKind
from shared.storage.database.transactions import read_transaction, write_transaction

router = APIRouter(prefix="/e/{entity}/automations")
LISTED = 40
FILTERS = ("text", "event", "project", "collection", "webhook", "action", "state", "sort")
STATES = {"on": True, "off": False}
SHOWN_DELIVERIES = 10
KEPT = ("id", "entity", "revision", "created_at", "updated_at", "unmatched", "ignored_sample", "stats")
"""Members of the view that are no part of the definition."""


@router.get("")
def automations_page(request: Request, visit: EntityDep, resources: ResourcesDep, done: str = "") -> Response:
    """The automations that match, with how each did of late."""
    url = list_url(request, FILTERS)
    page, fault = None, ""
    try:
        with read_transaction(resources.engine) as connection:
            page = list_automations(connection, visit.principal, visit.entity, _query(url))
    except InvalidDefinition as exc:
        fault = str(exc)
    return render(
        request,
        "automations.html",
        status=422 if fault else 200,
        page=page,
        url=url,
        fault=fault,
        events=EVENTS,
        event_words=event_words,
        done=done,
    )


def _query(url: ListUrl) -> dict[str, Any]:
    """The filters as control takes them."""
    wanted: dict[str, Any] = {name: value for name, value in url.filters.items() if value and name != "state"}
    if url.filters["state"] in STATES:
        wanted["enabled"] = STATES[url.filters["state"]]
    return {**wanted, "cursor": url.cursor or None, "limit": LISTED, "stats": True}


@router.get("/{automation_id}")
def automation_page(
    automation_id: str, request: Request, visit: EntityDep, resources: ResourcesDep, done: str = ""
) -> Response:
    """One automation: what it does, in words and as it is stored, and its newest deliveries."""
    try:
        with read_transaction(resources.engine) as connection:
            one = automations.get(connection, visit.principal, visit.entity, automation_id)
            newest = deliveries.list_deliveries(
                connection, visit.principal, visit.entity, {"automation": automation_id}, PageRequest(SHOWN_DELIVERIES)
            )
    except NotFound:
        return gone_page(request, visit, resources, IdKind.AUTOMATION, automation_id)
    return render(
        request,
        "automation.html",
        automation=one,
        definition=definition_of(one),
        words=sentence(one),
        deliveries=newest,
        statuses=STATUSES,
        event_words=event_words,
        done=done,
    )


@router.get("/{automation_id}/delete")
def delete_page(automation_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Whether to delete an automation."""
    return ask(request, _question(visit, resources, automation_id))


def _question(visit: EntityVisit, resources: ApiResources, automation_id: str) -> Question:
    with read_transaction(resources.engine) as connection:
        one = automations.get(connection, visit.principal, visit.entity, automation_id)
    path = f"{visit.frame.path}/automations"
    return Question(
        what="automation",
        name=one["name"],
        section="automations",
        words="It fires no more. Its deliveries stay in the history.",
        back=f"{path}/{automation_id}",
        trail=[("Automations", path), (one["name"], f"{path}/{automation_id}")],
    )


@router.post("/{automation_id}/delete")
def delete(automation_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Delete an automation."""

    def act(connection: Connection) -> None:
        automations.delete(connection, visit.principal, visit.entity, automation_id)

    question = partial(_question, visit, resources, automation_id)
    led_to = f"{visit.frame.path}/automations?done=deleted"
    return act_or_ask_again(request, resources, act, question, led_to)


@router.post("/{automation_id}/{change}")
def switch(
    automation_id: str, change: Literal["enable", "disable"], visit: EntityDep, resources: ResourcesDep
) -> Response:
    """Turn an automation on or off."""
    with write_transaction(resources.engine) as connection:
        patch = {"enabled": change == "enable"}
        automations.change(connection, visit.principal, visit.entity, automation_id, patch)
    return RedirectResponse(f"{visit.frame.path}/automations/{automation_id}?done={change}", 303)


def definition_of(view: dict[str, Any]) -> dict[str, Any]:
    """The definition in a view: what can be changed."""
    return {name: value for name, value in view.items() if name not in KEPT}
