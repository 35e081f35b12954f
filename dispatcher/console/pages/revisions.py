"""What automations, webhooks and Slack integrations were: each edit, who made it, what it changed, and restoring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection

from dispatcher.api.resources import ApiResources
from dispatcher.console.entities import EntityDep, EntityVisit
from dispatcher.console.forms import Faults, faults_at
from dispatcher.console.listing import list_url
from dispatcher.console.rendering import render
from dispatcher.console.visitors import ResourcesDep
from dispatcher.control import revisions
from dispatcher.control.errors import Conflict, NotFound
from dispatcher.control.paging import PageRequest, page_request
from dispatcher.control.revisions import RevisionDetail, RevisionView
from shared.domain.errors import InvalidDefinition
from shared.domain.ids import MAX_ROW_NUMBER, IdKind
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.kept_revisions import RevisionChange

router = APIRouter(prefix="/e/{entity}")
LISTED = 50


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of thing that has revisions."""

    kind: IdKind
    section: str
    word: str
    plural: str
    path: str
    by_admins: bool
    """Whether only administrators may restore it."""


TARGETS = (
    Target(IdKind.AUTOMATION, "automations", "automation", "Automations", "automations", by_admins=False),
    Target(IdKind.WEBHOOK, "webhooks", "webhook", "Webhooks", "settings/webhooks", by_admins=True),
    Target(IdKind.SLACK, "slack", "Slack integration", "Slack", "settings/slack", by_admins=True),
)
Number = Annotated[int, Path(ge=1, lt=MAX_ROW_NUMBER)]


@router.get("/automations/{target_id}/revisions")
@router.get("/settings/webhooks/{target_id}/revisions")
@router.get("/settings/slack/{target_id}/revisions")
def revisions_page(target_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Every kept edit of a target, newest first; also of one that was deleted."""
    target, url = _target(request), list_url(request, ())
    with read_transaction(resources.engine) as connection:
        page = revisions.list_of(
            connection,
            visit.principal,
            visit.entity,
            target.kind,
            target_id,
            page_request(LISTED, url.cursor or None),
        )
        newest = page.items[0] if page.items and not url.cursor else _newest(connection, visit, target, target_id)
        name = _name(connection, visit, target, target_id, newest)
    return render(
        request,
        "revisions.html",
        target=target,
        target_id=target_id,
        name=name,
        deleted=newest is not None and newest.change is RevisionChange.DELETE,
        newest=newest,
        page=page,
        url=url,
    )


@router.get("/automations/{target_id}/revisions/{number}")
@router.get("/settings/webhooks/{target_id}/revisions/{number}")
@router.get("/settings/slack/{target_id}/revisions/{number}")
def revision_page(
    target_id: str, number: Number, request: Request, visit: EntityDep, resources: ResourcesDep
) -> Response:
    """One edit: what the target was after it, and what it changed."""
    return _revision_page(target_id, number, request, visit, resources, Faults())


@router.post("/automations/{target_id}/revisions/{number}/restore")
@router.post("/settings/webhooks/{target_id}/revisions/{number}/restore")
@router.post("/settings/slack/{target_id}/revisions/{number}/restore")
def restore(target_id: str, number: Number, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Make the target what it was after an edit, as a new edit; a deleted one lives again."""
    target = _target(request)
    try:
        _restore(target, target_id, number, visit, resources)
    except (InvalidDefinition, Conflict) as exc:
        return _revision_page(target_id, number, request, visit, resources, faults_at(exc.errors, (), str(exc)))
    return RedirectResponse(f"{visit.frame.path}/{target.path}/{target_id}?done=restored", 303)


def _restore(target: Target, target_id: str, number: int, visit: EntityVisit, resources: ApiResources) -> None:
    who, entity = visit.principal, visit.entity
    with write_transaction(resources.engine) as connection:
        if target.kind is IdKind.AUTOMATION:
            revisions.restore_automation(connection, who, entity, target_id, number)
            return
        act = revisions.restore_webhook if target.kind is IdKind.WEBHOOK else revisions.restore_slack
        restored = act(connection, who, entity, target_id, number, checks=resources.checks)
    resources.wake_if_open(target.kind, restored)


def _revision_page(
    target_id: str, number: int, request: Request, visit: EntityVisit, resources: ApiResources, faults: Faults
) -> Response:
    target = _target(request)
    with read_transaction(resources.engine) as connection:
        newest = _newest(connection, visit, target, target_id)
        one = revisions.get(connection, visit.principal, visit.entity, target.kind, target_id, number)
    return render(
        request,
        "revision.html",
        status=422 if faults.all else 200,
        target=target,
        target_id=target_id,
        name=_name_in(one, target_id),
        one=one,
        newest=newest,
        faults=faults,
    )


def gone_page(request: Request, visit: EntityVisit, resources: ApiResources, kind: IdKind, target_id: str) -> Response:
    """The page of something that was deleted: what it was, when, by whom, and what is left to see.

    Raises NotFound for what never was, or whose revisions are not kept any more.
    """
    target = next(one for one in TARGETS if one.kind is kind)
    with read_transaction(resources.engine) as connection:
        newest = _newest(connection, visit, target, target_id)
        if newest is None or newest.change is not RevisionChange.DELETE:
            raise NotFound(f"{visit.entity!r} has no {target.word} {target_id!r}")
        one = revisions.get(connection, visit.principal, visit.entity, kind, target_id, newest.number)
    return render(
        request, "gone.html", status=404, target=target, target_id=target_id, name=_name_in(one, target_id), one=one
    )


def _target(request: Request) -> Target:
    """The kind of thing that a route is about."""
    return next(one for one in TARGETS if request.scope["route"].path.startswith(f"/e/{{entity}}/{one.path}/"))


def _newest(connection: Connection, visit: EntityVisit, target: Target, target_id: str) -> RevisionView | None:
    page = revisions.list_of(connection, visit.principal, visit.entity, target.kind, target_id, PageRequest(1))
    return page.items[0] if page.items else None


def _name(
    connection: Connection, visit: EntityVisit, target: Target, target_id: str, newest: RevisionView | None
) -> str:
    if newest is None:
        return target_id
    one = revisions.get(connection, visit.principal, visit.entity, target.kind, target_id, newest.number)
    return _name_in(one, target_id)


def _name_in(one: RevisionDetail, target_id: str) -> str:
    return str(one.definition.get("name") or target_id)
