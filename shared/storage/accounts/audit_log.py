"""The audit log: who changed what and when. Rows are only ever added, in the transaction of the change itself.

Must not be given a secret's value: what is written here is shown to administrators.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, or_, select, union_all

from shared.storage.database.bulk import is_postgresql
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
            "target_name": _name_in(one.detail),
        }
        for one in changes
    ]
    connection.execute(insert(audit_log), rows)


def _name_in(detail: Mapping[str, Any]) -> str | None:
    name = detail.get("name")
    return name[:MAX_TARGET_CHARS] if isinstance(name, str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFilter:
    """Which changes are meant; None stands for any."""

    user_name: str | None = None
    action: str | None = None
    """An action, or the kind of thing that it is about."""
    target: str | None = None
    """An id, or a name that the thing had then."""
    since: datetime | None = None
    until: datetime | None = None


def list_changes(
    connection: Connection,
    entity_id: int | None,
    wanted: ChangeFilter,
    *,
    position: int | None,
    newer: bool = False,
    limit: int,
) -> list[StoredChange]:
    """Changes that match, newest first: of one entity, or of the whole instance.

    They are those right before `position`, an id of an earlier page, or with `newer` those right after it.
    """
    query = select(
        audit_log.c.id,
        audit_log.c.created_at,
        audit_log.c.user_name,
        entities.c.name.label("entity"),
        audit_log.c.action,
        audit_log.c.target,
        audit_log.c.detail,
    ).outerjoin(entities, entities.c.id == audit_log.c.entity_id)
    query = query.where(*_conditions(wanted, entity_id, postgresql=is_postgresql(connection)))
    if entity_id is not None:
        query = query.where(audit_log.c.entity_id == entity_id)
    if position is not None:
        query = query.where(audit_log.c.id > position if newer else audit_log.c.id < position)
    query = query.order_by(audit_log.c.id if newer else audit_log.c.id.desc()).limit(limit)
    found = [StoredChange(**row._mapping) for row in connection.execute(query)]
    return found[::-1] if newer else found


def _conditions(wanted: ChangeFilter, entity_id: int | None, *, postgresql: bool) -> Iterator[ColumnElement[bool]]:
    any_of = partial(_any_of, entity_id=entity_id, postgresql=postgresql)
    if wanted.user_name is not None:
        yield any_of(audit_log.c.user_name == wanted.user_name)
    if wanted.action is not None:
        # Each action is a kind of thing, a dot and what was done to it.
        kind = audit_log.c.action.startswith(f"{wanted.action}.", autoescape=True)
        yield any_of(audit_log.c.action == wanted.action if "." in wanted.action else kind)
    if wanted.target is not None:
        yield any_of(audit_log.c.target == wanted.target, audit_log.c.target_name == wanted.target)
    if wanted.since is not None:
        yield audit_log.c.created_at >= wanted.since
    if wanted.until is not None:
        yield audit_log.c.created_at < wanted.until


def _any_of(*conditions: ColumnElement[bool], entity_id: int | None, postgresql: bool) -> ColumnElement[bool]:
    """Any of the conditions, each of which an index serves.

    SQLite has to be told where an index does not also give the order: it would walk through all changes.
    """
    in_order = len(conditions) == 1 and entity_id is not None
    if postgresql or in_order:
        return or_(*conditions)
    own = () if entity_id is None else (audit_log.c.entity_id == entity_id,)
    return audit_log.c.id.in_(union_all(*(select(audit_log.c.id).where(one, *own) for one in conditions)))
