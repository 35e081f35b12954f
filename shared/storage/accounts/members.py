"""Members of entities: changes of roles and users, and whether an administrator is left.

An administrator without an unrevoked key can do nothing, and does not count as one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, case, delete, exists, insert, select, update

from shared.storage.accounts.api_keys import is_valid
from shared.storage.accounts.users import Role, StoredUser, select_users, set_default_entity
from shared.storage.database.clock import database_time
from shared.storage.schema.tables import api_keys, entities, memberships, users


@dataclass(frozen=True, slots=True)
class StoredMember:
    """One user's role in one entity."""

    user_id: int
    user_name: str
    role: Role


def list_members(connection: Connection, entity_id: int, *, after: int, limit: int) -> list[StoredMember]:
    """An entity's members in the order of their users' ids."""
    query = (
        select(users.c.id, users.c.name, memberships.c.role)
        .join(memberships, memberships.c.user_id == users.c.id)
        .where(memberships.c.entity_id == entity_id, users.c.id > after)
        .order_by(users.c.id)
        .limit(limit)
    )
    return [StoredMember(number, name, Role(role)) for number, name, role in connection.execute(query)]


def find_member(connection: Connection, entity_id: int, user_id: int) -> StoredMember | None:
    """A user's role in an entity."""
    query = (
        select(users.c.id, users.c.name, memberships.c.role)
        .join(memberships, memberships.c.user_id == users.c.id)
        .where(memberships.c.entity_id == entity_id, users.c.id == user_id)
    )
    row = connection.execute(query).first()
    return None if row is None else StoredMember(row[0], row[1], Role(row[2]))


def remove_member(connection: Connection, entity_id: int, user_id: int) -> None:
    """Take a user's role in an entity away."""
    connection.execute(
        delete(memberships).where(memberships.c.entity_id == entity_id, memberships.c.user_id == user_id)
    )


def find_user_by_id(connection: Connection, user_id: int) -> StoredUser | None:
    """The user of this number."""
    row = connection.execute(select_users().where(users.c.id == user_id)).first()
    return None if row is None else StoredUser(*row)


def update_user(connection: Connection, user_id: int, *, email: str | None, is_admin: bool) -> None:
    """Change a user's address, and whether the user administers the instance."""
    connection.execute(update(users).where(users.c.id == user_id).values(email=email, is_admin=is_admin))


def replace_roles(connection: Connection, user_id: int, roles: Mapping[int, Role]) -> None:
    """Give a user these roles, by the entities' numbers, and no others."""
    connection.execute(delete(memberships).where(memberships.c.user_id == user_id))
    if roles:
        rows = [{"user_id": user_id, "entity_id": entity_id, "role": role} for entity_id, role in roles.items()]
        connection.execute(insert(memberships), rows)
    first = _first_of(connection, [entity_id for entity_id, role in roles.items() if role is not Role.PUBLISHER])
    if first is not None:
        set_default_entity(connection, user_id, first, only_first=True)


def _first_of(connection: Connection, entity_ids: Collection[int]) -> int | None:
    """The first team of these entities, or else the first organization; None if they are of several organizations."""
    organization = case((entities.c.kind == "organization", entities.c.id), else_=entities.c.parent_id)
    query = (
        select(entities.c.id, organization.label("organization"))
        .where(entities.c.id.in_(entity_ids))
        .order_by(entities.c.kind == "organization", entities.c.id)
    )
    found = connection.execute(query).all()
    several = len({row.organization for row in found if row.organization is not None}) > 1
    return None if several or not found else int(found[0].id)


def delete_user(connection: Connection, user_id: int) -> None:
    """Delete a user with all keys and roles; the audit log keeps the name."""
    connection.execute(delete(users).where(users.c.id == user_id))


def has_instance_admin(connection: Connection) -> bool:
    """Whether anybody can administer the instance."""
    return (
        connection.execute(select(users.c.id).where(users.c.is_admin, _has_key(connection)).limit(1)).first()
        is not None
    )


def has_entity_admin(connection: Connection, entity_id: int) -> bool:
    """Whether anybody can administer the entity by a role in it."""
    query = (
        select(users.c.id)
        .join(memberships, memberships.c.user_id == users.c.id)
        .where(memberships.c.entity_id == entity_id, memberships.c.role == Role.ADMIN, _has_key(connection))
        .limit(1)
    )
    return connection.execute(query).first() is not None


def _has_key(connection: Connection) -> ColumnElement[bool]:
    return exists().where(api_keys.c.user_id == users.c.id, is_valid(database_time(connection)))
