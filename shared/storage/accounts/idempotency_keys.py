"""Idempotency keys: which request a key was first used with, and what that request was answered.

A row is a claim while its status is null. `seal` belongs into the transaction of what the request does, so that no
other claim of the key can do it again. Nothing here encrypts: bodies come in encrypted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, delete, select, tuple_, update

from shared.storage.database.upserts import insert_into
from shared.storage.schema.tables import idempotency_keys

# What stands for the status of a request that is done while its answer is not known yet.
SEALED = 200


@dataclass(frozen=True, slots=True)
class KeyClaim:
    """One user's hold on a key, told from an earlier or later hold by when it began."""

    user_id: int
    key: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """The request that a key stands for; without a status it is underway, without a body its answer is not known."""

    claim: KeyClaim
    request_digest: bytes
    status_code: int | None
    body: bytes | None


def insert_claim(connection: Connection, claim: KeyClaim, request_digest: bytes) -> bool:
    """Claim a key that the user has not used; False when it was used."""
    statement = (
        insert_into(connection, idempotency_keys)
        .values(user_id=claim.user_id, key=claim.key, request_digest=request_digest, created_at=claim.created_at)
        .on_conflict_do_nothing()
        .returning(idempotency_keys.c.key)
    )
    return connection.execute(statement).first() is not None


def find_request(connection: Connection, user_id: int, key: str) -> StoredRequest | None:
    """What a user's key stands for; held against others until the transaction ends."""
    query = (
        select(
            idempotency_keys.c.created_at,
            idempotency_keys.c.request_digest,
            idempotency_keys.c.status_code,
            idempotency_keys.c.body,
        )
        .where(idempotency_keys.c.user_id == user_id, idempotency_keys.c.key == key)
        .with_for_update()
    )
    row = connection.execute(query).first()
    return None if row is None else StoredRequest(KeyClaim(user_id, key, row[0]), *row[1:])


def seal(connection: Connection, claim: KeyClaim) -> bool:
    """Note in the transaction of what a request does that it is done; False when the claim was lost to another."""
    statement = update(idempotency_keys).where(_underway(claim)).values(status_code=SEALED)
    return connection.execute(statement).rowcount == 1


def complete(connection: Connection, claim: KeyClaim, *, status_code: int, body: bytes) -> None:
    """Keep the answer, unless the claim was lost to another."""
    connection.execute(update(idempotency_keys).where(_of(claim)).values(status_code=status_code, body=body))


def release(connection: Connection, claim: KeyClaim) -> None:
    """Let go of a key whose request changed nothing; one that is sealed stays."""
    connection.execute(delete(idempotency_keys).where(_underway(claim)))


def remove_request(connection: Connection, claim: KeyClaim) -> None:
    """Forget what a key stood for."""
    connection.execute(delete(idempotency_keys).where(_of(claim)))


def remove_requests_before(connection: Connection, before: datetime, *, limit: int) -> None:
    """Forget up to `limit` keys first used before a time; those that another transaction holds are passed over."""
    identity = tuple_(idempotency_keys.c.user_id, idempotency_keys.c.key)
    old = (
        select(idempotency_keys.c.user_id, idempotency_keys.c.key)
        .where(idempotency_keys.c.created_at < before)
        .order_by(idempotency_keys.c.created_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    connection.execute(delete(idempotency_keys).where(identity.in_(old)))


def _of(claim: KeyClaim) -> ColumnElement[bool]:
    return and_(
        idempotency_keys.c.user_id == claim.user_id,
        idempotency_keys.c.key == claim.key,
        idempotency_keys.c.created_at == claim.created_at,
    )


def _underway(claim: KeyClaim) -> ColumnElement[bool]:
    return and_(_of(claim), idempotency_keys.c.status_code.is_(None))
