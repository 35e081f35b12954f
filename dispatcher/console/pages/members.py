"""Members and keys, for an entity's administrators."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection

from dispatcher.console.confirmation import Question, act_or_ask_again, ask
from dispatcher.console.entities import EntityDep, EntityVisit
from dispatcher.console.forms import Faults, Form, FormDep
from dispatcher.console.keys import revocation
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


@router.get("/members/{user_id}/remove")
def remove_page(user_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Whether to take somebody's role away."""
    return ask(request, _removal(visit, resources, user_id))


def _removal(visit: EntityVisit, resources: ResourcesDep, user_id: str) -> Question:
    with read_transaction(resources.engine) as connection:
        one = members.get(connection, visit.principal, visit.entity, user_id)
    path = f"{visit.frame.path}/settings/members"
    return Question(
        what="member",
        name=one.name,
        section="members",
        words=f"The role {one.role} in {visit.entity} is lost at once, also by keys and sessions. What was made stays.",
        back=path,
        trail=[("Members", path)],
        verb="Remove",
        icon="user",
    )


@router.post("/members/{user_id}/remove")
def remove_member(user_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Take somebody's role away."""

    def act(connection: Connection) -> None:
        members.remove(connection, visit.principal, visit.entity, user_id)

    led_to = f"{visit.frame.path}/settings/members?done=removed"
    return act_or_ask_again(request, resources, act, lambda: _removal(visit, resources, user_id), led_to)


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


@router.get("/keys/{key_id}/revoke")
def revoke_page(key_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Whether to revoke a key."""
    visit.require(Action.ADMINISTER)
    return ask(request, _revocation(visit, resources, key_id))


def _revocation(visit: EntityVisit, resources: ResourcesDep, key_id: str) -> Question:
    with read_transaction(resources.engine) as connection:
        one = identity.get_key(connection, visit.principal, key_id)
    return revocation(one, "keys", f"{visit.frame.path}/settings/keys", "Keys")


@router.post("/keys/{key_id}/revoke")
def revoke_key(key_id: str, request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """Revoke a key of one of the entity's service users."""
    visit.require(Action.ADMINISTER)

    def act(connection: Connection) -> None:
        identity.revoke_key(connection, visit.principal, key_id)

    led_to = f"{visit.frame.path}/settings/keys?done=revoked"
    return act_or_ask_again(request, resources, act, lambda: _revocation(visit, resources, key_id), led_to)
