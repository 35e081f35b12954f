"""Notices as rows: inserted in the transaction that makes them true, deleted once they are in the streams."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row, Select, delete, insert, select

from shared.domain.delivery.circuits import CircuitState
from shared.domain.delivery.notices import (
    About,
    AboutAutomation,
    DeadLetter,
    automation_unmatched,
    circuit_changed,
    dead_letter,
    webhook_disabled,
)
from shared.domain.events.types import NOTICE_TYPES, EventType
from shared.domain.ids import IdKind, encode_id
from shared.storage.database.bulk import among
from shared.storage.schema.tables import DEAD, automations, deliveries, entities, notices, webhooks

_NOTICE_TYPE_NAMES = tuple(str(event_type) for event_type in NOTICE_TYPES)


@dataclass(frozen=True, slots=True)
class WaitingNotice:
    """A notice that may not be in its stream yet, as the JSON to append."""

    id: int
    event: bytes


def notify_disabled(connection: Connection, webhook_id: int, *, reason: str, now: datetime) -> None:
    """Insert the notice that a webhook was disabled, whatever was being sent to it."""
    row = connection.execute(_webhook(webhook_id)).one()
    insert_notices(
        connection, [webhook_disabled(_about(row), reason=reason, failing_since=row.failing_since, now=now)], now
    )


def notify_transition(
    connection: Connection, webhook_id: int, state: CircuitState, *, seqs: Collection[int], reason: str, now: datetime
) -> None:
    """Insert the notice that a webhook's circuit was opened or closed by the answers to these deliveries.

    No notice is inserted if all of them are deliveries of notices: it would cause the next one.
    """
    ordinary = select(deliveries.c.seq).where(
        among(connection, deliveries.c.seq, seqs), deliveries.c.event_type.not_in(_NOTICE_TYPE_NAMES)
    )
    if connection.execute(ordinary.limit(1)).first() is None:
        return
    row = connection.execute(_webhook(webhook_id)).one()
    insert_notices(connection, [circuit_changed(_about(row), state=state, reason=reason, now=now)], now)


def notify_dead_letters(connection: Connection, ids: Collection[str], now: datetime) -> None:
    """Insert notices of these deliveries that became dead letters, where an automation watches for them.

    Without such an automation nothing is written: an endpoint that refuses everything would make a notice of each
    delivery. Deliveries of notices cause none.
    """
    if not ids or not (watching := _watching_entities(connection)):
        return
    dead = connection.execute(_dead_letters().where(among(connection, deliveries.c.id, ids))).all()
    watched = {number: _is_watched(connection, number, watching) for number in {row.entity_id for row in dead}}
    insert_notices(connection, (_dead_letter(row, now) for row in dead if watched[row.entity_id]), now)


def notify_unmatched(connection: Connection, automation_id: int, *, reason: str, now: datetime) -> None:
    """Insert the notice that an automation could not be matched."""
    query = (
        select(entities.c.name.label("entity"), automations.c.name)
        .join(entities, entities.c.id == automations.c.entity_id)
        .where(automations.c.id == automation_id)
    )
    row = connection.execute(query).one()
    about = AboutAutomation(row.entity, encode_id(IdKind.AUTOMATION, automation_id), row.name)
    insert_notices(connection, [automation_unmatched(about, reason=reason, now=now)], now)


def waiting_notices(connection: Connection, limit: int) -> list[WaitingNotice]:
    """The oldest notices, up to `limit`."""
    rows = connection.execute(select(notices.c.id, notices.c.event).order_by(notices.c.id).limit(limit))
    return [WaitingNotice(row.id, row.event.encode()) for row in rows]


def delete_notices(connection: Connection, ids: Sequence[int]) -> None:
    """Delete notices once they are in their streams."""
    connection.execute(delete(notices).where(among(connection, notices.c.id, ids)))


def insert_notices(connection: Connection, events: Iterable[dict[str, Any]], now: datetime) -> None:
    """Insert events of Hookline's own; the dispatcher moves them to their streams."""
    rows = [{"event": orjson.dumps(event).decode(), "created_at": now} for event in events]
    if rows:
        connection.execute(insert(notices), rows)


def _webhook(webhook_id: int) -> Select[Any]:
    return (
        select(
            entities.c.name.label("entity"),
            webhooks.c.id.label("webhook_id"),
            webhooks.c.kind.label("webhook_kind"),
            webhooks.c.name.label("webhook_name"),
            webhooks.c.failing_since,
        )
        .join(entities, entities.c.id == webhooks.c.entity_id)
        .where(webhooks.c.id == webhook_id)
    )


def _about(row: Row[Any]) -> About:
    kind = IdKind.SLACK if row.webhook_kind == "slack" else IdKind.WEBHOOK
    return About(row.entity, encode_id(kind, row.webhook_id), row.webhook_name)


def _watching_entities(connection: Connection) -> set[int]:
    """The entities with an automation on dead letters."""
    return set(
        connection.scalars(
            select(automations.c.entity_id)
            .where(
                automations.c.event_type == str(EventType.DEAD_LETTER),
                automations.c.enabled,
                automations.c.deleted_at.is_(None),
            )
            .distinct()
        )
    )


def _is_watched(connection: Connection, entity_id: int, watching: Collection[int]) -> bool:
    """Whether the entity or an organization above it is among those that watch."""
    mine = select(entities.c.id, entities.c.parent_id).where(entities.c.id == entity_id)
    above = mine.cte("above", recursive=True)
    # UNION without ALL drops duplicates, so the recursion ends even if entities form a ring.
    above = above.union(select(entities.c.id, entities.c.parent_id).join(above, entities.c.id == above.c.parent_id))
    return not set(connection.scalars(select(above.c.id))).isdisjoint(watching)


def _dead_letters() -> Select[Any]:
    return (
        select(
            deliveries.c.entity_id,
            deliveries.c.id,
            deliveries.c.status,
            deliveries.c.reason,
            deliveries.c.attempts,
            deliveries.c.event_type,
            deliveries.c.event_source,
            deliveries.c.event_id,
            automations.c.name.label("automation"),
            entities.c.name.label("entity"),
            webhooks.c.id.label("webhook_id"),
            webhooks.c.kind.label("webhook_kind"),
            webhooks.c.name.label("webhook_name"),
        )
        .join(entities, entities.c.id == deliveries.c.entity_id)
        .join(webhooks, webhooks.c.id == deliveries.c.webhook_id)
        .outerjoin(automations, automations.c.id == deliveries.c.automation_id)
        .where(deliveries.c.status.in_(DEAD), deliveries.c.event_type.not_in(_NOTICE_TYPE_NAMES))
        .order_by(deliveries.c.seq)
    )


def _dead_letter(row: Row[Any], now: datetime) -> dict[str, Any]:
    dead = DeadLetter(
        id=row.id,
        status=row.status,
        attempts=row.attempts,
        automation=row.automation or "",
        event_type=row.event_type,
        event_source=row.event_source,
        event_id=row.event_id,
    )
    return dead_letter(_about(row), dead, reason=row.reason or "", now=now)
