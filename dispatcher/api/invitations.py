"""`/v1/entities/{entity}/invitations` and `/v1/invitations`."""

from __future__ import annotations

from fastapi import APIRouter

from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import Paging
from dispatcher.api.idempotency import OnceDep
from dispatcher.api.resources import ResourcesDep
from dispatcher.control import invitations
from dispatcher.control.invitations import InvitationView
from dispatcher.control.paging import Page
from shared.storage.database.transactions import read_transaction, write_transaction

router = APIRouter(prefix="/v1", tags=["identity"])


@router.get("/entities/{entity}/invitations")
def list_invitations(
    entity: str, principal: PrincipalDep, resources: ResourcesDep, page: Paging
) -> Page[InvitationView]:
    """List who is invited to the entity and has not answered. For its administrators."""
    with read_transaction(resources.engine) as connection:
        return invitations.list_of_entity(connection, principal, entity, page)


@router.delete("/entities/{entity}/invitations/{user}", status_code=204)
def take_invitation_back(entity: str, user: str, principal: PrincipalDep, resources: ResourcesDep) -> None:
    """Take an invitation back, by the user's name. For the entity's administrators."""
    with write_transaction(resources.engine) as connection:
        invitations.take_back(connection, principal, entity, user)


@router.get("/invitations")
def list_own_invitations(principal: PrincipalDep, resources: ResourcesDep, page: Paging) -> Page[InvitationView]:
    """List the invitations of the key's own user."""
    with read_transaction(resources.engine) as connection:
        return invitations.list_own(connection, principal, page)


@router.post("/invitations/{entity}/accept")
def accept_invitation(entity: str, principal: PrincipalDep, resources: ResourcesDep, once: OnceDep) -> InvitationView:
    """Accept an invitation: the key's user has the role from now on."""
    with once.writing() as connection:
        accepted = invitations.accept(connection, principal, entity)
    resources.callers.clear()
    return accepted


@router.delete("/invitations/{entity}", status_code=204)
def decline_invitation(entity: str, principal: PrincipalDep, resources: ResourcesDep) -> None:
    """Decline an invitation."""
    with write_transaction(resources.engine) as connection:
        invitations.decline(connection, principal, entity)
