"""Users and their roles, and API keys, whose text is answered once, when they are made.

A key carries all roles of its user. Entity administrators make keys for service users, which are named after the entity
(`acme/deployer`) and have a role there; only instance administrators make keys of other users. To rotate a key, make
another for the same user and revoke the old one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field
from sqlalchemy import ColumnElement, Connection, and_

from dispatcher.control.access import Action, entities_with, require, require_instance_admin
from dispatcher.control.audit import record_change
from dispatcher.control.bodies import Body, Timestamp, View, parse_body
from dispatcher.control.errors import Conflict, Forbidden, NotFound
from dispatcher.control.members import check_entity_administered, record_role
from dispatcher.control.paging import Page, PageRequest
from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.ids import IdKind, decode_id, encode_id
from shared.domain.visible_text import UNSEEN_CHARACTERS
from shared.storage.accounts import api_keys
from shared.storage.accounts import members as member_store
from shared.storage.accounts import users as store
from shared.storage.accounts.api_keys import StoredKey
from shared.storage.accounts.users import Principal, Role, StoredUser
from shared.storage.definitions.entities import entity_ids, find_entity
from shared.storage.definitions.revisions import lock_edits

KeyName = Annotated[
    str, Field(pattern=rf"^[^{UNSEEN_CHARACTERS}]{{1,64}}$", description="At most 64 characters that are seen.")
]
UserName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][-A-Za-z0-9_.@+]{0,127}$")]


_AROUND_AT = rf"[^@\s{UNSEEN_CHARACTERS}]+"
Email = Annotated[str | None, Field(max_length=320, pattern=f"^{_AROUND_AT}@{_AROUND_AT}$")]


LONGEST_KEY = timedelta(days=3653)


class KeyBody(Body):
    """A new key. With neither `user` nor `entity`, it is another key of the caller."""

    name: KeyName
    entity: Annotated[str | None, Field(description="The entity in which the key's user gets `role`.")] = None
    role: Annotated[Role | None, Field(strict=False)] = None
    user: Annotated[
        str | None, Field(description="The key's user; with `entity` and no `user`, a new service user.")
    ] = None
    expires_at: Annotated[
        Timestamp | None, Field(description="When the key ends by itself, within ten years; without it, never.")
    ] = None


class KeyView(View):
    """An API key, without its text."""

    id: str
    name: str
    hint: str
    """How the key begins."""
    user: str
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    """When the key ends, or ended, by itself; null: never."""


class NewKey(KeyView):
    """A new API key, with its text."""

    key: str


class Membership(Body):
    """A role in an entity."""

    entity: str
    role: Annotated[Role, Field(strict=False)]


class UserBody(Body):
    """A new user."""

    name: UserName
    email: Email = None
    is_admin: bool = False
    roles: list[Membership] = Field(default=[], max_length=1000)


class UserView(View):
    """A user."""

    id: str
    name: str
    email: str | None
    is_admin: bool
    roles: list[Membership]
    default_entity: str | None
    """Where the wandb client works when no entity is named; null when the user has not chosen one."""
    created_at: datetime


def create_key(connection: Connection, principal: Principal, raw: object) -> NewKey:
    """Make a key.

    Raises:
        InvalidDefinition: for an unknown user or role.
        NotFound: for an entity in which the principal has no role.
        Forbidden: for what the principal may not give away.
        Conflict: when the service user's name is taken, or nobody would be left to administer the entity.
    """
    body = parse_body(KeyBody, raw)
    if (body.entity is None) != (body.role is None):
        raise InvalidDefinition.at(("role" if body.role is None else "entity",), "is required with the other one")
    now, text = datetime.now(UTC), api_keys.new_key()
    if body.expires_at is not None and not now < body.expires_at <= now + LONGEST_KEY:
        raise InvalidDefinition.at(("expires_at",), "must be a time within the next ten years")
    if body.entity is not None:
        lock_edits(connection)
    user_id, user_name = _key_owner(connection, principal, body, now)
    number = api_keys.create_key(
        connection, user_id=user_id, name=body.name, text=text, now=now, expires_at=body.expires_at
    )
    where = None if body.entity is None else find_entity(connection, body.entity)
    if where is not None:
        check_entity_administered(connection, principal, where)
    more = {} if body.role is None else {"role": str(body.role)}
    if body.expires_at is not None:
        more["expires_at"] = body.expires_at.isoformat().replace("+00:00", "Z")
    target_id = encode_id(IdKind.KEY, number)
    record_change(
        connection, principal, "key.create", entity=where, target_id=target_id, name=body.name, user=user_name, **more
    )
    return NewKey(
        id=encode_id(IdKind.KEY, number),
        name=body.name,
        hint=text[: api_keys.HINT_LENGTH],
        user=user_name,
        created_at=now,
        last_used_at=None,
        expires_at=body.expires_at,
        key=text,
    )


def _key_owner(connection: Connection, principal: Principal, body: KeyBody, now: datetime) -> tuple[int, str]:
    """The user that the new key belongs to, made now if it is a new service user, with the role of the body."""
    if body.user is None and body.entity is None:
        if not principal.is_admin and not entities_with(principal, Action.READ):
            raise Forbidden("a publisher's key cannot create keys")
        return principal.user_id, principal.user_name
    entity = None if body.entity is None else require(connection, principal, body.entity, Action.ADMINISTER)
    if body.user is None:
        user_id, name = _service_user(connection, f"{body.entity}/{body.name}", now)
        if entity is not None and body.role is not None:
            store.set_role(connection, user_id=user_id, entity_id=entity.id, role=body.role)
        return user_id, name
    user = _existing_user(connection, principal, body.user)
    if entity is not None and body.role is not None:
        before = member_store.find_member(connection, entity.id, user.id)
        store.set_role(connection, user_id=user.id, entity_id=entity.id, role=body.role)
        record_role(connection, principal, entity, user, before=before, role=body.role)
    return user.id, user.name


def _existing_user(connection: Connection, principal: Principal, name: str) -> StoredUser:
    """The user who gets one more key. Administrators of an entity may name its service users only."""
    administered = entities_with(principal, Action.ADMINISTER)
    user = store.find_user(connection, name)
    if not principal.is_admin and (user is None or not store.is_service_user(connection, user.id, administered)):
        raise Forbidden("this needs an instance administrator's key, or that of an administrator of the service user")
    if user is None:
        raise InvalidDefinition.at(("user",), "must be the name of a user")
    return user


def _service_user(connection: Connection, name: str, now: datetime) -> tuple[int, str]:
    user_id = store.insert_user(connection, name=name, email=None, is_admin=False, now=now)
    if user_id is None:
        message = f"there is a service user {name!r} already; name it as `user` to create another key for it"
        raise Conflict(message, FieldError(("name",), "must be a name that no other key of the entity had"))
    return user_id, name


def list_keys(
    connection: Connection,
    principal: Principal,
    page: PageRequest,
    *,
    user: str | None = None,
    entity_name: str | None = None,
) -> Page[KeyView]:
    """The keys that the principal may revoke: all, those of a user's name, or those of an entity's service users."""
    among = [] if (managed := _managed(principal)) is None else [managed]
    if user is not None:
        among.append(store.is_named(user))
    if entity_name is not None:
        entity = require(connection, principal, entity_name, Action.ADMINISTER)
        among.append(store.serves([entity.id]))
    of = and_(*among) if among else None
    rows = api_keys.list_keys(connection, of=of, after=page.after, limit=page.with_one_more)
    return page.page(rows, _key_view, lambda row: row.id)


def get_key(connection: Connection, principal: Principal, key_id: str) -> KeyView:
    """One key that the principal may revoke. Raises NotFound."""
    number = decode_id(IdKind.KEY, key_id)
    rows: Sequence[StoredKey] = ()
    if number is not None:
        rows = api_keys.list_keys(connection, of=_managed(principal), after=number - 1, limit=1)
    if not rows or rows[0].id != number:
        raise NotFound("there is no key of this id; ids of keys are like key_7, see GET /v1/keys")
    return _key_view(rows[0])


def revoke_key(connection: Connection, principal: Principal, key_id: str) -> None:
    """Revoke a key; other processes may honour it for a few seconds more.

    Raises:
        NotFound: when there is no such key, or not for the principal.
        Conflict: when nobody would be left to administer the instance, or an entity of the key's user.
    """
    lock_edits(connection)
    number = decode_id(IdKind.KEY, key_id)
    now, managed = datetime.now(UTC), _managed(principal)
    revoked = None if number is None else api_keys.revoke_key(connection, number, of=managed, now=now)
    if revoked is None:
        raise NotFound("there is no key of this id; ids of keys are like key_7, see GET /v1/keys")
    check_administered(connection)
    name, user_id = revoked
    roles = store.memberships_of(connection, [user_id])[user_id]
    for entity_name, role in roles.items():
        administered = find_entity(connection, entity_name) if role is Role.ADMIN else None
        if administered is not None:
            check_entity_administered(connection, principal, administered)
    where = find_entity(connection, next(iter(roles))) if len(roles) == 1 else None
    record_change(connection, principal, "key.revoke", entity=where, target_id=key_id, name=name)


def create_user(connection: Connection, principal: Principal, raw: object) -> UserView:
    """Make a user with roles. For instance administrators.

    Raises:
        InvalidDefinition: naming each fault.
        Conflict: when the name is taken.
    """
    require_instance_admin(principal)
    body = parse_body(UserBody, raw)
    if decode_id(IdKind.USER, body.name) is not None:
        raise InvalidDefinition.at(("name",), "must not look like a user's id")
    roles = entity_numbers(connection, body.roles)
    now = datetime.now(UTC)
    user_id = store.insert_user(connection, name=body.name, email=body.email, is_admin=body.is_admin, now=now)
    if user_id is None:
        message = f"there is a user {body.name!r} already"
        raise Conflict(message, FieldError(("name",), "must be a name that no other user has"))
    member_store.replace_roles(connection, user_id, roles)
    target_id = encode_id(IdKind.USER, user_id)
    given = {membership.entity: str(membership.role) for membership in body.roles}
    detail = {"roles": given, "is_admin": body.is_admin}
    record_change(connection, principal, "user.create", entity=None, target_id=target_id, name=body.name, **detail)
    stored = store.find_user(connection, body.name)
    assert stored is not None  # noqa: S101 - written in this transaction
    return user_view(stored, store.memberships_of(connection, [user_id])[user_id])


def entity_numbers(connection: Connection, roles: Sequence[Membership]) -> dict[int, Role]:
    """The roles by their entities' numbers, the last one of each. Raises InvalidDefinition."""
    known = entity_ids(connection, {membership.entity for membership in roles})
    faults = [
        FieldError(("roles", index, "entity"), "must be the name of an entity")
        for index, membership in enumerate(roles)
        if membership.entity not in known
    ]
    if faults:
        raise InvalidDefinition(*faults)
    return {known[membership.entity]: membership.role for membership in roles}


def check_administered(connection: Connection) -> None:
    """Raises Conflict when no instance administrator with a key is left."""
    if not member_store.has_instance_admin(connection):
        raise Conflict("no instance administrator with a key would be left: create another key or administrator first")


def list_users(connection: Connection, principal: Principal, page: PageRequest) -> Page[UserView]:
    """All users for an instance administrator, else the principal alone."""
    only = None if principal.is_admin else principal.user_id
    rows = store.list_users(connection, user_id=only, after=page.after, limit=page.with_one_more)
    roles = store.memberships_of(connection, [row.id for row in rows])
    return page.page(rows, lambda row: user_view(row, roles[row.id]), lambda row: row.id)


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
        expires_at=stored.expires_at,
    )


def user_view(stored: StoredUser, roles: dict[str, Role]) -> UserView:
    """The user as it is answered."""
    return UserView(
        id=encode_id(IdKind.USER, stored.id),
        name=stored.name,
        email=stored.email,
        is_admin=stored.is_admin,
        roles=[Membership(entity=entity, role=role) for entity, role in sorted(roles.items())],
        default_entity=stored.default_entity if stored.is_admin or stored.default_entity in roles else None,
        created_at=stored.created_at,
    )
