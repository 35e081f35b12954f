"""The backlog: webhooks with due deliveries, and the counts that gauges show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, or_, select, text

from shared.storage.schema.tables import (
    DEAD,
    attempts,
    deliveries,
    pending_deliveries,
    webhooks,
)


@dataclass(frozen=True, slots=True)
class DueWebhook:
    """A webhook with due deliveries, and whether it is in the slow lane."""

    id: int
    slow: bool


@dataclass(frozen=True, slots=True)
class QueueState:
    """The counts that gauges show."""

    pending: int
    due: int
    """Due, and its webhook takes requests."""
    held: int
    """Due, and its webhook is disabled or paused, or its circuit is open."""
    dead: int
    oldest_due_seconds: float
    webhooks_disabled: int
    circuits_open: int


def due_webhooks(connection: Connection, now: datetime) -> list[DueWebhook]:
    """The webhooks that have due deliveries and take requests. Costs one index look-up for each webhook."""
    rows = connection.execute(select(webhooks.c.id, webhooks.c.slow).where(_open_to_requests(now), _has_due(now)))
    return [DueWebhook(row.id, row.slow) for row in rows]


def _has_due(now: datetime) -> ColumnElement[bool]:
    return exists().where(
        and_(pending_deliveries.c.webhook_id == webhooks.c.id, pending_deliveries.c.next_attempt_at <= now)
    )


def _open_to_requests(now: datetime) -> ColumnElement[bool]:
    """A condition on webhooks: enabled, neither paused nor deleted, and the circuit is closed or due for a probe."""
    circuit_lets = or_(webhooks.c.circuit_opened_at.is_(None), webhooks.c.circuit_probe_at <= now)
    return and_(webhooks.c.enabled, ~webhooks.c.paused, webhooks.c.deleted_at.is_(None), circuit_lets)


def queue_state(connection: Connection, now: datetime) -> QueueState:
    """Count what the gauges show, in time proportional to the backlog and the dead letters, not to the history."""
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


def oldest_prompt_seconds(connection: Connection, now: datetime) -> float:
    """How long the delivery that waits longest has been due, of those that nothing but Hookline holds up; 0 for none.

    Those to webhooks whose circuit is closed and that have no limit of their own. Costs one index look-up for each
    webhook.
    """
    due = pending_deliveries.c.next_attempt_at
    oldest = select(func.min(due)).where(pending_deliveries.c.webhook_id == webhooks.c.id, due <= now)
    rows = connection.execute(
        select(webhooks.c.policy, oldest.scalar_subquery().label("oldest")).where(
            _open_to_requests(now), webhooks.c.circuit_opened_at.is_(None), _has_due(now)
        )
    )
    waiting = [row.oldest for row in rows if not any(row.policy.get(limit) for limit in ("rate_limit", "concurrency"))]
    return max(0.0, (now - min(waiting)).total_seconds()) if waiting else 0.0


def count_recently_disabled(connection: Connection, since: datetime) -> int:
    """Webhooks that Hookline disabled since then, and that still are."""
    query = select(func.count()).where(
        webhooks.c.deleted_at.is_(None),
        ~webhooks.c.enabled,
        webhooks.c.disabled_reason.is_not(None),
        webhooks.c.updated_at >= since,
    )
    return int(connection.execute(query.select_from(webhooks)).scalar_one())


COUNTED_DEAD = 10_000
"""How many of the newest dead letters are looked at for those of the last minutes."""


def count_overdue(connection: Connection, now: datetime, *, for_seconds: float) -> int:
    """Deliveries that have been due for so long although their webhooks take requests."""
    overdue = pending_deliveries.c.next_attempt_at <= now - timedelta(seconds=for_seconds)
    query = (
        select(func.count())
        .select_from(pending_deliveries.join(webhooks, webhooks.c.id == pending_deliveries.c.webhook_id))
        .where(overdue, _open_to_requests(now))
    )
    return int(connection.execute(query).scalar_one())


def count_recent_dead(connection: Connection, since: datetime) -> int:
    """Deliveries that became dead letters since then, among the `COUNTED_DEAD` that were created last."""
    return int(connection.execute(recent_dead(since)).scalar_one())


def recent_dead(since: datetime) -> Select[int]:
    """The query of `count_recent_dead`, for those who count more at once."""
    newest = (
        select(deliveries.c.finished_at)
        .where(deliveries.c.unfulfilled.in_(DEAD))
        .order_by(deliveries.c.seq.desc())
        .limit(COUNTED_DEAD)
        .subquery()
    )
    return select(func.count()).select_from(newest).where(newest.c.finished_at >= since)


COUNTED_FAULTS = 10_000
"""Where counting ends."""


def count_internal(connection: Connection, now: datetime, *, within_seconds: Sequence[int]) -> list[int]:
    """The attempts of each of these last times that failed inside Hookline, up to `COUNTED_FAULTS` in all."""
    return list(connection.execute(recent_internal(*(now - timedelta(seconds=one) for one in within_seconds))).one())


def recent_internal(*since: datetime) -> Select[*tuple[Any, ...]]:
    """The query of `count_internal`, a column for each moment, for those who count more at once."""
    # As text: only a statement that says so reads the index of such attempts.
    newest = (
        select(attempts.c.started_at)
        .where(text("outcome = 'internal'"), attempts.c.started_at >= min(since))
        .order_by(attempts.c.started_at.desc())
        .limit(COUNTED_FAULTS)
        .subquery()
    )
    return select(*(func.count().filter(newest.c.started_at >= one) for one in since)).select_from(newest)
