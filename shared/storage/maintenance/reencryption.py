"""Everything that is stored encrypted, in pages, so that it can be encrypted anew: secrets, and kept answers.

Nothing here decrypts. A value is only ever replaced while it is still the one that was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, select, tuple_, update

from shared.storage.schema.tables import entities, idempotency_keys, secrets


@dataclass(frozen=True, slots=True)
class SealedValue:
    """One encrypted value: where it is, and whose."""

    key: tuple[Any, ...]
    """What tells it from the others, and the place after which the next page begins."""
    entity: str
    name: str
    stored: bytes


def sealed_secrets(connection: Connection, after: tuple[Any, ...] | None, limit: int) -> list[SealedValue]:
    """Secrets of all entities, in the order of their ids."""
    query = (
        select(secrets.c.id, entities.c.name, secrets.c.name, secrets.c.ciphertext)
        .join(entities, entities.c.id == secrets.c.entity_id)
        .order_by(secrets.c.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(secrets.c.id > after[0])
    return [SealedValue((row[0],), row[1], row[2], row[3]) for row in connection.execute(query)]


def replace_secret_ciphertext(connection: Connection, value: SealedValue, anew: bytes) -> bool:
    """Replace a secret's encrypted value; False when it was changed or deleted meanwhile. Its revision stays."""
    same = and_(secrets.c.id == value.key[0], secrets.c.ciphertext == value.stored)
    return connection.execute(update(secrets).where(same).values(ciphertext=anew)).rowcount == 1


def sealed_answers(connection: Connection, after: tuple[Any, ...] | None, limit: int) -> list[SealedValue]:
    """Answers that are kept for repeated requests, in the order of their users and keys."""
    identity = (idempotency_keys.c.user_id, idempotency_keys.c.key)
    query = select(*identity, idempotency_keys.c.body).where(idempotency_keys.c.body.is_not(None))
    if after is not None:
        query = query.where(tuple_(*identity) > tuple_(*after))
    rows = connection.execute(query.order_by(*identity).limit(limit))
    return [SealedValue((row[0], row[1]), "", row[1], row[2]) for row in rows]


def replace_answer_ciphertext(connection: Connection, value: SealedValue, anew: bytes) -> bool:
    """Replace a kept answer; False when it was replaced or forgotten meanwhile."""
    user_id, key = value.key
    same = and_(
        idempotency_keys.c.user_id == user_id, idempotency_keys.c.key == key, idempotency_keys.c.body == value.stored
    )
    return connection.execute(update(idempotency_keys).where(same).values(body=anew)).rowcount == 1
