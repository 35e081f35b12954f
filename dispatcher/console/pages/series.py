"""What the metric conditions of an automation saw of a run, as charts: samples, what was compared, where it fired."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from dispatcher.api.event_log import streams
from dispatcher.api.resources import ApiResources
from dispatcher.console.entities import EntityDep, EntityVisit
from dispatcher.console.listing import list_url
from dispatcher.console.metric_plots import ConditionPlot, condition_plot
from dispatcher.console.pages.events import newest_events
from dispatcher.console.rendering import render
from dispatcher.console.visitors import ResourcesDep
from dispatcher.console.words import OUTCOMES, REASONS
from dispatcher.control import automations, series
from dispatcher.control.event_log import EventQuery
from dispatcher.control.event_views import EventFactsView
from dispatcher.control.series import SeriesQuery, SeriesView
from shared.domain.errors import InvalidDefinition
from shared.domain.events.types import EventType
from shared.storage.database.transactions import read_transaction

router = APIRouter(prefix="/e/{entity}/automations/{automation_id}/series")
SINCE = ("1h", "6h", "24h", "7d", "all that is kept")
POINTS = 1000
LOOKED_AT = 100
"""The newest metric events among which the page looks for runs to choose from."""


@router.get("")
def series_page(automation_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """The question which run, and what each condition saw of it."""
    url = list_url(request, ("run", "project", "since", "today"))
    with read_transaction(resources.engine) as connection:
        one = automations.get(connection, visit.principal, visit.entity, automation_id)
    project = url.filters["project"] or one["scope"].get("project") or ""
    since = url.filters["since"] if url.filters["since"] in SINCE else "24h"
    view, fault = None, ""
    runs = _runs(resources, visit, project)
    if url.filters["run"] and project:
        try:
            view = _read(resources, visit, automation_id, url.filters, project, since)
        except InvalidDefinition as exc:
            fault = str(exc)
    return render(
        request,
        "series.html",
        status=422 if fault else 200,
        automation=one,
        url=url,
        project=project,
        since=since,
        since_choices=SINCE,
        runs=runs,
        view=view,
        plots=_plots(view),
        fault=fault,
        outcome_words=OUTCOMES,
        reason_words=REASONS,
    )


def _runs(resources: ApiResources, visit: EntityVisit, project: str) -> list[EventFactsView]:
    """The newest metric event of each run that logged lately."""
    wanted = EventQuery(type=EventType.RUN_METRIC, project=project or None, limit=LOOKED_AT)
    found: dict[tuple[str | None, str | None], EventFactsView] = {}
    for event in newest_events(resources, visit, wanted).items:
        if event.entity == visit.entity:
            found.setdefault((event.project, event.run), event)
    return list(found.values())


def _read(
    resources: ApiResources,
    visit: EntityVisit,
    automation_id: str,
    filters: Mapping[str, str],
    project: str,
    since: str,
) -> SeriesView:
    now = datetime.now(UTC)
    wanted = SeriesQuery(
        run=filters["run"],
        project=project,
        since=None if since == SINCE[-1] else since,
        until=None,
        points=POINTS,
        today=filters["today"] == "1",
    )
    with read_transaction(resources.engine) as connection:
        prepared = series.prepare(
            connection, visit.principal, visit.entity, automation_id, wanted, settings=resources.settings, now=now
        )
    with streams(resources) as redis:
        return series.read(prepared, redis, resources.settings.partitions, resources.engine)


def _plots(view: SeriesView | None) -> list[ConditionPlot]:
    return [] if view is None else [condition_plot(one) for one in view.series]
