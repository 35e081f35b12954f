"""`/v1/entities/{entity}/members`."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import JsonBody, Paging, accepts
from dispatcher.api.resources import ResourcesDep
from dispatcher.control import members
from dispatcher.control.invitations import InvitationView
from dispatcher.control.members import MemberView, RoleBody
from dispatcher.control.paging import Page
from shared.storage.database.transactions import read_transaction, write_transaction

router = APIRouter(prefix="/v1/entities/{entity}/members", tags=["identity"])


@router.get("")
def list_members(entity: str, principal: PrincipalDep, resources: ResourcesDep, page: Paging) -> Page[MemberView]:
    """List the users with a role in the entity. For its administrators."""
    with read_transaction(resources.engine) as connection:
        return members.list_members(connection, principal, entity, page)


@router.get("/{user}")
def get_member(entity: str, user: str, principal: PrincipalDep, resources: ResourcesDep) -> MemberView:
    """One member, by the user's id or name."""
    with read_transaction(resources.engine) as connection:
        return members.get(connection, principal, entity, user)


@router.put(
    "/{user}",
    openapi_extra=accepts(RoleBody),
    responses={201: {"model": MemberView}, 202: {"model": InvitationView}},
    response_model=MemberView,
)
def put_member(
    entity: str, user: str, body: JsonBody, principal: PrincipalDep, resources: ResourcesDep, response: Response
) -> MemberView | JSONResponse:
    """Make a user a member (201), give a member another role (200), or invite a user (202).

    Instance administrators make any user a member, an entity's administrators only its own service users. Others they
    invite by name, and the answer is the same whether or not there is such a user.
    """
    with write_transaction(resources.engine) as connection:
        member, created = members.put(connection, principal, entity, user, body)
    resources.callers.clear()
    if isinstance(member, InvitationView):
        return JSONResponse(member.model_dump(mode="json"), 202)
    response.status_code = 201 if created else 200
    return member


@router.delete("/{user}", status_code=204)
def remove_member(entity: str, user: str, principal: PrincipalDep, resources: ResourcesDep) -> None:
    """Remove a member's role, or leave the entity oneself. Keys of a service user remain and grant nothing."""
    with write_transaction(resources.engine) as connection:
        members.remove(connection, principal, entity, user)
    resources.callers.clear()
