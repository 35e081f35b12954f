"""The instance at a glance, for its administrators: checks, dead letters of all entities, and poison entries."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from dispatcher.console.administration import AdminDep
from dispatcher.console.changes import changes_page
from dispatcher.console.listing import list_url
from dispatcher.console.rendering import render
from dispatcher.console.visitors import ResourcesDep
from dispatcher.control import audit, dead_letters, poison
from dispatcher.control.health import full_health
from dispatcher.control.paging import DEFAULT_LIMIT
from shared.domain.errors import InvalidDefinition
from shared.storage.database.transactions import read_transaction

router = APIRouter(prefix="/admin")


@router.get("")
def start(_visitor: AdminDep) -> Response:
    """To the first of these pages."""
    return RedirectResponse("/console/admin/health", 303)


@router.get("/health")
def health_page(request: Request, _visitor: AdminDep, resources: ResourcesDep) -> Response:
    """Every check with its threshold, and what it is about."""
    return render(request, "admin_health.html", health=full_health(resources.health.current()))


@router.get("/dead-letters")
def dead_letters_page(request: Request, visitor: AdminDep, resources: ResourcesDep) -> Response:
    """How many deliveries failed for good, by webhook."""
    with read_transaction(resources.engine) as connection:
        counted = dead_letters.count_dead_letters(connection, visitor.principal)
    return render(request, "admin_dead_letters.html", counted=counted)


@router.get("/poison")
def poison_page(request: Request, visitor: AdminDep, resources: ResourcesDep) -> Response:
    """Stream entries that were set aside, newest first."""
    url, page, fault = list_url(request, ()), None, ""
    try:
        with read_transaction(resources.engine) as connection:
            page = poison.list_poison(connection, visitor.principal, limit=DEFAULT_LIMIT, cursor=url.cursor or None)
    except InvalidDefinition as exc:
        fault = str(exc)
    return render(request, "admin_poison.html", status=422 if fault else 200, page=page, url=url, fault=fault)


@router.get("/poison/{partition}/{entry_id}")
def poison_entry_page(
    partition: int, entry_id: str, request: Request, visitor: AdminDep, resources: ResourcesDep
) -> Response:
    """One of them: why, and what is kept of it."""
    with read_transaction(resources.engine) as connection:
        one = poison.get_poison(connection, visitor.principal, partition, entry_id)
    return render(request, "admin_poison_entry.html", one=one)


@router.get("/audit")
def audit_page(request: Request, visitor: AdminDep, resources: ResourcesDep) -> Response:
    """Who changed what in all entities and of the instance itself, newest first."""
    return changes_page(
        request,
        resources,
        "admin_audit.html",
        lambda connection, given, asked: audit.list_all_changes(connection, visitor.principal, given, asked),
    )
