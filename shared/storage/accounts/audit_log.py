"""The audit log: who changed what and when. Rows are only ever added, in the transaction of the change itself.

Must not be given a secret's value: what is written here is shown to administrators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from shared.storage.schema.tables import audit_log, entities

MAX_TARGET_CHARS = 600
"""The column's length: an id or a name always fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChange:
    """One change; `entity` is None when it concerned the whole instance."""

    id: int
    created_at: datetime
    user_name: str
    entity: str | None
    action: str
    target: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewChange:
    """A change to be recorded."""

    user_id: int
    user_name: str
    entity_id: int | None
    action: str
    target: str
    detail: Mapping[str, Any]
    now: datetime


def insert_changes(connection: Connection, changes: Sequence[NewChange]) -> None:
    """Record changes, in their order."""
    if not changes:
        return
    rows = [
        {
            "created_at": one.now,
            "user_id": one.user_id,
            "user_name": one.user_name,
            "entity_id": one.entity_id,
            "action": one.action,
            "target": one.target[:MAX_TARGET_CHARS],
            "detail": dict(one.detail),
        }
        for one in changes
    ]
    connection.execute(insert(audit_log), rows)


def list_changes(
    connection: Connection, *, entity_id: int | None, before: int | None, limit: int
) -> list[StoredChange]:
    """Changes, newest first: of one entity, or of the whole instance; `before` is the id a previous page ended with."""
    query = (
        select(
            audit_log.c.id,
            audit_log.c.created_at,
            audit_log.c.user_name,
            entities.c.name.label("entity"),
            audit_log.c.action,
            audit_log.c.target,
            audit_log.c.detail,
        )
        .outerjoin(entities, entities.c.id == audit_log.c.entity_id)
        .order_by(audit_log.c.id.desc())
        .limit(limit)
    )
    if entity_id is not None:
        query = query.where(audit_log.c.entity_id == entity_id)
    if before is not None:
        query = query.where(audit_log.c.id < before)
    return [StoredChange(**row._mapping) for row in connection.execute(query)]
