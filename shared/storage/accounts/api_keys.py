"""API keys: shown once when they are made, stored as hashes, and marked when they are used."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, func, insert, or_, select, update

from shared.storage.schema.tables import api_keys, users

KEY_PREFIX = "hlk-"


KEY_RANDOM_BYTES = 32
"""256 bits can't be guessed, so a fast hash is enough to store them."""


HINT_LENGTH = 8
"""How many characters of a key stay readable: its prefix and four more, enough to tell one's own keys apart."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An API key without its text."""

    id: int
    name: str
    hint: str
    user_id: int
    user_name: str
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    """When it ends, or ended, by itself; None: never."""


def new_key() -> str:
    """A new key's text: `hlk-` and 43 url-safe characters, which the wandb client takes for a key as well."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_RANDOM_BYTES)


def hash_key(text: str) -> bytes:
    """The digest under which a key is stored: SHA-256 of its UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()


def touch_key(connection: Connection, digest: bytes, now: datetime) -> None:
    """Store when a key was used last."""
    connection.execute(update(api_keys).where(api_keys.c.digest == digest).values(last_used_at=now))


def is_valid(now: datetime) -> ColumnElement[bool]:
    """A condition: an API key is not revoked and has not expired."""
    return api_keys.c.revoked_at.is_(None) & or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > now)


def find_expiry(connection: Connection, digest: bytes) -> datetime | None:
    """When the unrevoked key with this digest ends, or ended, by itself; None if it does not, or there is none."""
    query = select(api_keys.c.expires_at).where(api_keys.c.digest == digest, api_keys.c.revoked_at.is_(None))
    return connection.execute(query).scalar()


def count_ending(connection: Connection, now: datetime, *, within: timedelta) -> int:
    """How many keys end within this time, of those that were made at least twice as long ago.

    Keys that live for hours, as programs of an identity provider get them, end by design and are left out.
    """
    query = select(func.count()).where(
        api_keys.c.revoked_at.is_(None),
        api_keys.c.expires_at > now,
        api_keys.c.expires_at <= now + within,
        api_keys.c.created_at <= now - 2 * within,
    )
    return int(connection.execute(query.select_from(api_keys)).scalar_one())


def create_key(
    connection: Connection, *, user_id: int, name: str, text: str, now: datetime, expires_at: datetime | None = None
) -> int:
    """Store a new key of a user; only the digest and the hint of `text` are kept.

    Raises:
        sqlalchemy.exc.IntegrityError: when this very key is stored already.
    """
    statement = (
        insert(api_keys)
        .values(
            user_id=user_id,
            name=name,
            digest=hash_key(text),
            hint=text[:HINT_LENGTH],
            created_at=now,
            expires_at=expires_at,
        )
        .returning(api_keys.c.id)
    )
    return int(connection.execute(statement).scalar_one())


def list_keys(connection: Connection, *, of: ColumnElement[bool] | None, after: int, limit: int) -> list[StoredKey]:
    """Unrevoked keys, expired ones too, in the order of their ids; `of` is a condition on their users or on them."""
    query = (
        select(
            api_keys.c.id,
            api_keys.c.name,
            api_keys.c.hint,
            users.c.id,
            users.c.name,
            api_keys.c.created_at,
            api_keys.c.last_used_at,
            api_keys.c.expires_at,
        )
        .join(users, users.c.id == api_keys.c.user_id)
        .where(api_keys.c.revoked_at.is_(None), api_keys.c.id > after)
        .order_by(api_keys.c.id)
        .limit(limit)
    )
    return [StoredKey(*row) for row in connection.execute(query if of is None else query.where(of))]


def revoke_key(
    connection: Connection, key_id: int, *, of: ColumnElement[bool] | None, now: datetime
) -> tuple[str, int] | None:
    """Revoke a key whose user meets `of`.

    Returns:
        The key's name and its user; None when there is no such unrevoked key.
    """
    owners = select(users.c.id) if of is None else select(users.c.id).where(of)
    statement = (
        update(api_keys)
        .where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None), api_keys.c.user_id.in_(owners))
        .values(revoked_at=now)
        .returning(api_keys.c.name, api_keys.c.user_id)
    )
    row = connection.execute(statement).first()
    return None if row is None else (row.name, row.user_id)
