"""Sessions of people who signed in to the console: kept as hashes, each bound to the key or the account behind it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from shared.storage.accounts.api_keys import hash_key, is_valid
from shared.storage.accounts.users import Principal, Role
from shared.storage.schema.tables import api_keys, memberships, sessions, user_identities, users

TOKEN_RANDOM_BYTES = 32
MAX_BROWSER_CHARS = 255
MAX_ENDED = 500
"""Rows of ended sessions that are deleted at once, so that nobody who signs in waits for many."""


@dataclass(frozen=True, slots=True)
class StoredSession:
    """One session; its user has `user_id`."""

    id: int
    user_id: int
    user_name: str
    key_hint: str | None
    """How the key begins that it was made with; None if it was made with an account of an identity provider."""
    browser: str
    created_at: datetime
    seen_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session that has not ended, and who is signed in with the roles of this moment."""

    session: StoredSession
    principal: Principal


_COLUMNS = (
    sessions.c.id,
    users.c.id.label("user_id"),
    users.c.name.label("user_name"),
    api_keys.c.hint,
    sessions.c.browser,
    sessions.c.created_at,
    sessions.c.seen_at,
    sessions.c.ends_at,
)
_OWNERS = (
    sessions.outerjoin(api_keys, api_keys.c.id == sessions.c.key_id)
    .outerjoin(user_identities, user_identities.c.id == sessions.c.identity_id)
    .join(users, users.c.id == func.coalesce(api_keys.c.user_id, user_identities.c.user_id))
)


def new_token() -> str:
    """A new session's token: 43 url-safe characters of 256 random bits."""
    return secrets.token_urlsafe(TOKEN_RANDOM_BYTES)


def insert_session(
    connection: Connection,
    *,
    token: str,
    browser: str,
    now: datetime,
    ends_at: datetime,
    key_digest: bytes | None = None,
    identity_id: int | None = None,
) -> int:
    """Store a session of the key with this digest, or of an account; only the token's digest is kept."""
    key_id = None
    if key_digest is not None:
        key_id = select(api_keys.c.id).where(api_keys.c.digest == key_digest).scalar_subquery()
    statement = (
        insert(sessions)
        .values(
            digest=hash_key(token),
            key_id=key_id,
            identity_id=identity_id,
            browser=browser[:MAX_BROWSER_CHARS],
            created_at=now,
            seen_at=now,
            ends_at=ends_at,
        )
        .returning(sessions.c.id)
    )
    return int(connection.execute(statement).scalar_one())


def find_session(connection: Connection, token: str, *, now: datetime) -> OpenSession | None:
    """The session of a token; None once it has ended, or its key was revoked or has expired."""
    query = (
        select(*_COLUMNS, users.c.is_admin, memberships.c.entity_id, memberships.c.role)
        .select_from(_OWNERS.outerjoin(memberships, memberships.c.user_id == users.c.id))
        .where(sessions.c.digest == hash_key(token), sessions.c.ends_at > now, is_valid(now))
    )
    rows = connection.execute(query).all()
    if not rows:
        return None
    first = rows[0]
    roles = {row.entity_id: Role(row.role) for row in rows if row.role is not None}
    principal = Principal(first.user_id, first.user_name, first.is_admin, MappingProxyType(roles))
    return OpenSession(StoredSession(*first[: len(_COLUMNS)]), principal)


def touch_session(connection: Connection, session_id: int, *, now: datetime, ends_at: datetime) -> None:
    """Store when a session was used last, and when it ends now."""
    connection.execute(update(sessions).where(sessions.c.id == session_id).values(seen_at=now, ends_at=ends_at))


def list_sessions(connection: Connection, user_id: int, *, now: datetime, limit: int) -> list[StoredSession]:
    """A user's sessions that have not ended, the newest first."""
    query = (
        select(*_COLUMNS)
        .select_from(_OWNERS)
        .where(users.c.id == user_id, sessions.c.ends_at > now, is_valid(now))
        .order_by(sessions.c.id.desc())
        .limit(limit)
    )
    return [StoredSession(*row) for row in connection.execute(query)]


def delete_session(connection: Connection, session_id: int, *, user_id: int) -> bool:
    """End a user's session; whether there was one."""
    keys = select(api_keys.c.id).where(api_keys.c.user_id == user_id)
    accounts = select(user_identities.c.id).where(user_identities.c.user_id == user_id)
    mine = or_(sessions.c.key_id.in_(keys), sessions.c.identity_id.in_(accounts))
    statement = delete(sessions).where(sessions.c.id == session_id, mine)
    return bool(connection.execute(statement).rowcount)


def delete_by_token(connection: Connection, token: str) -> None:
    """End the session of a token, if there is one."""
    connection.execute(delete(sessions).where(sessions.c.digest == hash_key(token)))


def delete_ended(connection: Connection, *, now: datetime) -> None:
    """Delete sessions that have ended, `MAX_ENDED` at most."""
    ended = select(sessions.c.id).where(sessions.c.ends_at <= now).order_by(sessions.c.ends_at).limit(MAX_ENDED)
    connection.execute(delete(sessions).where(sessions.c.id.in_(ended)))
