"""Events: those that are kept, newest first, and one with what every automation made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from dispatcher.api.event_log import streams
from dispatcher.api.resources import ApiResources
from dispatcher.console.entities import EntityDep, EntityVisit
from dispatcher.console.listing import ListUrl, list_url
from dispatcher.console.rendering import query, render
from dispatcher.console.visitors import ResourcesDep
from dispatcher.console.words import EVENTS, OUTCOMES, REASONS, STATUSES, happened_words
from dispatcher.control import event_log
from dispatcher.control.event_log import EventQuery
from dispatcher.control.event_views import AutomationOutcomeView, EventDetail, EventPage
from dispatcher.control.paging import page_request
from shared.domain.errors import InvalidDefinition
from shared.domain.events.types import EventType
from shared.domain.explain.simulator import DryRunOutcome

router = APIRouter(prefix="/e/{entity}/events")
LISTED = 50
LISTED_AUTOMATIONS = 50
FILTERS = ("type", "project", "collection", "run", "author", "source", "id", "since", "until")
_PREFILLED: Mapping[str, str] = {"alias": "alias", "tag": "tag", "state": "state"}
"""What an event's data say of its subject, and what the editor calls it."""


@router.get("")
def events_page(request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """The kept events that match, and how many deliveries each made."""
    url = list_url(request, FILTERS)
    page, made, fault = None, {}, ""
    try:
        page = newest_events(resources, visit, _query(url))
        made = event_log.deliveries_made(resources.engine, visit.principal, visit.entity, page.items)
    except InvalidDefinition as exc:
        fault = str(exc)
    return render(
        request,
        "events.html",
        status=422 if fault else 200,
        page=page,
        made=made,
        url=url,
        fault=fault,
        events=EVENTS,
        event_words=happened_words,
        retention=resources.settings.event_retention,
    )


def newest_events(resources: ApiResources, visit: EntityVisit, wanted: EventQuery) -> EventPage:
    """The kept events that match, newest first. Raises Problem (503) without the streams."""
    with streams(resources) as redis:
        return event_log.list_events(
            resources.engine, visit.principal, visit.entity, wanted, redis, resources.settings, datetime.now(UTC)
        )


def _query(url: ListUrl) -> EventQuery:
    """The filters as control takes them. Raises InvalidDefinition."""
    wanted: dict[str, Any] = {name: value for name, value in url.filters.items() if value}
    if (type_ := wanted.pop("type", None)) is not None and type_ not in set(EventType):
        raise InvalidDefinition.at(("type",), "must be one of the types of events")
    asked = EventQuery(**wanted, limit=LISTED, cursor=url.cursor or None)
    return asked if type_ is None else replace(asked, type=EventType(type_))


@router.get("/one")
def event_page(
    request: Request,
    visit: EntityDep,
    resources: ResourcesDep,
    entry: str = "",
    id: str = "",
    source: str = "",
    cursor: str = "",
) -> Response:
    """One event, by its place in the list or by its id, and what each automation made of it."""
    with streams(resources) as redis:
        event = event_log.get_event(
            resources.engine,
            visit.principal,
            visit.entity,
            entry=entry or None,
            event_id=id or None,
            source=source or None,
            page=page_request(LISTED_AUTOMATIONS, cursor or None),
            redis=redis,
            settings=resources.settings,
            now=datetime.now(UTC),
        )
    by_outcome = {outcome: [one for one in event.automations if one.outcome is outcome] for outcome in DryRunOutcome}
    return render(
        request,
        "event.html",
        event=event,
        verdicts=_verdicts(by_outcome),
        apart=by_outcome[DryRunOutcome.OUT_OF_SCOPE],
        editor=query(_draft_of(event)),
        url=list_url(request, ("entry", "id", "source")),
        outcome_words=OUTCOMES,
        reason_words=REASONS,
        statuses=STATUSES,
        event_words=happened_words,
    )


def _verdicts(by_outcome: Mapping[DryRunOutcome, list[AutomationOutcomeView]]) -> list[AutomationOutcomeView]:
    """Those that the event was about: what came of it first."""
    order = (DryRunOutcome.FIRED, DryRunOutcome.SKIPPED, DryRunOutcome.NO_MATCH)
    return [one for outcome in order for one in by_outcome[outcome]]


def _draft_of(event: EventDetail) -> dict[str, str]:
    """What the editor is opened with, to make an automation for events like this one."""
    data = event.event.get("data", {})
    draft = {"event": event.type, "project": event.project or "", "collection": event.collection or ""}
    return draft | {name: str(data[member]) for member, name in _PREFILLED.items() if isinstance(data.get(member), str)}
