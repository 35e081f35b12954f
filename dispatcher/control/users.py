"""Single users, whom they themselves and instance administrators may read, and the latter change and delete.

A user chooses its own default entity; nobody else but an instance administrator does. The instance always keeps an
administrator.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from sqlalchemy import Connection

from dispatcher.control.access import require_instance_admin
from dispatcher.control.audit import record_change
from dispatcher.control.bodies import Body, parse_body
from dispatcher.control.errors import NotFound
from dispatcher.control.identity import Email, Membership, UserView, check_administered, entity_numbers, user_view
from dispatcher.control.members import load_user
from shared.domain.errors import InvalidDefinition
from shared.domain.ids import IdKind, encode_id
from shared.storage.accounts import members as store
from shared.storage.accounts.invitations import delete_invitations_of
from shared.storage.accounts.users import (
    Principal,
    Role,
    StoredUser,
    memberships_of,
    roles_of,
    set_default_entity,
)
from shared.storage.definitions.entities import find_entity
from shared.storage.definitions.revisions import lock_edits


class UserPatch(Body):
    """The members to change. A name cannot change, because the history uses it."""

    email: Email = None
    is_admin: bool = False
    roles: list[Membership] = Field(
        default=[], max_length=1000, description="All roles of the user; others are removed."
    )
    default_entity: str | None = Field(
        default=None,
        description="Where the wandb client works when no entity is named. Users set it themselves.",
    )


def get(connection: Connection, principal: Principal, user: str) -> UserView:
    """A user, by id or name. Raises NotFound, also for another than one's own without an administrator's key."""
    if not principal.is_admin and not _is_own(principal, user):
        raise NotFound("there is no user of this id or name")
    return _view(connection, load_user(connection, user))


def change(connection: Connection, principal: Principal, user: str, raw: object) -> UserView:
    """Change the user's members that the patch has. For instance administrators; users set their own default entity.

    Raises:
        InvalidDefinition: naming each fault.
        Conflict: when nobody would be left to administer the instance.
    """
    if not (isinstance(raw, dict) and raw.keys() == {"default_entity"} and _is_own(principal, user)):
        require_instance_admin(principal)
    lock_edits(connection)
    before = load_user(connection, user)
    patch = parse_body(UserPatch, raw)
    given = {name: getattr(patch, name) for name in patch.model_fields_set}
    values: dict[str, Any] = {"email": before.email, "is_admin": before.is_admin, **given}
    store.update_user(connection, before.id, email=values["email"], is_admin=values["is_admin"])
    if "roles" in given:
        store.replace_roles(connection, before.id, entity_numbers(connection, patch.roles))
    if "default_entity" in given:
        _choose_default(connection, before.id, patch.default_entity, any_entity=values["is_admin"])
    check_administered(connection)
    number = encode_id(IdKind.USER, before.id)
    if given:
        detail = {name: given[name] for name in ("is_admin", "default_entity") if name in given}
        record_change(
            connection,
            principal,
            "user.update",
            entity=None,
            target_id=number,
            name=before.name,
            changed=sorted(given),
            **detail,
        )
    return _view(connection, load_user(connection, number))


def delete(connection: Connection, principal: Principal, user: str) -> None:
    """Delete a user with all keys and roles. For instance administrators. Raises as `change`."""
    require_instance_admin(principal)
    lock_edits(connection)
    stored = load_user(connection, user)
    store.delete_user(connection, stored.id)
    delete_invitations_of(connection, stored.name)
    check_administered(connection)
    number = encode_id(IdKind.USER, stored.id)
    record_change(connection, principal, "user.delete", entity=None, target_id=number, name=stored.name)


def _is_own(principal: Principal, user: str) -> bool:
    return user in (encode_id(IdKind.USER, principal.user_id), principal.user_name)


def _choose_default(connection: Connection, user_id: int, name: str | None, *, any_entity: bool) -> None:
    entity = None if name is None else find_entity(connection, name)
    role = None if entity is None else roles_of(connection, user_id).get(entity.id)
    if name is not None and (entity is None or not (any_entity or role in (Role.ADMIN, Role.MEMBER))):
        accepted = "must be the name of an entity in which the user is admin or member"
        raise InvalidDefinition.at(("default_entity",), accepted)
    set_default_entity(connection, user_id, None if entity is None else entity.id)


def _view(connection: Connection, stored: StoredUser) -> UserView:
    return user_view(stored, memberships_of(connection, [stored.id])[stored.id])
