"""Webhooks of an entity to which nothing is sent: disabled by Hookline, or behind a circuit that has long been open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, or_, select

from shared.storage.schema.tables import webhooks


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentWebhook:
    """A webhook, or a Slack integration, that gets nothing."""

    id: int
    kind: str
    name: str
    disabled_reason: str | None
    """Why it is disabled; None where its circuit is open."""
    since: datetime


def silent_webhooks(
    connection: Connection, entity_id: int, *, opened_before: datetime, limit: int
) -> list[SilentWebhook]:
    """The entity's first such webhooks, those that were disabled first."""
    columns = webhooks.c
    is_disabled = and_(columns.enabled.is_(False), columns.disabled_reason.is_not(None))
    is_open = and_(columns.enabled, columns.paused.is_(False), columns.circuit_opened_at <= opened_before)
    query = (
        select(
            columns.id,
            columns.kind,
            columns.name,
            columns.enabled,
            columns.disabled_reason,
            columns.updated_at,
            columns.circuit_opened_at,
        )
        .where(columns.entity_id == entity_id, columns.deleted_at.is_(None), or_(is_disabled, is_open))
        .order_by(columns.enabled, columns.id)
        .limit(limit)
    )
    return [
        SilentWebhook(
            id=row.id,
            kind=row.kind,
            name=row.name,
            disabled_reason=None if row.enabled else row.disabled_reason,
            since=row.circuit_opened_at if row.enabled else row.updated_at,
        )
        for row in connection.execute(query)
    ]
