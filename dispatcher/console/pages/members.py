"""Members and keys, for an entity's administrators."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from dispatcher.console.entities import EntityDep, EntityVisit
from dispatcher.console.forms import Faults, Form, FormDep
from dispatcher.console.listing import list_url
from dispatcher.console.once import make_key_once
from dispatcher.console.refusals import attempt
from dispatcher.console.rendering import render
from dispatcher.console.visitors import ResourcesDep
from dispatcher.control import identity, invitations, members
from dispatcher.control.access import Action
from dispatcher.control.invitations import InvitationView
from dispatcher.control.members import MemberView
from dispatcher.control.paging import PageRequest, page_request
from shared.storage.accounts.users import Role
from shared.storage.database.transactions import read_transaction, write_transaction

router = APIRouter(prefix="/e/{entity}/settings")
LISTED = 100


@router.get("/members")
def members_page(request: Request, visit: EntityDep, resources: ResourcesDep, done: str = "") -> Response:
    """Who has which role."""
    return _members_page(request, visit, resources, Faults(), Form(), done)


def _members_page(
    request: Request, visit: EntityVisit, resources: ResourcesDep, faults: Faults, form: Form, done: str = ""
) -> Response:
    visit.require(Action.ADMINISTER)
    url = list_url(request, ())
    with read_transaction(resources.engine) as connection:
        page = members.list_members(connection, visit.principal, visit.entity, page_request(LISTED, url.cursor or None))
        waiting = invitations.list_of_entity(connection, visit.principal, visit.entity, PageRequest(LISTED))
    return render(
        request,
        "members.html",
        status=422 if faults.all else 200,
        page=page,
        url=url,
        waiting=waiting,
        roles=list(Role),
        faults=faults,
        form=form,
        done=done,
    )


@router.post("/members")
def put_member(request: Request, visit: EntityDep, resources: ResourcesDep, form: FormDep) -> Response:
    """Give somebody a role, or invite them."""
    user = form.text("user").strip()

    def act() -> tuple[MemberView | InvitationView, bool]:
        with write_transaction(resources.engine) as connection:
            return members.put(connection, visit.principal, visit.entity, user, {"role": form.text("role")})

    done = attempt(act, ("user", "role"))
    if isinstance(done, Faults):
        return _members_page(request, visit, resources, done, form)
    resources.callers.clear()
    said = "invited" if isinstance(done[0], InvitationView) else "saved"
    return RedirectResponse(f"{visit.frame.path}/settings/members?done={said}", 303)


@router.post("/members/{user_id}/remove")
def remove_member(user_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Take somebody's role away."""

    def act() -> None:
        with write_transaction(resources.engine) as connection:
            members.remove(connection, visit.principal, visit.entity, user_id)

    if isinstance(faults := attempt(act, ()), Faults):
        return _members_page(request, visit, resources, faults, Form())
    resources.callers.clear()
    return RedirectResponse(f"{visit.frame.path}/settings/members?done=removed", 303)


@router.post("/members/invitations/{user}/withdraw")
def take_invitation_back(user: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Take an invitation back that nobody has accepted yet."""
    with write_transaction(resources.engine) as connection:
        invitations.take_back(connection, visit.principal, visit.entity, user)
    return RedirectResponse(f"{visit.frame.path}/settings/members?done=withdrawn", 303)


@router.get("/keys")
def keys_page(request: Request, visit: EntityDep, resources: ResourcesDep, done: str = "") -> Response:
    """The keys that one may revoke."""
    return _keys_page(request, visit, resources, Faults(), Form(), done)


def _keys_page(
    request: Request, visit: EntityVisit, resources: ResourcesDep, faults: Faults, form: Form, done: str = ""
) -> Response:
    visit.require(Action.ADMINISTER)
    url = list_url(request, ())
    with read_transaction(resources.engine) as connection:
        asked = page_request(LISTED, url.cursor or None)
        page = identity.list_keys(connection, visit.principal, asked, entity_name=visit.entity)
    return render(
        request,
        "keys.html",
        status=422 if faults.all else 200,
        page=page,
        url=url,
        roles=list(Role),
        faults=faults,
        form=form,
        done=done,
    )


@router.post("/keys")
def make_key(request: Request, visit: EntityDep, resources: ResourcesDep, form: FormDep) -> Response:
    """Make a key of a service user; this page alone shows it."""
    body = {"name": form.text("name").strip(), "entity": visit.entity, "role": form.text("role")}
    if service_user := form.text("user"):
        body["user"] = service_user
    visit.require(Action.ADMINISTER)
    made = attempt(lambda: make_key_once(resources, visit.principal, form, body), ("name", "role", "lasts"))
    if isinstance(made, Faults):
        return _keys_page(request, visit, resources, made, form)
    resources.callers.clear()
    return render(request, "key_made.html", key=made, back=f"{visit.frame.path}/settings/keys")


@router.post("/keys/{key_id}/revoke")
def revoke_key(key_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Revoke a key of one of the entity's service users."""
    visit.require(Action.ADMINISTER)

    def act() -> None:
        with write_transaction(resources.engine) as connection:
            identity.revoke_key(connection, visit.principal, key_id)

    faults = attempt(act, ())
    resources.callers.clear()
    if isinstance(faults, Faults):
        return _keys_page(request, visit, resources, faults, Form())
    return RedirectResponse(f"{visit.frame.path}/settings/keys?done=revoked", 303)
