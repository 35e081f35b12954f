"""Automations of an entity, stored as their definitions, in which the webhook is named by id."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, Text, bindparam, cast, insert, select, update

from shared.domain.durations import parse_duration
from shared.domain.ids import IdKind, decode_id
from shared.domain.quotas import weight_bytes
from shared.storage.database.bulk import among
from shared.storage.database.transactions import recalled
from shared.storage.definitions.kept_revisions import (
    Edited,
    RevisionChange,
    RevisionKind,
    created,
    edited,
    keep_revisions,
)
from shared.storage.schema.tables import automations, entities, kept_revisions, webhooks

_ROWS_READ = 8
"""Read at a time where they may be large: a definition may have a MiB."""


@dataclass(frozen=True, slots=True)
class StoredAutomation:
    """One automation that is not deleted."""

    id: int
    name: str
    entity_id: int
    entity: str
    webhook_id: int | None
    webhook_name: str | None
    webhook_entity_id: int | None
    definition: dict[str, Any]
    epoch: int
    revision: int
    created_at: datetime
    updated_at: datetime
    unmatched_at: datetime | None
    """When it could not be matched last; None since it was edited."""
    unmatched_reason: str | None
    ignored_at: datetime | None
    """When it ignored a sample last, as far as that was written down; None since it was edited."""
    ignored_sample: dict[str, Any] | None
    """That sample: `project`, `run`, `metric`, `step`, `last_step`."""


@dataclass(frozen=True, slots=True)
class AutomationFields:
    """The columns that an edit writes: the definition, and the members of it that queries look at."""

    name: str
    enabled: bool
    event_type: str
    scope_project: str | None
    scope_collection: str | None
    webhook_id: int | None
    definition: dict[str, Any]
    epoch: int


def _automations(*, deleted: bool | None = False) -> Select[Any]:
    query = (
        select(
            automations.c.id,
            automations.c.name,
            automations.c.entity_id,
            entities.c.name,
            automations.c.webhook_id,
            webhooks.c.name,
            webhooks.c.entity_id,
            automations.c.definition,
            automations.c.epoch,
            automations.c.revision,
            automations.c.created_at,
            automations.c.updated_at,
            automations.c.unmatched_at,
            automations.c.unmatched_reason,
            automations.c.ignored_at,
            automations.c.ignored_sample,
        )
        .join(entities, entities.c.id == automations.c.entity_id)
        .outerjoin(webhooks, webhooks.c.id == automations.c.webhook_id)
    )
    if deleted is None:
        return query
    return query.where(automations.c.deleted_at.is_not(None) if deleted else automations.c.deleted_at.is_(None))


def _of_entity(entity_id: int) -> Select[Any]:
    return _automations().where(automations.c.entity_id == entity_id)


def find_automation(
    connection: Connection, entity_id: int, *, automation_id: int | None = None, name: str | None = None
) -> StoredAutomation | None:
    """The entity's automation of this id, or else of this name."""

    def find() -> StoredAutomation | None:
        wanted = automations.c.id == automation_id if automation_id is not None else automations.c.name == name
        row = connection.execute(_of_entity(entity_id).where(wanted)).first()
        return None if row is None else StoredAutomation(*row)

    return recalled(connection, ("automation", entity_id, automation_id, name), find)


def find_deleted(connection: Connection, entity_id: int, automation_id: int) -> StoredAutomation | None:
    """The entity's deleted automation of this id, as it was; it was deleted at its `updated_at`."""
    query = _automations(deleted=True).where(automations.c.entity_id == entity_id, automations.c.id == automation_id)
    row = connection.execute(query).first()
    return None if row is None else StoredAutomation(*row)


def concerned_by(
    connection: Connection, entity_id: int, event_type: str, *, after: int, limit: int
) -> list[tuple[StoredAutomation, bool]]:
    """The entity's automations that are about an event type, or were about another before an edit, by their ids.

    Each comes with whether it is deleted.
    """
    mine = (automations.c.entity_id == entity_id) & (automations.c.id > after)
    edited = select(kept_revisions.c.target_id).where(
        kept_revisions.c.kind == RevisionKind.AUTOMATION,
        kept_revisions.c.entity_id == entity_id,
        cast(kept_revisions.c.changed, Text).like('%"event"%'),
    )
    numbers = select(automations.c.id).where(
        mine, (automations.c.event_type == event_type) | automations.c.id.in_(edited)
    )
    page = numbers.order_by(automations.c.id).limit(limit).subquery()  # only the numbers are put in order by SQL
    query = _automations(deleted=None).add_columns(automations.c.deleted_at.is_not(None))
    rows = connection.execute(query.where(automations.c.id.in_(select(page.c.id))))
    found = [(StoredAutomation(*row[:-1]), bool(row[-1])) for row in rows]
    return sorted(found, key=lambda one: one[0].id)


def automations_of_all(
    connection: Connection, *, automation_id: int | None = None, name: str | None = None
) -> list[StoredAutomation]:
    """The automations of all entities with this id, or, without an id, with this name, by their entities' names."""
    wanted = automations.c.id == automation_id if automation_id is not None else automations.c.name == name
    query = _automations().where(wanted).order_by(entities.c.name, automations.c.id)
    return [StoredAutomation(*row) for row in connection.execute(query)]


def many_automations(
    connection: Connection, entity_id: int, *, ids: Collection[int] = (), names: Collection[str] = ()
) -> list[StoredAutomation]:
    """The entity's automations that have one of these ids or names."""
    wanted = among(connection, automations.c.id, ids) | among(connection, automations.c.name, names)
    return [StoredAutomation(*row) for row in connection.execute(_of_entity(entity_id).where(wanted))]


def find_by_name_or_id(connection: Connection, entity_id: int, name_or_id: str) -> StoredAutomation | None:
    """The entity's automation of this public id, or else of this name."""
    number = decode_id(IdKind.AUTOMATION, name_or_id)
    stored = None if number is None else find_automation(connection, entity_id, automation_id=number)
    return stored or find_automation(connection, entity_id, name=name_or_id)


def automation_names(connection: Connection, entity_id: int, *, limit: int) -> list[tuple[int, str]]:
    """The ids and names of the entity's automations, by their names."""
    mine = automations.c.entity_id == entity_id, automations.c.deleted_at.is_(None)
    query = select(automations.c.id, automations.c.name).where(*mine).order_by(automations.c.name).limit(limit)
    return [(row[0], row[1]) for row in connection.execute(query)]


def list_automations(connection: Connection, entity_id: int, *, after: int, limit: int) -> list[StoredAutomation]:
    """The entity's automations in the order of their ids."""
    query = _of_entity(entity_id).where(automations.c.id > after).order_by(automations.c.id).limit(limit)
    return [StoredAutomation(*row) for row in connection.execute(query)]


def read_automations(
    connection: Connection, entity_id: int, *, after: int = 0, project: str | None = None, most: int | None = None
) -> Iterator[StoredAutomation]:
    """The entity's automations, or those that watch a project or in it, in the order of their ids.

    They are read a few at a time as they are drawn; `most` is how many will be drawn at most. Only their numbers are
    put in order: SQLite would sort whole rows, with their definitions, in memory.
    """
    numbers = select(automations.c.id).where(
        automations.c.entity_id == entity_id, automations.c.deleted_at.is_(None), automations.c.id > after
    )
    if project is not None:
        numbers = numbers.where(automations.c.scope_project == project)
    wanted = list(connection.scalars(numbers.order_by(automations.c.id).limit(most)))
    for begin in range(0, len(wanted), _ROWS_READ):
        few = wanted[begin : begin + _ROWS_READ]
        rows = connection.execute(_automations().where(among(connection, automations.c.id, few)))
        yield from sorted((StoredAutomation(*row) for row in rows), key=lambda stored: stored.id)


def automations_of_webhook(connection: Connection, webhook_id: int) -> list[StoredAutomation]:
    """The automations of all entities that call a webhook, in the order of their names."""
    return automations_of_webhooks(connection, [webhook_id])[webhook_id]


def automations_of_webhooks(
    connection: Connection, webhook_ids: Collection[int]
) -> defaultdict[int, list[StoredAutomation]]:
    """The automations that call each of these webhooks, by webhook, in the order of their names."""
    query = _automations().where(among(connection, automations.c.webhook_id, webhook_ids))
    of: defaultdict[int, list[StoredAutomation]] = defaultdict(list)
    for row in connection.execute(query.order_by(automations.c.name, automations.c.id)):
        of[row.webhook_id].append(StoredAutomation(*row))
    return of


def insert_automation(
    connection: Connection,
    entity_id: int,
    fields: AutomationFields,
    *,
    revision: int,
    now: datetime,
    by: str | None = None,
) -> int:
    """Store a new automation.

    Raises:
        sqlalchemy.exc.IntegrityError: when the entity has an automation of this name.
    """
    return insert_automations(connection, entity_id, [(fields, revision)], now=now, by=by)[0]


def insert_automations(
    connection: Connection,
    entity_id: int,
    new: Sequence[tuple[AutomationFields, int]],
    *,
    now: datetime,
    by: str | None = None,
) -> list[int]:
    """Store new automations, each under its own revision; returns their ids in the same order.

    `by` is who makes them, here and below; None stands for Hookline itself.
    """
    if not new:
        return []
    times = {"created_at": now, "updated_at": now}
    rows = [{"entity_id": entity_id, "revision": revision, **times, **_columns(fields)} for fields, revision in new]
    made = insert(automations).returning(automations.c.id, sort_by_parameter_order=True)
    numbers = list(connection.scalars(made, rows))
    edits = [
        created(number, entity_id, revision, content_of(fields))
        for number, (fields, revision) in zip(numbers, new, strict=True)
    ]
    keep_revisions(connection, RevisionKind.AUTOMATION, edits, by=by, now=now)
    return numbers


def update_automations(
    connection: Connection,
    edits: Sequence[tuple[StoredAutomation, AutomationFields, int]],
    *,
    now: datetime,
    by: str | None = None,
) -> None:
    """Write edits, each as the automation as it was, its new columns and its revision. A deleted one lives again."""
    rows = [
        {"of": before.id, "revision": revision, "updated_at": now, "deleted_at": None, **_columns(fields)}
        for before, fields, revision in edits
    ]
    if rows:
        connection.execute(update(automations).where(automations.c.id == bindparam("of")), rows)
    kept = [_edited(before, RevisionChange.UPDATE, content_of(fields), revision) for before, fields, revision in edits]
    keep_revisions(connection, RevisionKind.AUTOMATION, kept, by=by, now=now)


def delete_automation(
    connection: Connection, stored: StoredAutomation, *, revision: int, now: datetime, by: str | None = None
) -> None:
    """Mark an automation as deleted; its deliveries can still name it."""
    values = {"deleted_at": now, "updated_at": now, "revision": revision}
    connection.execute(update(automations).where(automations.c.id == stored.id).values(values))
    edit = _edited(stored, RevisionChange.DELETE, content_of(stored), revision)
    keep_revisions(connection, RevisionKind.AUTOMATION, [edit], by=by, now=now)


def content_of(automation: StoredAutomation | AutomationFields) -> dict[str, Any]:
    """What a revision keeps of an automation: the members of its definition, and what is stored beside it."""
    return {**automation.definition, "epoch": automation.epoch, "webhook_id": automation.webhook_id}


def _edited(before: StoredAutomation, change: RevisionChange, content: dict[str, Any], revision: int) -> Edited:
    return edited(before, content_of(before), change, content, revision)


def _silent_ms(definition: dict[str, Any]) -> int | None:
    silence = definition.get("silent_for")
    return None if silence is None else round(parse_duration(silence).total_seconds() * 1000)


def _columns(fields: AutomationFields) -> dict[str, Any]:
    return {
        "name": fields.name,
        "enabled": fields.enabled,
        "event_type": fields.event_type,
        "scope_project": fields.scope_project,
        "scope_collection": fields.scope_collection,
        "webhook_id": fields.webhook_id,
        "definition": fields.definition,
        "epoch": fields.epoch,
        "unmatched_at": None,
        "unmatched_reason": None,
        "ignored_at": None,
        "ignored_sample": None,
        "silent_ms": _silent_ms(fields.definition),
        "weight_bytes": weight_bytes(fields.definition),
    }


def set_enabled(
    connection: Connection,
    stored: StoredAutomation,
    *,
    enabled: bool,
    revision: int,
    now: datetime,
    by: str | None = None,
) -> None:
    """Enable or disable an automation. It gets a new epoch, so metric windows and cooldowns start anew."""
    values = {
        "enabled": enabled,
        "definition": {**stored.definition, "enabled": enabled},
        "epoch": revision,
        "revision": revision,
        "updated_at": now,
    }
    connection.execute(update(automations).where(automations.c.id == stored.id).values(values))
    content = {**content_of(stored), "enabled": enabled, "epoch": revision}
    edit = _edited(stored, RevisionChange.UPDATE, content, revision)
    keep_revisions(connection, RevisionKind.AUTOMATION, [edit], by=by, now=now)


def every_automation(connection: Connection, entity_id: int | None) -> list[StoredAutomation]:
    """The automations of one entity, or of all, by the names of entity and automation."""
    query = (_automations() if entity_id is None else _of_entity(entity_id)).order_by(
        entities.c.name, automations.c.name, automations.c.id
    )
    return [StoredAutomation(*row) for row in connection.execute(query)]
