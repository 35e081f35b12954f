"""Who causes the load: the entities, automations and webhooks with most of the newest deliveries."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from shared.storage.schema.tables import automations, deliveries, entities, webhooks

LOOKED_AT = 10_000
"""How many of the newest deliveries are looked at: about 10 ms for the database."""
SECONDS = 60.0
SHOWN = 10
"""How many of each kind are named."""


def read_load(connection: Connection, now: datetime) -> dict[tuple[str, str], float]:
    """Deliveries a second of those with most, by kind and name: in the last minute, or among the newest if too many.

    The names of automations and webhooks begin with their entity's, and are those of now.
    """
    newest = (
        select(
            deliveries.c.entity_id,
            deliveries.c.automation_id,
            deliveries.c.webhook_id,
            deliveries.c.created_at,
        )
        .order_by(deliveries.c.seq.desc())
        .limit(LOOKED_AT)
        .subquery()
    )
    grouped = (
        select(
            newest.c.entity_id,
            newest.c.automation_id,
            newest.c.webhook_id,
            func.count().label("made"),
            func.min(newest.c.created_at).label("since"),
        )
        .where(newest.c.created_at > now - timedelta(seconds=SECONDS))
        .group_by(newest.c.entity_id, newest.c.automation_id, newest.c.webhook_id)
        .subquery()
    )
    rows = connection.execute(
        select(
            entities.c.name.label("entity"),
            automations.c.name.label("automation"),
            webhooks.c.name.label("webhook"),
            grouped.c.made,
            grouped.c.since,
        ).select_from(
            grouped.join(entities, entities.c.id == grouped.c.entity_id)
            .outerjoin(automations, automations.c.id == grouped.c.automation_id)
            .outerjoin(webhooks, webhooks.c.id == grouped.c.webhook_id)
        )
    ).all()
    counts: dict[str, Counter[str]] = {"entity": Counter(), "automation": Counter(), "webhook": Counter()}
    for row in rows:
        counts["entity"][row.entity] += row.made
        for kind in ("automation", "webhook"):
            if (name := getattr(row, kind)) is not None:
                counts[kind][f"{row.entity}/{name}"] += row.made
    all_looked_at = sum(row.made for row in rows) >= LOOKED_AT
    oldest = min((row.since for row in rows), default=now)
    seconds = max(1.0, (now - oldest).total_seconds()) if all_looked_at else SECONDS
    return {
        (kind, name): count / seconds for kind, counted in counts.items() for name, count in counted.most_common(SHOWN)
    }
