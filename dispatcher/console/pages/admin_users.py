"""Users and all keys, for instance administrators."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy import Connection

from dispatcher.api.resources import ApiResources
from dispatcher.console.administration import AdminDep
from dispatcher.console.confirmation import Question, act_or_ask_again, ask
from dispatcher.console.forms import Faults, Form, FormDep
from dispatcher.console.keys import revocation
from dispatcher.console.listing import list_url
from dispatcher.console.once import act_once, make_key_once
from dispatcher.console.refusals import attempt
from dispatcher.console.rendering import render
from dispatcher.console.visitors import ResourcesDep, Visitor
from dispatcher.control import identities, identity, users
from dispatcher.control.identity import UserView
from dispatcher.control.paging import page_request
from shared.storage.accounts.users import Role
from shared.storage.database.transactions import read_transaction, write_transaction

router = APIRouter(prefix="/admin")
LISTED = 100
NEW_ROLES = 2
"""Rows to fill in for roles that a user has not yet."""
FIELDS = ("name", "email", "is_admin", "roles")


@router.get("/users")
def users_page(
    request: Request, visitor: AdminDep, resources: ResourcesDep, done: str = "", name: str = ""
) -> Response:
    """All users, service users included; with a name on to that one, whose name may not fit into a path."""
    if name:
        with read_transaction(resources.engine) as connection:
            found = users.get(connection, visitor.principal, name)
        return RedirectResponse(f"/console/admin/users/{found.id}", 303)
    return _users_page(request, visitor, resources, Faults(), Form(), done)


def _users_page(
    request: Request, visitor: Visitor, resources: ApiResources, faults: Faults, form: Form, done: str = ""
) -> Response:
    url = list_url(request, ())
    with read_transaction(resources.engine) as connection:
        page = identity.list_users(connection, visitor.principal, page_request(LISTED, url.cursor or None))
    return render(
        request,
        "admin_users.html",
        status=422 if faults.all else 200,
        page=page,
        url=url,
        faults=faults,
        form=form,
        done=done,
    )


@router.post("/users")
def create(request: Request, visitor: AdminDep, resources: ResourcesDep, form: FormDep) -> Response:
    """Create a user."""
    body: dict[str, Any] = {"name": form.text("name").strip(), "is_admin": form.has("is_admin")}
    if email := form.text("email").strip():
        body["email"] = email

    def act(connection: Connection) -> str:
        return f"/console/admin/users/{identity.create_user(connection, visitor.principal, body).id}?done=created"

    led_to = attempt(lambda: act_once(resources, visitor.principal, form, act), FIELDS)
    if isinstance(led_to, Faults):
        return _users_page(request, visitor, resources, led_to, form)
    return RedirectResponse(led_to, 303)


@router.get("/users/{user_id}")
def user_page(user_id: str, request: Request, visitor: AdminDep, resources: ResourcesDep, done: str = "") -> Response:
    """One user, with roles and keys."""
    return _user_page(request, visitor, resources, user_id, Faults(), None, done)


def _user_page(
    request: Request,
    visitor: Visitor,
    resources: ApiResources,
    user_id: str,
    faults: Faults,
    form: Form | None,
    done: str = "",
    *,
    key_form: Form | None = None,
) -> Response:
    url = list_url(request, ())
    with read_transaction(resources.engine) as connection:
        one = users.get(connection, visitor.principal, user_id)
        asked = page_request(LISTED, url.cursor or None)
        keys = identity.list_keys(connection, visitor.principal, asked, user=one.name)
        accounts = identities.list_of(connection, visitor.principal, user_id)
    shown = _form_of(one) if form is None else form
    return render(
        request,
        "admin_user.html",
        status=422 if faults.all else 200,
        one=one,
        keys=keys,
        accounts=accounts,
        url=url,
        roles=list(Role),
        rows=_rows(shown) + [("", Role.MEMBER.value)] * NEW_ROLES,
        faults=faults,
        form=shown,
        key_form=key_form or Form(),
        done=done,
    )


def _form_of(one: UserView) -> Form:
    return Form(
        {
            "email": [one.email or ""],
            "role.entity": [role.entity for role in one.roles],
            "role.role": [str(role.role) for role in one.roles],
            **({"is_admin": ["1"]} if one.is_admin else {}),
        }
    )


def _rows(form: Form) -> list[tuple[str, str]]:
    """The roles in the form, without rows whose entity is blank."""
    entities = [text.strip() for text in form.texts("role.entity")]
    return [pair for pair in zip(entities, form.texts("role.role"), strict=False) if pair[0]]


@router.post("/users/{user_id}")
def change(user_id: str, request: Request, visitor: AdminDep, resources: ResourcesDep, form: FormDep) -> Response:
    """Save a user's address, roles, and whether they administer the instance."""
    patch = {
        "email": form.text("email").strip() or None,
        "is_admin": form.has("is_admin"),
        "roles": [{"entity": entity, "role": role} for entity, role in _rows(form)],
    }

    def act() -> None:
        with write_transaction(resources.engine) as connection:
            users.change(connection, visitor.principal, user_id, patch)

    if isinstance(faults := attempt(act, FIELDS), Faults):
        return _user_page(request, visitor, resources, user_id, faults, form)
    resources.callers.clear()
    return RedirectResponse(f"/console/admin/users/{user_id}?done=saved", 303)


@router.post("/users/{user_id}/keys")
def make_key(user_id: str, request: Request, visitor: AdminDep, resources: ResourcesDep, form: FormDep) -> Response:
    """Make a key of a user; this page alone shows it."""
    with read_transaction(resources.engine) as connection:
        owner = users.get(connection, visitor.principal, user_id)
    body = {"name": form.text("key_name").strip(), "user": owner.name}
    made = attempt(lambda: make_key_once(resources, visitor.principal, form, body), ("name", "lasts"))
    if isinstance(made, Faults):
        told = Faults({"key_name" if name == "name" else name: said for name, said in made.by_field.items()})
        return _user_page(request, visitor, resources, user_id, told, None, key_form=form)
    return render(request, "key_made.html", key=made, back=f"/console/admin/users/{user_id}")


@router.get("/users/{user_id}/unlink")
def unlink_page(user_id: str, request: Request, visitor: AdminDep, resources: ResourcesDep) -> Response:
    """Whether to take a user's accounts at the identity provider away."""
    with read_transaction(resources.engine) as connection:
        one = users.get(connection, visitor.principal, user_id)
        accounts = identities.list_of(connection, visitor.principal, user_id)
    path = f"/console/admin/users/{one.id}"
    question = Question(
        what="accounts of",
        name=one.name,
        section="admin-users",
        words="Sessions that were begun with them end. The next sign-in finds the user by the configured claim again.",
        back=path,
        trail=[("Users", "/console/admin/users"), (one.name, path)],
        verb="Take away",
        facts=[(account.issuer, account.subject) for account in accounts],
        icon="log-out",
    )
    return ask(request, question)


@router.post("/users/{user_id}/unlink")
def unlink(user_id: str, visitor: AdminDep, resources: ResourcesDep) -> Response:
    """Take a user's accounts at the identity provider away, and end their sessions."""
    with write_transaction(resources.engine) as connection:
        identities.unlink(connection, visitor.principal, user_id)
    return RedirectResponse(f"/console/admin/users/{user_id}?done=unlinked", 303)


@router.get("/users/{user_id}/delete")
def delete_page(user_id: str, request: Request, visitor: AdminDep, resources: ResourcesDep) -> Response:
    """Whether to delete a user."""
    return ask(request, _question(visitor, resources, user_id))


def _question(visitor: Visitor, resources: ApiResources, user_id: str) -> Question:
    with read_transaction(resources.engine) as connection:
        one = users.get(connection, visitor.principal, user_id)
    path = f"/console/admin/users/{one.id}"
    return Question(
        what="user",
        name=one.name,
        section="admin-users",
        words="All keys, sessions and roles go with it. The audit log keeps the name.",
        back=path,
        trail=[("Users", "/console/admin/users"), (one.name, path)],
    )


@router.post("/users/{user_id}/delete")
def delete(user_id: str, request: Request, visitor: AdminDep, resources: ResourcesDep) -> Response:
    """Delete a user."""

    def act(connection: Connection) -> None:
        users.delete(connection, visitor.principal, user_id)

    question = partial(_question, visitor, resources, user_id)
    return act_or_ask_again(request, resources, act, question, "/console/admin/users?done=deleted")


@router.get("/keys")
def keys_page(request: Request, visitor: AdminDep, resources: ResourcesDep, done: str = "") -> Response:
    """All keys."""
    url = list_url(request, ())
    with read_transaction(resources.engine) as connection:
        page = identity.list_keys(connection, visitor.principal, page_request(LISTED, url.cursor or None))
    return render(request, "admin_keys.html", page=page, url=url, done=done)


@router.get("/keys/{key_id}/revoke")
def revoke_page(key_id: str, request: Request, visitor: AdminDep, resources: ResourcesDep) -> Response:
    """Whether to revoke a key."""
    return ask(request, _revocation(visitor, resources, key_id))


def _revocation(visitor: Visitor, resources: ApiResources, key_id: str) -> Question:
    with read_transaction(resources.engine) as connection:
        one = identity.get_key(connection, visitor.principal, key_id)
    return revocation(one, "admin-keys", "/console/admin/keys", "Keys")


@router.post("/keys/{key_id}/revoke")
def revoke_key(key_id: str, request: Request, visitor: AdminDep, resources: ResourcesDep) -> Response:
    """Revoke a key, and end its sessions."""

    def act(connection: Connection) -> None:
        identity.revoke_key(connection, visitor.principal, key_id)

    question = partial(_revocation, visitor, resources, key_id)
    return act_or_ask_again(request, resources, act, question, "/console/admin/keys?done=revoked")
