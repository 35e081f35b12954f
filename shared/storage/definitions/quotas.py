"""The quotas that entities have of their own, and what they use of all quotas."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, Text, cast, func, select, update

from shared.domain.quotas import EVENTS_PER_SECOND, Quota
from shared.storage.schema.tables import automations, entities, secrets, sources, webhooks


def read_own_limits(connection: Connection, entity_id: int) -> dict[str, int]:
    """The limits that were set for an entity, by quota."""
    return dict(connection.execute(select(entities.c.quotas).where(entities.c.id == entity_id)).scalar_one() or {})


def event_rate_limits(connection: Connection) -> dict[str, int]:
    """The most events a second of each entity that has such a limit, by name."""
    rows = connection.execute(select(entities.c.name, entities.c.quotas).where(entities.c.quotas.is_not(None)))
    limits = {row.name: (row.quotas or {}).get(EVENTS_PER_SECOND) for row in rows}
    return {name: limit for name, limit in limits.items() if limit}


def write_own_limits(connection: Connection, entity_id: int, limits: Mapping[str, int]) -> None:
    """Replace the limits that were set for an entity."""
    connection.execute(update(entities).where(entities.c.id == entity_id).values(quotas=dict(limits) or None))


def read_uses(connection: Connection, entity_id: int) -> dict[Quota, int]:
    """How much an entity uses of each quota."""
    count = func.count()
    # A weight is missing where an older version wrote the definition.
    weight = func.coalesce(automations.c.weight_bytes, func.length(cast(automations.c.definition, Text)))
    of_automations = select(count, func.coalesce(func.sum(weight), 0)).where(
        automations.c.entity_id == entity_id, automations.c.deleted_at.is_(None)
    )
    of_webhooks = select(count).where(webhooks.c.entity_id == entity_id, webhooks.c.deleted_at.is_(None))
    of_secrets = select(count).where(secrets.c.entity_id == entity_id)
    of_sources = select(count).where(sources.c.entity_id == entity_id)
    number, weight_bytes = connection.execute(of_automations).one()
    return {
        Quota.AUTOMATIONS: number,
        Quota.WEBHOOKS: connection.execute(of_webhooks).scalar_one(),
        Quota.SECRETS: connection.execute(of_secrets).scalar_one(),
        Quota.SOURCES: connection.execute(of_sources).scalar_one(),
        Quota.DEFINITION_BYTES: int(weight_bytes),
    }
