"""Access to everything that is stored encrypted, so that it can be encrypted with another key: secrets, kept answers.

Nothing here decrypts. A value is replaced only if it is still the one that was read, so an edit at the same moment
wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, select, tuple_, update

from shared.storage.schema.tables import entities, idempotency_keys, secrets


@dataclass(frozen=True, slots=True)
class EncryptedValue:
    """One encrypted value, and whose it is."""

    key: tuple[Any, ...]
    """Its primary key, which is also the position after which the next page begins."""
    entity: str
    name: str
    stored: bytes


def list_encrypted_secrets(connection: Connection, after: tuple[Any, ...] | None, limit: int) -> list[EncryptedValue]:
    """A page of the secrets of all entities, in the order of their ids."""
    query = (
        select(secrets.c.id, entities.c.name, secrets.c.name, secrets.c.ciphertext)
        .join(entities, entities.c.id == secrets.c.entity_id)
        .order_by(secrets.c.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(secrets.c.id > after[0])
    return [EncryptedValue((row[0],), row[1], row[2], row[3]) for row in connection.execute(query)]


def replace_secret_ciphertext(connection: Connection, value: EncryptedValue, anew: bytes) -> bool:
    """Replace a secret's ciphertext, without a new revision; False when it was changed or deleted meanwhile."""
    same = and_(secrets.c.id == value.key[0], secrets.c.ciphertext == value.stored)
    return connection.execute(update(secrets).where(same).values(ciphertext=anew)).rowcount == 1


def list_encrypted_answers(connection: Connection, after: tuple[Any, ...] | None, limit: int) -> list[EncryptedValue]:
    """A page of the answers that are kept for repeated requests, in the order of their users and keys."""
    identity = (idempotency_keys.c.user_id, idempotency_keys.c.key)
    query = select(*identity, idempotency_keys.c.body).where(idempotency_keys.c.body.is_not(None))
    if after is not None:
        query = query.where(tuple_(*identity) > tuple_(*after))
    rows = connection.execute(query.order_by(*identity).limit(limit))
    return [EncryptedValue((row[0], row[1]), "", row[1], row[2]) for row in rows]


def replace_answer_ciphertext(connection: Connection, value: EncryptedValue, anew: bytes) -> bool:
    """Replace the ciphertext of a kept answer; False when it was replaced or deleted meanwhile."""
    user_id, key = value.key
    same = and_(
        idempotency_keys.c.user_id == user_id, idempotency_keys.c.key == key, idempotency_keys.c.body == value.stored
    )
    return connection.execute(update(idempotency_keys).where(same).values(body=anew)).rowcount == 1
