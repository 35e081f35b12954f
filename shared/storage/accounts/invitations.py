"""Invitations: a role in an entity that waits for the invited to accept it.

They are kept by the user's name, whether or not there is such a user, so that inviting tells nobody who exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, func, select

from shared.storage.accounts.users import Role
from shared.storage.database.upserts import insert_into
from shared.storage.schema.tables import entities, invitations


@dataclass(frozen=True, slots=True)
class StoredInvitation:
    """One invitation."""

    id: int
    entity_id: int
    entity: str
    user_name: str
    role: Role
    invited_by: str
    created_at: datetime


def put_invitation(
    connection: Connection, *, entity_id: int, user_name: str, role: Role, invited_by: str, now: datetime
) -> StoredInvitation:
    """Invite a user, or change the role of an invitation that waits."""
    values = {"role": role, "invited_by": invited_by, "created_at": now}
    statement = insert_into(connection, invitations).values(entity_id=entity_id, user_name=user_name, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["entity_id", "user_name"], set_=values))
    found = find_invitation(connection, entity_id, user_name)
    assert found is not None  # noqa: S101 - written in this transaction
    return found


def find_invitation(connection: Connection, entity_id: int, user_name: str) -> StoredInvitation | None:
    """The invitation of a user to an entity."""
    query = _invitations().where(invitations.c.entity_id == entity_id, invitations.c.user_name == user_name)
    row = connection.execute(query).first()
    return None if row is None else _stored(row)


def list_invitations(
    connection: Connection, *, entity_id: int | None = None, user_name: str | None = None, after: int, limit: int
) -> list[StoredInvitation]:
    """Invitations in the order of their ids: of an entity, or of a user."""
    query = _invitations().where(invitations.c.id > after).order_by(invitations.c.id).limit(limit)
    if entity_id is not None:
        query = query.where(invitations.c.entity_id == entity_id)
    if user_name is not None:
        query = query.where(invitations.c.user_name == user_name)
    return [_stored(row) for row in connection.execute(query)]


def count_invitations(connection: Connection, entity_id: int) -> int:
    """How many invitations to an entity wait."""
    query = select(func.count()).select_from(invitations).where(invitations.c.entity_id == entity_id)
    return int(connection.execute(query).scalar_one())


def delete_invitation(connection: Connection, entity_id: int, user_name: str) -> bool:
    """Take an invitation back; returns False when there was none."""
    mine = (invitations.c.entity_id == entity_id, invitations.c.user_name == user_name)
    return connection.execute(delete(invitations).where(*mine)).rowcount == 1


def delete_invitations_of(connection: Connection, user_name: str) -> None:
    """Take all invitations of a user back."""
    connection.execute(delete(invitations).where(invitations.c.user_name == user_name))


def _invitations() -> Select[Any]:
    return select(
        invitations.c.id,
        invitations.c.entity_id,
        entities.c.name,
        invitations.c.user_name,
        invitations.c.role,
        invitations.c.invited_by,
        invitations.c.created_at,
    ).join(entities, entities.c.id == invitations.c.entity_id)


def _stored(row: Sequence[Any]) -> StoredInvitation:
    number, entity_id, entity, user_name, role, invited_by, created_at = row
    return StoredInvitation(number, entity_id, entity, user_name, Role(role), invited_by, created_at)
