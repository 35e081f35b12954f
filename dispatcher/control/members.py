"""Members of an entity and their roles, for its administrators.

Any user can be made a member: that gives rights to the user, and none to the administrator. An entity keeps an
administrator, unless an instance administrator, who can administer it anyway, takes the last role away.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from sqlalchemy import Connection

from dispatcher.control.access import Action, require
from dispatcher.control.audit import record_change
from dispatcher.control.bodies import Body, View, parse_body
from dispatcher.control.errors import Conflict, NotFound
from dispatcher.control.paging import Page, PageRequest
from shared.domain.ids import IdKind, decode_id, encode_id
from shared.storage.accounts import members as store
from shared.storage.accounts.members import StoredMember
from shared.storage.accounts.users import Principal, Role, StoredUser, find_user, set_role
from shared.storage.definitions.entities import StoredEntity
from shared.storage.definitions.revisions import lock_edits


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
) -> tuple[MemberView, bool]:
    """Give a user a role in the entity, in place of an earlier one; returns the member, and whether it is new.

    Raises:
        NotFound: when there is no such user.
        Conflict: when nobody would be left to administer the entity.
    """
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    body = parse_body(RoleBody, raw)
    lock_edits(connection)
    meant = load_user(connection, user)
    before = store.find_member(connection, entity.id, meant.id)
    set_role(connection, user_id=meant.id, entity_id=entity.id, role=body.role)
    _check_administered(connection, principal, entity)
    if before is None or before.role is not body.role:
        did = "member.add" if before is None else "member.update"
        number = encode_id(IdKind.USER, meant.id)
        record_change(connection, principal, did, entity=entity, target_id=number, name=meant.name, role=str(body.role))
    return _view(StoredMember(meant.id, meant.name, body.role)), before is None


def remove(connection: Connection, principal: Principal, entity_name: str, user: str) -> None:
    """Take a member's role away. Raises as `put`."""
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    lock_edits(connection)
    member = _load_member(connection, entity, user)
    store.remove_member(connection, entity.id, member.user_id)
    _check_administered(connection, principal, entity)
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


def _check_administered(connection: Connection, principal: Principal, entity: StoredEntity) -> None:
    if not principal.is_admin and not store.has_entity_admin(connection, entity.id):
        raise Conflict(f"{entity.name!r} would have no administrator with a key: give somebody else the role first")


def _view(stored: StoredMember) -> MemberView:
    return MemberView(id=encode_id(IdKind.USER, stored.user_id), name=stored.user_name, role=stored.role)
