"""Sources of an entity: their definitions, the secrets that they use, and where they are found by a request's URL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, select, update

from shared.storage.schema.tables import entities, secrets, source_secrets, sources


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSource:
    """One source. `definition` has its project, proof and rules, and names its secrets."""

    id: int
    entity_id: int
    name: str
    kind: str
    token: str
    definition: dict[str, Any]
    enabled: bool
    revision: int
    created_at: datetime
    updated_at: datetime

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The secrets that prove its requests, the present one first."""
        names = (self.definition.get("secret"), self.definition.get("former_secret"))
        return tuple(name for name in names if name is not None)


def _sources() -> Select[Any]:
    return select(sources)


def _stored(rows: Sequence[Row[Any]]) -> list[StoredSource]:
    return [StoredSource(**row._mapping) for row in rows]


def find_source(
    connection: Connection, entity_id: int, *, source_id: int | None = None, name: str | None = None
) -> StoredSource | None:
    """The entity's source of this id, or, without an id, of this name."""
    wanted = sources.c.id == source_id if source_id is not None else sources.c.name == name
    found = _stored(connection.execute(_sources().where(sources.c.entity_id == entity_id, wanted)).all())
    return found[0] if found else None


def list_sources(connection: Connection, entity_id: int, *, after: int, limit: int) -> list[StoredSource]:
    """The entity's sources in the order of their ids."""
    query = _sources().where(sources.c.entity_id == entity_id, sources.c.id > after)
    return _stored(connection.execute(query.order_by(sources.c.id).limit(limit)).all())


@dataclass(frozen=True, slots=True)
class AddressedSource:
    """A source as a request needs it: with its entity's name and its encrypted secrets, the present one first."""

    stored: StoredSource
    entity: str
    ciphertexts: Mapping[str, bytes]


def find_addressed(connection: Connection, token: str) -> AddressedSource | None:
    """The source that requests with this token in their URL are for."""
    query = select(sources, entities.c.name.label("entity")).join(entities, entities.c.id == sources.c.entity_id)
    row = connection.execute(query.where(sources.c.token == token)).first()
    if row is None:
        return None
    members = dict(row._mapping)
    entity = members.pop("entity")
    stored = StoredSource(**members)
    used = (
        select(secrets.c.name, secrets.c.ciphertext)
        .join(source_secrets, source_secrets.c.secret_id == secrets.c.id)
        .where(source_secrets.c.source_id == stored.id)
    )
    ciphertexts = {row.name: row.ciphertext for row in connection.execute(used)}
    return AddressedSource(stored, entity, {name: ciphertexts[name] for name in stored.secret_names})


def insert_source(
    connection: Connection,
    entity_id: int,
    *,
    name: str,
    kind: str,
    token: str,
    definition: dict[str, Any],
    enabled: bool,
    secret_ids: Collection[int],
    revision: int,
    now: datetime,
) -> int:
    """Store a new source. Raises sqlalchemy.exc.IntegrityError when the entity has one of this name."""
    values = {
        "entity_id": entity_id,
        "name": name,
        "kind": kind,
        "token": token,
        "definition": definition,
        "enabled": enabled,
        "revision": revision,
        "created_at": now,
        "updated_at": now,
    }
    number = int(connection.execute(insert(sources).values(values).returning(sources.c.id)).scalar_one())
    _use(connection, number, secret_ids)
    return number


def update_source(
    connection: Connection,
    source_id: int,
    *,
    name: str,
    kind: str,
    definition: dict[str, Any],
    enabled: bool,
    secret_ids: Collection[int],
    revision: int,
    now: datetime,
) -> None:
    """Write a source's definition over the one before; its URL stays."""
    values = {
        "name": name,
        "kind": kind,
        "definition": definition,
        "enabled": enabled,
        "revision": revision,
        "updated_at": now,
    }
    connection.execute(update(sources).where(sources.c.id == source_id).values(values))
    connection.execute(delete(source_secrets).where(source_secrets.c.source_id == source_id))
    _use(connection, source_id, secret_ids)


def delete_source(connection: Connection, source_id: int) -> None:
    """Delete a source with its history."""
    connection.execute(delete(sources).where(sources.c.id == source_id))


def _use(connection: Connection, source_id: int, secret_ids: Collection[int]) -> None:
    rows = [{"source_id": source_id, "secret_id": secret_id} for secret_id in sorted(set(secret_ids))]
    if rows:
        connection.execute(insert(source_secrets), rows)
