"""Members of an entity and their roles, for its administrators.

Instance administrators make any user a member; an entity's administrators only its own service users, and invite all
others. Any member can leave. An entity keeps an administrator, unless an instance administrator, who can administer it
anyway, takes the last role away.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field
from sqlalchemy import Connection

from dispatcher.control.access import Action, require, require_any_role
from dispatcher.control.audit import record_change
from dispatcher.control.bodies import Body, View, parse_body
from dispatcher.control.errors import Conflict, NotFound
from dispatcher.control.invitations import InvitationView, invite
from dispatcher.control.paging import Page, PageRequest
from shared.domain.errors import InvalidDefinition
from shared.domain.ids import IdKind, decode_id, encode_id
from shared.storage.accounts import members as store
from shared.storage.accounts.invitations import delete_invitation
from shared.storage.accounts.members import StoredMember
from shared.storage.accounts.users import Principal, Role, StoredUser, find_user, set_role
from shared.storage.definitions.entities import StoredEntity
from shared.storage.definitions.revisions import lock_edits

_USER_NAME = re.compile(r"[A-Za-z0-9_][-A-Za-z0-9_.@+]{0,127}")


class RoleBody(Body):
    """A member's role."""

    role: Annotated[Role, Field(strict=False)]


class MemberView(View):
    """A member."""

    id: str
    """The user's."""
    name: str
    role: Role


def list_members(connection: Connection, principal: Principal, entity_name: str, page: PageRequest) -> Page[MemberView]:
    """The entity's members, service users included."""
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    rows = store.list_members(connection, entity.id, after=page.after, limit=page.with_one_more)
    return page.page(rows, _view, lambda row: row.user_id)


def get(connection: Connection, principal: Principal, entity_name: str, user: str) -> MemberView:
    """One member, by the user's id or name. Raises NotFound."""
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    return _view(_load_member(connection, entity, user))


def put(
    connection: Connection, principal: Principal, entity_name: str, user: str, raw: object
) -> tuple[MemberView | InvitationView, bool]:
    """Give a user a role, instead of the one that the user has there; also whether the user is new there.

    Returns:
        An invitation where the user is nobody to whom the principal may give a role at once. It is the same whether or
        not there is such a user.

    Raises:
        NotFound: when there is no such user, if the principal may know.
        InvalidDefinition: for what no person's name can be. A service user serves its own entity alone.
        Conflict: when nobody would be left to administer the entity.
    """
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    body = parse_body(RoleBody, raw)
    lock_edits(connection)
    meant = _reachable_user(connection, principal, entity, user)
    if meant is None:
        return invite(connection, principal, entity, user, body.role), False
    before = store.find_member(connection, entity.id, meant.id)
    set_role(connection, user_id=meant.id, entity_id=entity.id, role=body.role)
    delete_invitation(connection, entity.id, meant.name)
    check_entity_administered(connection, principal, entity)
    record_role(connection, principal, entity, meant, before=before, role=body.role)
    return _view(StoredMember(meant.id, meant.name, body.role)), before is None


def record_role(
    connection: Connection,
    principal: Principal,
    entity: StoredEntity,
    user: StoredUser,
    *,
    before: StoredMember | None,
    role: Role,
) -> None:
    """Write to the audit log that a user has another role than before."""
    if before is None or before.role is not role:
        did = "member.add" if before is None else "member.update"
        number = encode_id(IdKind.USER, user.id)
        record_change(connection, principal, did, entity=entity, target_id=number, name=user.name, role=str(role))


def _reachable_user(connection: Connection, principal: Principal, entity: StoredEntity, text: str) -> StoredUser | None:
    """The user whom the principal may give a role at once; None for one to be invited by this name."""
    if principal.is_admin:
        return load_user(connection, text)
    number = decode_id(IdKind.USER, text)
    user = find_user(connection, text) if number is None else store.find_user_by_id(connection, number)
    own = user is not None and user.name.startswith(f"{entity.name}/")
    if user is not None and (own or store.find_member(connection, entity.id, user.id) is not None):
        return user
    if number is not None:
        raise NotFound(f"{entity.name!r} has no member {text!r}; others are invited by their names")
    if not _USER_NAME.fullmatch(text):
        raise InvalidDefinition.at(("user",), "must be a user's name")
    return None


def remove(connection: Connection, principal: Principal, entity_name: str, user: str) -> None:
    """Take a member's role away, or leave oneself, in whatever role. Raises as `put`."""
    if user in (principal.user_name, encode_id(IdKind.USER, principal.user_id)):
        entity = require_any_role(connection, principal, entity_name)
    else:
        entity = require(connection, principal, entity_name, Action.ADMINISTER)
    lock_edits(connection)
    member = _load_member(connection, entity, user)
    store.remove_member(connection, entity.id, member.user_id)
    check_entity_administered(connection, principal, entity)
    number = encode_id(IdKind.USER, member.user_id)
    record_change(connection, principal, "member.remove", entity=entity, target_id=number, name=member.user_name)


def load_user(connection: Connection, text: str) -> StoredUser:
    """The user of this id or name. Raises NotFound."""
    number = decode_id(IdKind.USER, text)
    found = find_user(connection, text) if number is None else store.find_user_by_id(connection, number)
    if found is None:
        raise NotFound("there is no user of this id or name")
    return found


def _load_member(connection: Connection, entity: StoredEntity, text: str) -> StoredMember:
    number = decode_id(IdKind.USER, text)
    user = find_user(connection, text) if number is None else None
    number = user.id if user is not None else number
    found = None if number is None else store.find_member(connection, entity.id, number)
    if found is None:
        raise NotFound(f"{entity.name!r} has no member {text!r}")
    return found


def check_entity_administered(connection: Connection, principal: Principal, entity: StoredEntity) -> None:
    """Raises Conflict when nobody is left to administer the entity, unless an instance administrator wants it so."""
    if not principal.is_admin and not store.has_entity_admin(connection, entity.id):
        raise Conflict(f"{entity.name!r} would have no administrator with a key: give somebody else the role first")


def _view(stored: StoredMember) -> MemberView:
    return MemberView(id=encode_id(IdKind.USER, stored.user_id), name=stored.user_name, role=stored.role)
