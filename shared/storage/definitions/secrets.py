"""Secrets of an entity: encrypted values and who uses them. Nothing here decrypts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, or_, select, union, update

from shared.domain.delivery.request_parts import secrets_in_headers, secrets_in_url
from shared.storage.schema.tables import entities, secrets, source_secrets, sources, webhook_secrets, webhooks


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """Get one secret, without its value."""

    id: int
    name: str
    created_at: datetime
    updated_at: datetime


def find_secret(connection: Connection, entity_id: int, name: str) -> StoredSecret | None:
    """The entity's secret of this name."""
    query = select(secrets.c.id, secrets.c.name, secrets.c.created_at, secrets.c.updated_at)
    row = connection.execute(query.where(secrets.c.entity_id == entity_id, secrets.c.name == name)).first()
    return None if row is None else StoredSecret(*row)


def list_secrets(connection: Connection, entity_id: int, *, after: int, limit: int) -> list[StoredSecret]:
    """The entity's secrets in the order of their ids."""
    query = (
        select(secrets.c.id, secrets.c.name, secrets.c.created_at, secrets.c.updated_at)
        .where(secrets.c.entity_id == entity_id, secrets.c.id > after)
        .order_by(secrets.c.id)
        .limit(limit)
    )
    return [StoredSecret(*row) for row in connection.execute(query)]


def secret_ids(connection: Connection, entity_id: int) -> dict[str, int]:
    """The id of each of the entity's secrets, by name."""
    query = select(secrets.c.name, secrets.c.id).where(secrets.c.entity_id == entity_id).order_by(secrets.c.name)
    return {row.name: row.id for row in connection.execute(query)}


def ciphertexts(connection: Connection, entity_id: int, names: Collection[str]) -> dict[str, bytes]:
    """The encrypted values of the entity's secrets of these names."""
    query = select(secrets.c.name, secrets.c.ciphertext).where(
        secrets.c.entity_id == entity_id, secrets.c.name.in_(names)
    )
    return {row.name: row.ciphertext for row in connection.execute(query)}


@dataclass(frozen=True, slots=True)
class EncryptedSecret:
    """A secret of any entity, as it is stored."""

    entity: str
    name: str
    ciphertext: bytes


def newest_secrets(connection: Connection, *, limit: int) -> list[EncryptedSecret]:
    """The secrets of all entities that were written last."""
    query = (
        select(entities.c.name, secrets.c.name, secrets.c.ciphertext)
        .join(entities, entities.c.id == secrets.c.entity_id)
        .order_by(secrets.c.revision.desc())
        .limit(limit)
    )
    return [EncryptedSecret(*row) for row in connection.execute(query)]


def insert_secret(
    connection: Connection, entity_id: int, *, name: str, ciphertext: bytes, revision: int, now: datetime
) -> int:
    """Store a new secret.

    Raises:
        sqlalchemy.exc.IntegrityError: when the entity has a secret of this name.
    """
    statement = (
        insert(secrets)
        .values(
            entity_id=entity_id, name=name, ciphertext=ciphertext, revision=revision, created_at=now, updated_at=now
        )
        .returning(secrets.c.id)
    )
    return int(connection.execute(statement).scalar_one())


def replace_secret(connection: Connection, secret_id: int, *, ciphertext: bytes, revision: int, now: datetime) -> None:
    """Replace the value of a secret."""
    values = {"ciphertext": ciphertext, "revision": revision, "updated_at": now}
    connection.execute(update(secrets).where(secrets.c.id == secret_id).values(values))


def delete_secret(connection: Connection, secret_id: int) -> None:
    """Delete a secret that nothing uses.

    Raises:
        sqlalchemy.exc.IntegrityError: when a webhook uses it.
    """
    connection.execute(delete(secrets).where(secrets.c.id == secret_id))


def users_of_secrets(connection: Connection, ids: Collection[int]) -> dict[int, tuple[str, ...]]:
    """For each of these secrets the sorted names of the webhooks and sources that use it, in whatever way."""
    own = [
        select(column, webhooks.c.name).where(column.in_(ids), webhooks.c.deleted_at.is_(None))
        for column in _USES.values()
    ]
    granted = (
        select(webhook_secrets.c.secret_id, webhooks.c.name)
        .join(webhooks, webhooks.c.id == webhook_secrets.c.webhook_id)
        .where(webhook_secrets.c.secret_id.in_(ids), webhooks.c.deleted_at.is_(None))
    )
    found: dict[int, list[str]] = {secret_id: [] for secret_id in ids}
    proving = (
        select(source_secrets.c.secret_id, sources.c.name)
        .join(sources, sources.c.id == source_secrets.c.source_id)
        .where(source_secrets.c.secret_id.in_(ids))
    )
    for secret_id, name in connection.execute(union(*own, granted, proving)):
        found[secret_id].append(name)
    return {secret_id: tuple(sorted(names)) for secret_id, names in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretUses:
    """The uses of a secret by webhooks, other than in payloads, and by sources."""

    as_access_token: bool = False
    as_signing_secret: bool = False
    as_kept_signing_secret: bool = False
    """It was named as signing secret before, or is named as a former one: the rules of its time hold for its value."""
    as_url: bool = False
    as_client_certificate: bool = False
    as_basic_password: bool = False
    as_former_signing_secret: bool = False
    in_header: bool = False
    in_url: bool = False
    proves: bool = False
    """It proves requests of a source."""
    proves_decoded: bool = False
    """It does so after it was decoded from base64."""


_USES = {
    "as_access_token": webhooks.c.access_token_secret_id,
    "as_signing_secret": webhooks.c.signing_secret_id,
    "as_url": webhooks.c.url_secret_id,
    "as_client_certificate": webhooks.c.client_certificate_secret_id,
    "as_basic_password": webhooks.c.basic_password_secret_id,
    "as_former_signing_secret": webhooks.c.former_signing_secret_id,
}


def uses_of_secret(connection: Connection, secret: StoredSecret) -> SecretUses:
    """Whether webhooks use the secret by itself, to sign with, or within their headers and URLs."""
    used = or_(*(column == secret.id for column in _USES.values()))
    rows = connection.execute(select(*_USES.values()).where(used, webhooks.c.deleted_at.is_(None))).all()
    granted = (
        select(webhooks.c.headers, webhooks.c.url)
        .join(webhook_secrets, webhook_secrets.c.webhook_id == webhooks.c.id)
        .where(webhook_secrets.c.secret_id == secret.id, webhooks.c.deleted_at.is_(None))
    )
    parts = connection.execute(granted).all()
    proving = (
        select(sources.c.definition)
        .join(source_secrets, source_secrets.c.source_id == sources.c.id)
        .where(source_secrets.c.secret_id == secret.id)
    )
    proved = list(connection.scalars(proving))
    return SecretUses(
        **{use: any(row[place] == secret.id for row in rows) for place, use in enumerate(_USES)},
        in_header=any(secret.name in secrets_in_headers(row.headers or {}) for row in parts),
        in_url=any(secret.name in secrets_in_url(row.url) for row in parts),
        proves=bool(proved),
        proves_decoded=any(decodes_secret(definition) for definition in proved),
    )


def decodes_secret(definition: Mapping[str, Any]) -> bool:
    """Whether a source's secret is base64 of its key."""
    signature = (definition.get("verify") or {}).get("hmac")
    return signature is not None and signature.get("key") == "base64"


def secret_revision(connection: Connection, entity_id: int, name: str) -> int:
    """The revision of the secret of this name, which the entity has."""
    query = select(secrets.c.revision).where(secrets.c.entity_id == entity_id, secrets.c.name == name)
    return int(connection.execute(query).scalar_one())
