"""An entity at a glance: how much it has, what is in trouble, and what was not delivered of late."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, ScalarSelect, case, func, or_, select

from shared.domain.delivery.circuits import Circuit
from shared.storage.delivery.circuits import circuit_of
from shared.storage.schema.tables import automations, deliveries, secrets, webhooks

MAX_COUNTED = 1000
"""So many deliveries of one status are counted; more stands for that many or more."""
UNFULFILLED = ("dead", "refused", "skipped")
"""The statuses of what was not delivered."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """Deliveries of one status."""

    lately: int
    """How many were created since the time that was asked for, up to `MAX_COUNTED` and one."""
    newest_at: datetime | None
    """When the newest was created, however long ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """An entity's numbers. Slack integrations count as webhooks."""

    automations: int
    automations_on: int
    webhooks: int
    webhooks_in_trouble: int
    has_secret: bool
    undelivered: dict[str, Undelivered]
    """By status: each of `UNFULFILLED`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TroubledWebhook:
    """A webhook or Slack integration that is off, paused, behind a circuit, or only fails."""

    id: int
    kind: str
    name: str
    enabled: bool
    paused: bool
    disabled_reason: str | None
    failing_since: datetime | None
    circuit: Circuit


_TROUBLED = or_(
    webhooks.c.enabled.is_(False),
    webhooks.c.paused,
    webhooks.c.circuit_opened_at.is_not(None),
    webhooks.c.failing_since.is_not(None),
)


def take_glance(connection: Connection, entity_id: int, *, since: datetime) -> Glance:
    """Count, by one query: deliveries within bounds, definitions all."""
    rules = select(func.count()).where(automations.c.entity_id == entity_id, automations.c.deleted_at.is_(None))
    hooks = select(func.count()).where(webhooks.c.entity_id == entity_id, webhooks.c.deleted_at.is_(None))
    held = select(secrets.c.id).where(secrets.c.entity_id == entity_id).limit(1)
    columns: list[ScalarSelect[Any]] = [
        rules.scalar_subquery(),
        rules.where(automations.c.enabled).scalar_subquery(),
        hooks.scalar_subquery(),
        hooks.where(_TROUBLED).scalar_subquery(),
        held.scalar_subquery(),
    ]
    for status in UNFULFILLED:
        newest = (
            select(deliveries.c.created_at)
            .where(deliveries.c.entity_id == entity_id, deliveries.c.unfulfilled == status)
            .order_by(deliveries.c.seq.desc())
        )
        some = newest.limit(MAX_COUNTED + 1).subquery()
        columns.append(select(func.count()).select_from(some).where(some.c.created_at >= since).scalar_subquery())
        columns.append(newest.limit(1).scalar_subquery())
    rules_all, rules_on, hooks_all, hooks_troubled, secret, *rest = connection.execute(select(*columns)).one()
    return Glance(
        automations=rules_all,
        automations_on=rules_on,
        webhooks=hooks_all,
        webhooks_in_trouble=hooks_troubled,
        has_secret=secret is not None,
        undelivered={status: Undelivered(*rest[2 * place : 2 * place + 2]) for place, status in enumerate(UNFULFILLED)},
    )


def troubled_webhooks(connection: Connection, entity_id: int, *, limit: int) -> list[TroubledWebhook]:
    """The first of an entity's webhooks in trouble: those that Hookline disabled, then those that it can't reach."""
    columns = webhooks.c
    rank = case(
        (columns.enabled.is_(False) & columns.disabled_reason.is_not(None), 0),
        (columns.enabled.is_(False), 4),
        (columns.paused, 3),
        (columns.circuit_opened_at.is_not(None), 1),
        else_=2,
    )
    query = (
        select(webhooks)
        .where(columns.entity_id == entity_id, columns.deleted_at.is_(None), _TROUBLED)
        .order_by(rank, columns.id)
        .limit(limit)
    )
    return [
        TroubledWebhook(
            id=row.id,
            kind=row.kind,
            name=row.name,
            enabled=row.enabled,
            paused=row.paused,
            disabled_reason=row.disabled_reason,
            failing_since=row.failing_since,
            circuit=circuit_of(row),
        )
        for row in connection.execute(query)
    ]
