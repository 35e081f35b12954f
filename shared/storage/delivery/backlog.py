"""What waits: webhooks with due deliveries, and the counts that metrics and health show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select

from shared.storage.schema.tables import (
    DEAD,
    deliveries,
    pending_deliveries,
    webhooks,
)


@dataclass(frozen=True, slots=True)
class DueWebhook:
    """A webhook with something to send, and whether it belongs to the slow lane."""

    id: int
    slow: bool


@dataclass(frozen=True, slots=True)
class QueueState:
    """The counts that gauges show. What is due is either ready to be sent, or held while its webhook takes nothing."""

    pending: int
    due: int
    held: int
    dead: int
    oldest_due_seconds: float
    webhooks_disabled: int
    circuits_open: int


def due_webhooks(connection: Connection, now: datetime) -> list[DueWebhook]:
    """The webhooks that have due deliveries and may be sent to; one index look-up for each webhook."""
    has_due = exists().where(
        and_(pending_deliveries.c.webhook_id == webhooks.c.id, pending_deliveries.c.next_attempt_at <= now)
    )
    rows = connection.execute(select(webhooks.c.id, webhooks.c.slow).where(_open_to_requests(now), has_due))
    return [DueWebhook(row.id, row.slow) for row in rows]


def _open_to_requests(now: datetime) -> ColumnElement[bool]:
    """Webhooks that are enabled, neither paused nor deleted, and whose circuit lets something through."""
    circuit_lets = or_(webhooks.c.circuit_opened_at.is_(None), webhooks.c.circuit_probe_at <= now)
    return and_(webhooks.c.enabled, ~webhooks.c.paused, webhooks.c.deleted_at.is_(None), circuit_lets)


def queue_state(connection: Connection, now: datetime) -> QueueState:
    """What the gauges show. Counting is proportional to the work that is left and to the dead letters."""
    due = pending_deliveries.c.next_attempt_at <= now
    ready = and_(due, _open_to_requests(now))
    pending, due_count, ready_count, oldest = connection.execute(
        select(
            func.count(),
            func.count().filter(due),
            func.count().filter(ready),
            func.min(pending_deliveries.c.next_attempt_at).filter(ready),
        ).select_from(pending_deliveries.outerjoin(webhooks, webhooks.c.id == pending_deliveries.c.webhook_id))
    ).one()
    dead = connection.scalar(select(func.count()).select_from(deliveries).where(deliveries.c.unfulfilled.in_(DEAD)))
    disabled, circuits_open = connection.execute(
        select(
            func.count().filter(~webhooks.c.enabled),
            func.count().filter(webhooks.c.enabled, webhooks.c.circuit_opened_at.is_not(None)),
        ).where(webhooks.c.deleted_at.is_(None))
    ).one()
    return QueueState(
        pending=pending,
        due=ready_count,
        held=due_count - ready_count,
        dead=dead or 0,
        oldest_due_seconds=max(0.0, (now - oldest).total_seconds()) if oldest else 0.0,
        webhooks_disabled=disabled,
        circuits_open=circuits_open,
    )
