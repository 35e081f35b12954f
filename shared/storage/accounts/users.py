"""Users, their roles in entities, and API keys, which are stored as digests only."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, or_, select, update

from shared.storage.accounts.api_keys import is_valid
from shared.storage.database.upserts import insert_into
from shared.storage.schema.tables import api_keys, entities, memberships, users


class Role(StrEnum):
    """A user's role in an entity."""

    #: Everything: secrets, webhooks, automations, replays, publishing, and the keys of the entity's service users.
    ADMIN = "admin"
    #: Read everything, and edit automations.
    MEMBER = "member"
    #: Publish events, and nothing else.
    PUBLISHER = "publisher"


@dataclass(frozen=True, slots=True)
class Principal:
    """The user who makes a request, with the role in each entity, by the entity's number."""

    user_id: int
    user_name: str
    is_admin: bool
    roles: Mapping[int, Role] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class StoredUser:
    """One user."""

    id: int
    name: str
    email: str | None
    is_admin: bool
    created_at: datetime
    default_entity: str | None
    """The user's choice; it may have no role there any more."""


def find_principal(connection: Connection, digest: bytes, *, now: datetime) -> Principal | None:
    """The user of the key with this digest; None when there is none, or it was revoked or has expired."""
    query = (
        select(users.c.id, users.c.name, users.c.is_admin)
        .join(api_keys, api_keys.c.user_id == users.c.id)
        .where(api_keys.c.digest == digest, is_valid(now))
    )
    row = connection.execute(query).first()
    return None if row is None else Principal(row.id, row.name, row.is_admin, roles_of(connection, row.id))


def find_user_as_principal(connection: Connection, user_id: int) -> Principal | None:
    """A user as a principal, with the roles of this moment; None when there is none any more."""
    row = connection.execute(select(users.c.name, users.c.is_admin).where(users.c.id == user_id)).first()
    return None if row is None else Principal(user_id, row.name, row.is_admin, roles_of(connection, user_id))


def roles_of(connection: Connection, user_id: int) -> Mapping[int, Role]:
    """A user's role in each entity."""
    query = select(memberships.c.entity_id, memberships.c.role).where(memberships.c.user_id == user_id)
    return MappingProxyType({entity_id: Role(role) for entity_id, role in connection.execute(query)})


def memberships_of(connection: Connection, user_ids: Collection[int]) -> dict[int, dict[str, Role]]:
    """For each of these users the role in each entity, by the entity's name."""
    query = (
        select(memberships.c.user_id, entities.c.name, memberships.c.role)
        .join(entities, entities.c.id == memberships.c.entity_id)
        .where(memberships.c.user_id.in_(user_ids))
    )
    found: dict[int, dict[str, Role]] = {user_id: {} for user_id in user_ids}
    for user_id, entity, role in connection.execute(query):
        found[user_id][entity] = Role(role)
    return found


def insert_user(connection: Connection, *, name: str, email: str | None, is_admin: bool, now: datetime) -> int | None:
    """Store a new user; None when the name is taken."""
    statement = (
        insert_into(connection, users)
        .values(name=name, email=email, is_admin=is_admin, created_at=now)
        .on_conflict_do_nothing()
        .returning(users.c.id)
    )
    return connection.execute(statement).scalar_one_or_none()


def select_users() -> Select[Any]:
    """Users, in the order of `StoredUser`'s members."""
    default = select(entities.c.name).where(entities.c.id == users.c.default_entity_id).scalar_subquery()
    return select(users.c.id, users.c.name, users.c.email, users.c.is_admin, users.c.created_at, default)


def find_user(connection: Connection, name: str) -> StoredUser | None:
    """The user of this name."""
    row = connection.execute(select_users().where(users.c.name == name)).first()
    return None if row is None else StoredUser(*row)


def list_users(connection: Connection, *, user_id: int | None = None, after: int, limit: int) -> list[StoredUser]:
    """Users in the order of their ids; `user_id` limits the list to one."""
    query = select_users().where(users.c.id > after).order_by(users.c.id).limit(limit)
    if user_id is not None:
        query = query.where(users.c.id == user_id)
    return [StoredUser(*row) for row in connection.execute(query)]


def set_role(connection: Connection, *, user_id: int, entity_id: int, role: Role) -> None:
    """Give a user a role in an entity, instead of the one it had there; its first entity becomes its default."""
    statement = insert_into(connection, memberships).values(user_id=user_id, entity_id=entity_id, role=role)
    connection.execute(statement.on_conflict_do_update(index_elements=["user_id", "entity_id"], set_={"role": role}))
    if role is not Role.PUBLISHER:
        set_default_entity(connection, user_id, entity_id, only_first=True)


def set_default_entity(
    connection: Connection, user_id: int, entity_id: int | None, *, only_first: bool = False
) -> None:
    """Store a user's default entity; with `only_first`, unless it has one."""
    mine = users.c.id == user_id
    only = and_(mine, users.c.default_entity_id.is_(None)) if only_first else mine
    connection.execute(update(users).where(only).values(default_entity_id=entity_id))


def managed_users(user_id: int, entity_ids: Collection[int]) -> ColumnElement[bool]:
    """A condition on users: the user itself, or a service user of these entities that is no instance admin."""
    return or_(users.c.id == user_id, and_(users.c.is_admin.is_(False), serves(entity_ids)))


def is_service_user(connection: Connection, user_id: int, entity_ids: Collection[int]) -> bool:
    """Whether a user is a service user of one of these entities and has roles in no others."""
    elsewhere = exists().where(memberships.c.user_id == users.c.id, memberships.c.entity_id.not_in(entity_ids))
    query = select(users.c.id).where(users.c.id == user_id, users.c.is_admin.is_(False), serves(entity_ids), ~elsewhere)
    return connection.execute(query).first() is not None


def is_named(name: str) -> ColumnElement[bool]:
    """A condition on users: the one of this name."""
    return users.c.name == name


def serves(entity_ids: Collection[int]) -> ColumnElement[bool]:
    """A condition on users: a service user of one of these entities.

    It goes by the prefix of the name, which no person's name may have; roles in other entities do not change it.
    """
    prefix = entities.c.name + "/"
    named = func.substr(users.c.name, 1, func.length(prefix)) == prefix
    return exists().where(entities.c.id.in_(entity_ids), named)
