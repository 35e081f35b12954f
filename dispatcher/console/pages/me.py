"""What is one's own: roles and invitations, the default entity, keys and sessions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection

from dispatcher.api.resources import ApiResources
from dispatcher.console.confirmation import Question, act_or_ask_again, ask
from dispatcher.console.forms import Faults, Form, FormDep
from dispatcher.console.keys import revocation
from dispatcher.console.listing import list_url
from dispatcher.console.once import make_key_once
from dispatcher.console.refusals import attempt
from dispatcher.console.rendering import render
from dispatcher.console.visitors import ResourcesDep, Visitor, VisitorDep
from dispatcher.control import identity, invitations, members, sessions, users
from dispatcher.control.paging import MAX_LIMIT, PageRequest, page_request
from shared.domain.ids import IdKind, encode_id
from shared.storage.database.transactions import read_transaction, write_transaction

router = APIRouter(prefix="/me")
LISTED = 50


@router.get("")
def me(request: Request, resources: ResourcesDep, visitor: VisitorDep, done: str = "") -> Response:
    """Who one is, where one has a role, and where one is signed in."""
    return _me_page(request, resources, visitor, Faults(), Form(), done)


def _me_page(
    request: Request, resources: ApiResources, visitor: Visitor, faults: Faults, form: Form, done: str = ""
) -> Response:
    principal, url = visitor.principal, list_url(request, ())
    with read_transaction(resources.engine) as connection:
        user = users.get(connection, principal, principal.user_name)
        asked = page_request(LISTED, url.cursor or None)
        keys = identity.list_keys(connection, principal, asked, user=principal.user_name)
        invited = invitations.list_own(connection, principal, PageRequest(MAX_LIMIT))
        mine = sessions.list_sessions(connection, principal)
    return render(
        request,
        "me.html",
        status=422 if faults.all else 200,
        user=user,
        keys=keys,
        invited=invited,
        sessions=mine,
        own=visitor.opened.session.id,
        provider=resources.settings.oidc_name,
        faults=faults,
        form=form,
        url=url,
        done=done,
    )


@router.post("/keys")
def make_key(request: Request, resources: ResourcesDep, visitor: VisitorDep, form: FormDep) -> Response:
    """Make another key of one's own; this page alone shows it."""
    body = {"name": form.text("name").strip()}
    made = attempt(lambda: make_key_once(resources, visitor.principal, form, body), ("name", "lasts"))
    if isinstance(made, Faults):
        return _me_page(request, resources, visitor, made, form)
    return render(request, "key_made.html", key=made, back="/console/me")


@router.get("/keys/{key_id}/revoke")
def revoke_page(key_id: str, request: Request, resources: ResourcesDep, visitor: VisitorDep) -> Response:
    """Whether to revoke one of one's own keys."""
    return ask(request, _revocation(resources, visitor, key_id))


def _revocation(resources: ApiResources, visitor: Visitor, key_id: str) -> Question:
    with read_transaction(resources.engine) as connection:
        return revocation(identity.get_key(connection, visitor.principal, key_id), "", "/console/me", "You")


@router.post("/keys/{key_id}/revoke")
def revoke_key(key_id: str, request: Request, resources: ResourcesDep, visitor: VisitorDep) -> Response:
    """Revoke one of one's own keys, and with it its sessions."""

    def act(connection: Connection) -> None:
        identity.revoke_key(connection, visitor.principal, key_id)

    question = partial(_revocation, resources, visitor, key_id)
    return act_or_ask_again(request, resources, act, question, "/console/me?done=revoked")


@router.post("/default-entity")
def choose_default(request: Request, resources: ResourcesDep, visitor: VisitorDep, form: FormDep) -> Response:
    """Choose where the wandb client works when no entity is named."""
    chosen: dict[str, Any] = {"default_entity": form.text("default_entity") or None}

    def act(connection: Connection) -> None:
        users.change(connection, visitor.principal, visitor.principal.user_name, chosen)

    return _done(request, resources, visitor, act, "default", fields=("default_entity",))


@router.get("/entities/{entity}/leave")
def leave_page(entity: str, request: Request, resources: ResourcesDep, visitor: VisitorDep) -> Response:
    """Whether to leave a team."""
    return _leave_page(request, entity, Faults())


def _leave_page(request: Request, entity: str, faults: Faults) -> Response:
    return render(request, "leave.html", status=409 if faults.all else 200, entity=entity, faults=faults)


@router.post("/entities/{entity}/leave")
def leave(entity: str, request: Request, resources: ResourcesDep, visitor: VisitorDep) -> Response:
    """Give up one's role in a team."""

    def act() -> None:
        own = encode_id(IdKind.USER, visitor.principal.user_id)
        with write_transaction(resources.engine) as connection:
            members.remove(connection, visitor.principal, entity, own)

    if isinstance(faults := attempt(act, ()), Faults):
        return _leave_page(request, entity, faults)
    resources.callers.clear()
    return RedirectResponse("/console/me?done=left", 303)


@router.post("/invitations/{entity}/accept")
def accept(entity: str, request: Request, resources: ResourcesDep, visitor: VisitorDep) -> Response:
    """Accept an invitation."""

    def act(connection: Connection) -> None:
        invitations.accept(connection, visitor.principal, entity)

    return _done(request, resources, visitor, act, "accepted")


@router.post("/invitations/{entity}/decline")
def decline(entity: str, request: Request, resources: ResourcesDep, visitor: VisitorDep) -> Response:
    """Decline an invitation."""

    def act(connection: Connection) -> None:
        invitations.decline(connection, visitor.principal, entity)

    return _done(request, resources, visitor, act, "declined")


@router.post("/sessions/{session_id}/end")
def end_session(session_id: str, resources: ResourcesDep, visitor: VisitorDep) -> Response:
    """End one of one's own sessions."""
    with write_transaction(resources.engine) as connection:
        sessions.end_session(connection, visitor.principal, session_id)
    return RedirectResponse("/console/me?done=session-ended", 303)


def _done(
    request: Request,
    resources: ApiResources,
    visitor: Visitor,
    act: Callable[[Connection], object],
    done: str,
    *,
    fields: tuple[str, ...] = (),
) -> Response:
    """Act, and say so, or show the page with what was refused."""

    def acted() -> None:
        with write_transaction(resources.engine) as connection:
            act(connection)

    if isinstance(faults := attempt(acted, fields), Faults):
        return _me_page(request, resources, visitor, faults, Form())
    resources.callers.clear()
    return RedirectResponse(f"/console/me?done={done}", 303)
