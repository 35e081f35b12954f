"""Projects, registries and collections, each with the automations that watch it; and the metrics of a project."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import Connection

from dispatcher.api.event_log import streams
from dispatcher.console.entities import EntityDep, EntityVisit
from dispatcher.console.listing import ListUrl, list_url
from dispatcher.console.metric_plots import MetricPlot, plot_of
from dispatcher.console.rendering import render
from dispatcher.console.visitors import ResourcesDep
from dispatcher.console.words import STATUSES, event_words
from dispatcher.control import catalog, deliveries
from dispatcher.control.definition_lists import list_automations
from dispatcher.control.metric_lines import MetricQuery, list_metric_lines
from dispatcher.control.paging import Page, PageRequest, page_request
from shared.domain.errors import InvalidDefinition
from shared.dry_runs.metric_lines import MetricLines
from shared.storage.database.transactions import read_transaction
from shared.storage.definitions.catalog import REGISTRY_PREFIX

router = APIRouter(prefix="/e/{entity}")
LISTED = 50
SHOWN_DELIVERIES = 10
PLOTS = 24
SINCE = ("15m", "1h", "6h", "24h", "7d")
_KINDS = {"project": False, "registry": True}


def is_registry(project: str) -> bool:
    """Whether a project is a registry, by its name."""
    return project.startswith(REGISTRY_PREFIX)


@router.get("/projects")
def projects_page(request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """The projects and registries that events, or people, have named."""
    url = list_url(request, ("text", "kind"))
    with read_transaction(resources.engine) as connection:
        page = catalog.list_projects(
            connection,
            visit.principal,
            visit.entity,
            page_request(LISTED, url.cursor or None),
            text=url.filters["text"][:512] or None,
            registries=_KINDS.get(url.filters["kind"]),
        )
    return render(request, "projects.html", page=page, url=url, is_registry=is_registry)


@router.get("/project")
def project_page(
    request: Request, visit: EntityDep, resources: ResourcesDep, name: str = "", tab: str = "automations"
) -> Response:
    """One project or registry: its automations, and those that cover it; or its collections."""
    url = list_url(request, ("name", "tab", "text"))
    applying, collections = None, None
    with read_transaction(resources.engine) as connection:
        project = catalog.get_project(connection, visit.principal, visit.entity, name)
        if tab == "collections":
            collections = catalog.list_collections(
                connection,
                visit.principal,
                visit.entity,
                name,
                page_request(LISTED, url.cursor or None),
                text=url.filters["text"][:512] or None,
            )
        else:
            applying = _applying(connection, visit, url, {"applies_to_project": name})
    return render(
        request,
        "project.html",
        project=project,
        registry=is_registry(name),
        tab="collections" if tab == "collections" else "automations",
        applying=applying,
        own=[one for one in applying.items if one["scope"].get("project") == name] if applying else [],
        collections=collections,
        url=url,
        event_words=event_words,
    )


@router.get("/collection")
def collection_page(
    request: Request, visit: EntityDep, resources: ResourcesDep, project: str = "", name: str = ""
) -> Response:
    """One collection: its automations, those that cover it, and the newest deliveries about it."""
    url = list_url(request, ("project", "name"))
    with read_transaction(resources.engine) as connection:
        collection = catalog.get_collection(connection, visit.principal, visit.entity, project, name)
        applying = _applying(connection, visit, url, {"applies_to_project": project, "applies_to_collection": name})
        newest = deliveries.list_deliveries(
            connection,
            visit.principal,
            visit.entity,
            {"project": project, "collection": name},
            PageRequest(SHOWN_DELIVERIES),
        )
    return render(
        request,
        "collection.html",
        collection=collection,
        registry=is_registry(project),
        applying=applying,
        own=[one for one in applying.items if one["scope"].get("collection") == name],
        deliveries=newest,
        url=url,
        statuses=STATUSES,
        event_words=event_words,
    )


def _applying(connection: Connection, visit: EntityVisit, url: ListUrl, wanted: dict[str, str]) -> Page[Any]:
    """The automations that watch a place, with how each did of late."""
    query = {**wanted, "cursor": url.cursor or None, "limit": LISTED, "stats": True}
    return list_automations(connection, visit.principal, visit.entity, query)


@router.get("/metrics")
def metrics_page(request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """A line plot of each metric that runs of the project logged, or a large one of one metric."""
    url = list_url(request, ("project", "metric", "run", "since"))
    wanted, since = url.filters, url.filters["since"] or "24h"
    with read_transaction(resources.engine) as connection:
        catalog.get_project(connection, visit.principal, visit.entity, wanted["project"])
    lines: MetricLines | None = None
    fault = ""
    try:
        asked = MetricQuery(wanted["project"], wanted["metric"] or None, wanted["run"] or None, since)
        with streams(resources) as redis:
            lines = list_metric_lines(
                resources.engine,
                visit.principal,
                visit.entity,
                asked,
                redis,
                resources.settings,
                datetime.now(UTC),
            )
    except InvalidDefinition as exc:
        fault = str(exc)
    plots = _plots(lines)
    return render(
        request,
        "metrics.html",
        status=422 if fault else 200,
        url=url,
        since=since,
        since_choices=SINCE,
        registry=is_registry(wanted["project"]),
        lines=lines,
        plots=plots,
        runs=_runs(lines),
        fault=fault,
    )


def _plots(lines: MetricLines | None) -> list[MetricPlot]:
    if lines is None:
        return []
    return [plot_of(metric, runs) for metric, runs in list(lines.metrics.items())[:PLOTS]]


def _runs(lines: MetricLines | None) -> dict[str, str]:
    """The runs that logged something, by their ids, with their names."""
    found: dict[str, str] = {}
    for of_metric in () if lines is None else lines.metrics.values():
        found |= {line.run: line.name for line in of_metric if line.run not in found}
    return found
