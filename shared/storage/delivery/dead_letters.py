"""Dead letters of the whole instance by the webhooks that they were for, for whoever runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select, union_all

from shared.storage.delivery.delivery_filter import DeliveryStatus
from shared.storage.schema.tables import deliveries, entities, webhooks

FINAL = (DeliveryStatus.DEAD, DeliveryStatus.REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterCount:
    """Dead letters of one webhook or Slack integration; those of deleted ones have its number still."""

    entity: str
    webhook_id: int
    webhook_kind: str | None
    webhook_name: str | None
    """None when it is deleted."""
    dead: int
    refused: int
    newest_at: datetime


def count_dead_letters(connection: Connection, *, counted: int, limit: int) -> Sequence[DeadLetterCount]:
    """The webhooks with most dead letters among the newest `counted` of each status, `limit` of them at most."""
    newest = union_all(
        *(
            select(deliveries.c.entity_id, deliveries.c.webhook_id, deliveries.c.seq, deliveries.c.unfulfilled)
            .where(deliveries.c.unfulfilled == status, deliveries.c.webhook_id.is_not(None))
            .order_by(deliveries.c.seq.desc())
            .limit(counted)
            .subquery()
            .select()
            for status in FINAL
        )
    ).subquery()
    of_status = [func.count().filter(newest.c.unfulfilled == status) for status in FINAL]
    grouped = (
        select(
            newest.c.entity_id,
            newest.c.webhook_id,
            of_status[0].label("dead"),
            of_status[1].label("refused"),
            func.max(newest.c.seq).label("newest"),
        )
        .group_by(newest.c.entity_id, newest.c.webhook_id)
        .order_by(func.count().desc(), func.max(newest.c.seq).desc())
        .limit(limit)
        .subquery()
    )
    query = (
        select(
            entities.c.name.label("entity"),
            grouped.c.webhook_id,
            webhooks.c.kind.label("webhook_kind"),
            webhooks.c.name.label("webhook_name"),
            webhooks.c.deleted_at,
            grouped.c.dead,
            grouped.c.refused,
            deliveries.c.created_at.label("newest_at"),
        )
        .join(entities, entities.c.id == grouped.c.entity_id)
        .join(deliveries, deliveries.c.seq == grouped.c.newest)
        .outerjoin(webhooks, webhooks.c.id == grouped.c.webhook_id)
        .order_by((grouped.c.dead + grouped.c.refused).desc(), grouped.c.newest.desc())
    )
    return [
        DeadLetterCount(
            entity=row.entity,
            webhook_id=row.webhook_id,
            webhook_kind=row.webhook_kind,
            webhook_name=None if row.deleted_at else row.webhook_name,
            dead=row.dead,
            refused=row.refused,
            newest_at=row.newest_at,
        )
        for row in connection.execute(query)
    ]
