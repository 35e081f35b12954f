"""The states of webhooks for operators: what waits for each, and whether it may be sent; pausing and resuming.

It reads all entities; the caller decides who may see what.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, func, select, update

from shared.domain.delivery.circuits import Circuit, CircuitState
from shared.storage.delivery.circuits import circuit_columns, circuit_of
from shared.storage.schema.tables import DEAD, deliveries, entities, pending_deliveries, webhooks


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookState:
    """One webhook that is not deleted, and the deliveries that wait for it."""

    id: int
    kind: str
    entity_id: int
    entity: str
    name: str
    url: str
    enabled: bool
    paused: bool
    disabled_reason: str | None
    failing_since: datetime | None
    circuit: Circuit
    slow: bool
    pending: int
    due: int
    in_flight: int
    """Claimed under a lease that holds."""
    oldest_due_at: datetime | None
    updated_at: datetime

    def word(self, now: datetime) -> str:
        """Its state in a word or two; of several reasons why nothing is sent the strongest."""
        if not self.enabled:
            return "disabled"
        if self.paused:
            return "paused"
        state = self.circuit.state(now)
        return "active" if state is CircuitState.CLOSED else f"circuit {state.replace('_', ' ')}"


@dataclass(frozen=True, slots=True)
class WebhookName:
    """The names of a webhook and of its entity."""

    id: int
    kind: str
    entity: str
    name: str


def webhook_names(
    connection: Connection,
    *,
    ids: Collection[int] | None = None,
    name: str | None = None,
    entity_id: int | None = None,
) -> list[WebhookName]:
    """The webhooks and Slack integrations with one of these ids or this name, of one entity or of all."""
    query = (
        select(webhooks.c.id, webhooks.c.kind, entities.c.name, webhooks.c.name)
        .join(entities, entities.c.id == webhooks.c.entity_id)
        .where(webhooks.c.deleted_at.is_(None))
        .order_by(entities.c.name, webhooks.c.name)
    )
    if ids is not None:
        query = query.where(webhooks.c.id.in_(ids))
    if name is not None:
        query = query.where(webhooks.c.name == name)
    if entity_id is not None:
        query = query.where(webhooks.c.entity_id == entity_id)
    return [WebhookName(*row) for row in connection.execute(query)]


def webhook_states(
    connection: Connection, now: datetime, *, entity_id: int | None = None, webhook_id: int | None = None
) -> list[WebhookState]:
    """The webhooks and Slack integrations of one entity or of all, by the names of entity and webhook.

    Counting takes time in proportion to the backlog, not to the history.
    """
    query = _states(now, webhook_id).where(webhooks.c.deleted_at.is_(None)).order_by(entities.c.name, webhooks.c.name)
    if entity_id is not None:
        query = query.where(webhooks.c.entity_id == entity_id)
    if webhook_id is not None:
        query = query.where(webhooks.c.id == webhook_id)
    return [_state(row) for row in connection.execute(query)]


def _states(now: datetime, webhook_id: int | None) -> Select[Any]:
    due = pending_deliveries.c.next_attempt_at <= now
    held = and_(pending_deliveries.c.claim.is_not(None), ~due)
    waiting = select(
        pending_deliveries.c.webhook_id,
        func.count().label("pending"),
        func.count().filter(due).label("due"),
        func.count().filter(held).label("in_flight"),
        func.min(pending_deliveries.c.next_attempt_at).filter(due).label("oldest_due_at"),
    ).group_by(pending_deliveries.c.webhook_id)
    if webhook_id is not None:
        waiting = waiting.where(pending_deliveries.c.webhook_id == webhook_id)
    counted = waiting.subquery()
    return (
        select(
            webhooks,
            entities.c.name.label("entity"),
            func.coalesce(counted.c.pending, 0).label("pending"),
            func.coalesce(counted.c.due, 0).label("due"),
            func.coalesce(counted.c.in_flight, 0).label("in_flight"),
            counted.c.oldest_due_at,
        )
        .join(entities, entities.c.id == webhooks.c.entity_id)
        .outerjoin(counted, counted.c.webhook_id == webhooks.c.id)
    )


def _state(row: Any) -> WebhookState:
    return WebhookState(
        id=row.id,
        kind=row.kind,
        entity_id=row.entity_id,
        entity=row.entity,
        name=row.name,
        url=row.url,
        enabled=row.enabled,
        paused=row.paused,
        disabled_reason=row.disabled_reason,
        failing_since=row.failing_since,
        circuit=circuit_of(row),
        slow=row.slow,
        pending=row.pending,
        due=row.due,
        in_flight=row.in_flight,
        oldest_due_at=row.oldest_due_at,
        updated_at=row.updated_at,
    )


def count_dead(connection: Connection, webhook_id: int, entity_id: int) -> int:
    """The number of a webhook's dead letters, as long as they are kept."""
    query = select(func.count()).where(
        deliveries.c.entity_id == entity_id,
        deliveries.c.webhook_id == webhook_id,
        deliveries.c.unfulfilled.in_(DEAD),
    )
    return int(connection.execute(query).scalar_one())


def count_dead_by_webhook(connection: Connection, entity_id: int | None = None) -> dict[int, int]:
    """The number of dead letters of each webhook that has any, of one entity or of all."""
    query = select(deliveries.c.webhook_id, func.count()).where(deliveries.c.unfulfilled.in_(DEAD))
    if entity_id is not None:
        query = query.where(deliveries.c.entity_id == entity_id)
    return {row[0]: row[1] for row in connection.execute(query.group_by(deliveries.c.webhook_id))}


def pause_webhook(connection: Connection, webhook_id: int, *, revision: int, now: datetime) -> None:
    """Pause a webhook: no worker claims a delivery after this commits. Requests in flight are finished."""
    _write(connection, webhook_id, {"paused": True, "revision": revision, "updated_at": now})


def resume_webhook(connection: Connection, webhook_id: int, *, revision: int, now: datetime) -> None:
    """Send again, whether it was paused, disabled, or behind an open circuit; its failures are reset."""
    values = {
        "paused": False,
        "enabled": True,
        "disabled_reason": None,
        "failing_since": None,
        "revision": revision,
        "updated_at": now,
        "resumed_at": now,
        **circuit_columns(Circuit()),
    }
    _write(connection, webhook_id, values)


def _write(connection: Connection, webhook_id: int, values: dict[str, Any]) -> None:
    connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(values))
