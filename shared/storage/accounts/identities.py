"""Accounts of identity providers, each of one user here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, select

from shared.storage.accounts.users import StoredUser, select_users
from shared.storage.database.upserts import insert_into
from shared.storage.schema.tables import user_identities, users

MAX_SUBJECT_CHARS = 255
"""The most that OpenID Connect allows (Core 1.0, section 2)."""


@dataclass(frozen=True, slots=True)
class StoredIdentity:
    """An account of a provider, and whose it is."""

    id: int
    user_id: int
    issuer: str
    subject: str
    created_at: datetime


_COLUMNS = (
    user_identities.c.id,
    user_identities.c.user_id,
    user_identities.c.issuer,
    user_identities.c.subject,
    user_identities.c.created_at,
)


def find_identity(connection: Connection, issuer: str, subject: str) -> StoredIdentity | None:
    """The account of this subject."""
    query = select(*_COLUMNS).where(user_identities.c.issuer == issuer, user_identities.c.subject == subject)
    row = connection.execute(query).first()
    return None if row is None else StoredIdentity(*row)


def list_identities(connection: Connection, user_id: int) -> list[StoredIdentity]:
    """A user's accounts."""
    query = select(*_COLUMNS).where(user_identities.c.user_id == user_id).order_by(user_identities.c.id)
    return [StoredIdentity(*row) for row in connection.execute(query)]


def link_identity(
    connection: Connection, user_id: int, *, issuer: str, subject: str, now: datetime
) -> StoredIdentity | None:
    """Make an account a user's; None when the user has another one of this provider, or somebody else has this one."""
    statement = (
        insert_into(connection, user_identities)
        .values(user_id=user_id, issuer=issuer, subject=subject, created_at=now)
        .on_conflict_do_nothing()
        .returning(*_COLUMNS)
    )
    row = connection.execute(statement).first()
    return None if row is None else StoredIdentity(*row)


def unlink_identities(connection: Connection, user_id: int) -> int:
    """Take a user's accounts away, and with them their sessions; returns how many."""
    return connection.execute(delete(user_identities).where(user_identities.c.user_id == user_id)).rowcount


def users_with_email(connection: Connection, email: str) -> list[StoredUser]:
    """The first two users with this address, in any case of its letters."""
    query = select_users().where(func.lower(users.c.email) == email.lower()).order_by(users.c.id).limit(2)
    return [StoredUser(*row) for row in connection.execute(query)]
