"""Users and their roles, and API keys, whose text is answered once, when they are made.

A key carries all roles of its user. Entity administrators make keys for service users, which have a role in that one
entity; only instance administrators make keys of, or give roles to, users that exist already.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field
from sqlalchemy import ColumnElement, Connection

from dispatcher.control.access import Action, entities_with, require, require_instance_admin
from dispatcher.control.bodies import Body, View, parsed
from dispatcher.control.errors import Conflict, Forbidden, NotFound
from dispatcher.control.paging import Page, PageRequest
from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.ids import IdKind, decode_id, encode_id
from shared.storage import identity as store
from shared.storage.entities import find_entity
from shared.storage.identity import Principal, Role, StoredKey, StoredUser

KeyName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,64}$", description="At most 64 characters.")]
UserName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][-A-Za-z0-9_.@+]{0,127}$")]


class KeyBody(Body):
    """What a new key is for. With neither `user` nor `entity` it is one more key of whoever asks."""

    name: KeyName
    entity: Annotated[str | None, Field(description="Where the key's user is to have `role`.")] = None
    role: Annotated[Role | None, Field(strict=False)] = None
    user: Annotated[str | None, Field(description="Whose key; unset with an entity: a new service user's.")] = None


class KeyView(View):
    """A key as it is listed."""

    id: str
    name: str
    hint: str
    """How the key begins."""
    user: str
    created_at: datetime
    last_used_at: datetime | None


class NewKey(KeyView):
    """A key as it is answered once."""

    key: str


class Membership(Body):
    """A role in an entity."""

    entity: str
    role: Annotated[Role, Field(strict=False)]


class UserBody(Body):
    """A new user."""

    name: UserName
    email: Annotated[str | None, Field(max_length=320, pattern=r"^[^@\s]+@[^@\s]+$")] = None
    is_admin: bool = False
    roles: list[Membership] = Field(default=[], max_length=1000)


class UserView(View):
    """A user as it is answered."""

    id: str
    name: str
    email: str | None
    is_admin: bool
    roles: list[Membership]
    created_at: datetime


def create_key(connection: Connection, principal: Principal, raw: object) -> NewKey:
    """Make a key.

    Raises:
        InvalidDefinition: for an unknown user or role.
        NotFound: for an entity in which the principal has no role.
        Forbidden: for what the principal may not give away.
        Conflict: when the service user's name is taken.
    """
    body = parsed(KeyBody, raw)
    if (body.entity is None) != (body.role is None):
        raise InvalidDefinition.at(("role" if body.role is None else "entity",), "is required with the other one")
    now, text = datetime.now(UTC), store.new_key()
    user_id, user_name = _key_owner(connection, principal, body, now)
    number = store.create_key(connection, user_id=user_id, name=body.name, text=text, now=now)
    return NewKey(
        id=encode_id(IdKind.KEY, number),
        name=body.name,
        hint=text[: store.HINT_LENGTH],
        user=user_name,
        created_at=now,
        last_used_at=None,
        key=text,
    )


def _key_owner(connection: Connection, principal: Principal, body: KeyBody, now: datetime) -> tuple[int, str]:
    """Whose key it will be; gives that user the role that the body asks for."""
    if body.user is None and body.entity is None:
        if not principal.is_admin and not entities_with(principal, Action.READ):
            raise Forbidden("a publisher's key can't make keys")
        return principal.user_id, principal.user_name
    entity = None if body.entity is None else require(connection, principal, body.entity, Action.ADMINISTER)
    if body.user is None:
        user_id, name = _service_user(connection, f"{body.entity}/{body.name}", now)
    else:
        require_instance_admin(principal)
        user = store.find_user(connection, body.user)
        if user is None:
            raise InvalidDefinition.at(("user",), "must be the name of a user")
        user_id, name = user.id, user.name
    if entity is not None and body.role is not None:
        store.set_role(connection, user_id=user_id, entity_id=entity.id, role=body.role)
    return user_id, name


def _service_user(connection: Connection, name: str, now: datetime) -> tuple[int, str]:
    user_id = store.insert_user(connection, name=name, email=None, is_admin=False, now=now)
    if user_id is None:
        message = f"there is a service user {name!r} already"
        raise Conflict(message, FieldError(("name",), "must be a name that no other key of the entity had"))
    return user_id, name


def list_keys(connection: Connection, principal: Principal, page: PageRequest) -> Page[KeyView]:
    """The keys that the principal may revoke."""
    rows = store.list_keys(connection, of=_managed(principal), after=page.after, limit=page.with_one_more)
    return page.page(rows, _key_view, lambda row: row.id)


def revoke_key(connection: Connection, principal: Principal, key_id: str) -> None:
    """Revoke a key; other processes may honour it for a few seconds more. Raises NotFound."""
    number = decode_id(IdKind.KEY, key_id)
    if number is None or not store.revoke_key(connection, number, of=_managed(principal), now=datetime.now(UTC)):
        raise NotFound(f"there is no key {key_id!r}")


def create_user(connection: Connection, principal: Principal, raw: object) -> UserView:
    """Make a user with roles. For instance administrators.

    Raises:
        InvalidDefinition: naming each fault.
        Conflict: when the name is taken.
    """
    require_instance_admin(principal)
    body = parsed(UserBody, raw)
    found = [find_entity(connection, membership.entity) for membership in body.roles]
    faults = [
        FieldError(("roles", index, "entity"), "must be the name of an entity")
        for index, entity in enumerate(found)
        if entity is None
    ]
    if faults:
        raise InvalidDefinition(*faults)
    now = datetime.now(UTC)
    user_id = store.insert_user(connection, name=body.name, email=body.email, is_admin=body.is_admin, now=now)
    if user_id is None:
        message = f"there is a user {body.name!r} already"
        raise Conflict(message, FieldError(("name",), "must be a name that no other user has"))
    for membership, entity in zip(body.roles, found, strict=True):
        if entity is not None:
            store.set_role(connection, user_id=user_id, entity_id=entity.id, role=membership.role)
    stored = StoredUser(user_id, body.name, body.email, body.is_admin, now)
    return _user_view(stored, store.memberships_of(connection, [user_id])[user_id])


def list_users(connection: Connection, principal: Principal, page: PageRequest) -> Page[UserView]:
    """All users for an instance administrator, else the principal alone."""
    only = None if principal.is_admin else principal.user_id
    rows = store.list_users(connection, user_id=only, after=page.after, limit=page.with_one_more)
    roles = store.memberships_of(connection, [row.id for row in rows])
    return page.page(rows, lambda row: _user_view(row, roles[row.id]), lambda row: row.id)


def _managed(principal: Principal) -> ColumnElement[bool] | None:
    """The users whose keys the principal may see and revoke; None for all."""
    if principal.is_admin:
        return None
    return store.managed_users(principal.user_id, entities_with(principal, Action.ADMINISTER))


def _key_view(stored: StoredKey) -> KeyView:
    return KeyView(
        id=encode_id(IdKind.KEY, stored.id),
        name=stored.name,
        hint=stored.hint,
        user=stored.user_name,
        created_at=stored.created_at,
        last_used_at=stored.last_used_at,
    )


def _user_view(stored: StoredUser, roles: dict[str, Role]) -> UserView:
    return UserView(
        id=encode_id(IdKind.USER, stored.id),
        name=stored.name,
        email=stored.email,
        is_admin=stored.is_admin,
        roles=[Membership(entity=entity, role=role) for entity, role in sorted(roles.items())],
        created_at=stored.created_at,
    )
