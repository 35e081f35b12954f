"""Invitations of an entity, for its administrators; and of oneself, to accept or decline.

An entity's administrators reach nobody else's users but by an invitation, which does nothing until it is accepted. The
answer is the same whether or not there is such a user.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection

from dispatcher.control.access import Action, require
from dispatcher.control.audit import record_change
from dispatcher.control.bodies import View
from dispatcher.control.errors import Conflict, NotFound
from dispatcher.control.paging import Page, PageRequest
from shared.domain.ids import IdKind, encode_id
from shared.storage.accounts import invitations as store
from shared.storage.accounts import members as member_store
from shared.storage.accounts.invitations import StoredInvitation
from shared.storage.accounts.users import Principal, Role, set_role
from shared.storage.definitions.entities import StoredEntity, find_entity
from shared.storage.definitions.revisions import lock_edits

MAX_INVITATIONS = 1000
"""How many invitations to one entity may wait: each is shown to somebody who did not ask for it."""


class InvitationView(View):
    """An invitation that waits for the invited."""

    entity: str
    user: str
    role: Role
    invited_by: str
    created_at: datetime


def invite(connection: Connection, principal: Principal, entity: StoredEntity, name: str, role: Role) -> InvitationView:
    """Invite a user by name. The caller has checked that the principal administers the entity, and holds `lock_edits`.

    Raises:
        Conflict: when too many invitations wait.
    """
    before = store.find_invitation(connection, entity.id, name)
    if before is not None and before.role is role:
        return _view(before)
    if before is None and store.count_invitations(connection, entity.id) >= MAX_INVITATIONS:
        raise Conflict(f"{MAX_INVITATIONS} invitations to {entity.name!r} wait: take some back first")
    stored = store.put_invitation(
        connection,
        entity_id=entity.id,
        user_name=name,
        role=role,
        invited_by=principal.user_name,
        now=datetime.now(UTC),
    )
    record_change(connection, principal, "member.invite", entity=entity, target_id=name, name=name, role=str(role))
    return _view(stored)


def list_of_entity(
    connection: Connection, principal: Principal, entity_name: str, page: PageRequest
) -> Page[InvitationView]:
    """The invitations to an entity that wait. For its administrators."""
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    rows = store.list_invitations(connection, entity_id=entity.id, after=page.after, limit=page.with_one_more)
    return page.page(rows, _view, lambda row: row.id)


def take_back(connection: Connection, principal: Principal, entity_name: str, user: str) -> None:
    """Take an invitation back. Raises NotFound."""
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    lock_edits(connection)
    if not store.delete_invitation(connection, entity.id, user):
        raise NotFound(f"{user!r} is not invited to {entity.name!r}")
    record_change(connection, principal, "member.uninvite", entity=entity, target_id=user, name=user)


def list_own(connection: Connection, principal: Principal, page: PageRequest) -> Page[InvitationView]:
    """The principal's own invitations."""
    rows = store.list_invitations(connection, user_name=principal.user_name, after=page.after, limit=page.with_one_more)
    return page.page(rows, _view, lambda row: row.id)


def accept(connection: Connection, principal: Principal, entity_name: str) -> InvitationView:
    """Accept an invitation: the principal has the role from now on. A role that it has there already stays.

    Raises:
        NotFound: when there is none.
    """
    lock_edits(connection)
    entity, stored = _own(connection, principal, entity_name)
    store.delete_invitation(connection, entity.id, principal.user_name)
    if member_store.find_member(connection, entity.id, principal.user_id) is None:
        set_role(connection, user_id=principal.user_id, entity_id=entity.id, role=stored.role)
        number = encode_id(IdKind.USER, principal.user_id)
        detail = {"role": str(stored.role), "invited_by": stored.invited_by}
        record_change(
            connection, principal, "member.add", entity=entity, target_id=number, name=principal.user_name, **detail
        )
    return _view(stored)


def decline(connection: Connection, principal: Principal, entity_name: str) -> None:
    """Decline an invitation. Raises as `accept`."""
    lock_edits(connection)
    entity, _stored = _own(connection, principal, entity_name)
    store.delete_invitation(connection, entity.id, principal.user_name)
    name = principal.user_name
    record_change(connection, principal, "member.decline", entity=entity, target_id=name, name=name)


def _own(connection: Connection, principal: Principal, entity_name: str) -> tuple[StoredEntity, StoredInvitation]:
    entity = find_entity(connection, entity_name)
    stored = None if entity is None else store.find_invitation(connection, entity.id, principal.user_name)
    if entity is None or stored is None:
        raise NotFound(f"you are not invited to {entity_name!r}")
    return entity, stored


def _view(stored: StoredInvitation) -> InvitationView:
    return InvitationView(
        entity=stored.entity,
        user=stored.user_name,
        role=stored.role,
        invited_by=stored.invited_by,
        created_at=stored.created_at,
    )
