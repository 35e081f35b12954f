"""Idempotency keys: the request that a key was first used with, and the answer to it.

A row goes through three states. It is a claim while its status is null: its request is underway, and may be taken over
when it was abandoned. It is effective once its status is set: the request has taken effect, its answer may be lost. It
is complete once it has a body: a repeat gets this answer. `mark_effective` belongs into the transaction of the
request's effect, so that no other claim of the key can have the effect again. Nothing here encrypts: bodies come in
encrypted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, delete, func, select, tuple_, update

from shared.storage.database.upserts import insert_into
from shared.storage.schema.tables import idempotency_keys

EFFECTIVE = 200
"""The status of an effective row until its answer is known."""


@dataclass(frozen=True, slots=True)
class KeyClaim:
    """One user's claim of a key; `created_at` tells it from an earlier or later claim of the same key."""

    user_id: int
    key: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """The first request with a key: underway without a status, and without a body its answer is not known."""

    claim: KeyClaim
    request_digest: bytes
    status_code: int | None
    body: bytes | None


def insert_claim(connection: Connection, claim: KeyClaim, request_digest: bytes) -> bool:
    """Claim a key for a user; False when the user has used it before."""
    statement = (
        insert_into(connection, idempotency_keys)
        .values(user_id=claim.user_id, key=claim.key, request_digest=request_digest, created_at=claim.created_at)
        .on_conflict_do_nothing()
        .returning(idempotency_keys.c.key)
    )
    return connection.execute(statement).first() is not None


def find_request(connection: Connection, user_id: int, key: str) -> StoredRequest | None:
    """The request of a user's key, its row locked until the transaction ends; None when the key was not used."""
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


def mark_effective(connection: Connection, claim: KeyClaim) -> bool:
    """Mark that the request takes effect with this transaction; False when another took the claim over."""
    statement = update(idempotency_keys).where(_underway(claim)).values(status_code=EFFECTIVE)
    return connection.execute(statement).rowcount == 1


def complete(connection: Connection, claim: KeyClaim, *, status_code: int, body: bytes) -> bool:
    """Keep the answer of an effective request; whether it was one."""
    effective = and_(_of(claim), idempotency_keys.c.status_code.is_not(None))
    values = {"status_code": status_code, "body": body}
    return connection.execute(update(idempotency_keys).where(effective).values(values)).rowcount == 1


def count_keys(connection: Connection, user_id: int, *, most: int) -> int:
    """How many keys a user has, counted up to `most`."""
    some = select(idempotency_keys.c.key).where(idempotency_keys.c.user_id == user_id).limit(most).subquery()
    return connection.execute(select(func.count()).select_from(some)).scalar_one()


def drop_old_answers(connection: Connection, user_id: int, *, most_answers: int, most_bytes: int) -> None:
    """Forget a user's oldest answers beyond this many or this many bytes together; their requests stay effective."""
    columns = idempotency_keys.c
    query = (
        select(columns.key, func.length(columns.body))
        .where(columns.user_id == user_id, columns.body.is_not(None))
        .order_by(columns.created_at.desc())
        .limit(most_answers + 1)
    )
    kept_bytes, dropped = 0, []
    for number, (key, size) in enumerate(connection.execute(query)):
        kept_bytes += size
        if number >= most_answers or kept_bytes > most_bytes:
            dropped.append(key)
    if dropped:
        of_user = and_(columns.user_id == user_id, columns.key.in_(dropped))
        connection.execute(update(idempotency_keys).where(of_user).values(body=None))


def release(connection: Connection, claim: KeyClaim) -> None:
    """Free a key whose request had no effect; an effective one stays."""
    connection.execute(delete(idempotency_keys).where(_underway(claim)))


def remove_request(connection: Connection, claim: KeyClaim) -> None:
    """Delete a key's row, whatever its state."""
    connection.execute(delete(idempotency_keys).where(_of(claim)))


def remove_requests_before(connection: Connection, before: datetime, *, limit: int) -> None:
    """Delete up to `limit` keys first used before a time, except those that another transaction has locked."""
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
