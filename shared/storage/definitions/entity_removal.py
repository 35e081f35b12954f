"""Removing an entity that was never used; one with a history stays, since the history names it."""

from __future__ import annotations

from sqlalchemy import Connection, Table, delete, func, select, update

from shared.storage.schema.tables import (
    audit_log,
    automations,
    deliveries,
    entities,
    secrets,
    sources,
    users,
    webhooks,
)

_HISTORY: dict[str, Table] = {
    "webhooks or Slack integrations": webhooks,
    "automations": automations,
    "secrets": secrets,
    "sources": sources,
    "deliveries": deliveries,
}


def uses_of_entity(connection: Connection, entity_id: int) -> list[str]:
    """The kinds of things that an entity has or had, in words; members, keys, projects and collections do not count."""
    found = [words for words, table in _HISTORY.items() if _has(connection, table, entity_id)]
    below = connection.scalars(
        select(entities.c.name).where(entities.c.parent_id == entity_id).order_by(entities.c.name)
    )
    return [*found, *(f"the entity {name!r} below it" for name in below)]


def _has(connection: Connection, table: Table, entity_id: int) -> bool:
    query = select(table.c.entity_id).where(table.c.entity_id == entity_id).limit(1)
    return connection.execute(query).first() is not None


def delete_entity(connection: Connection, entity_id: int, name: str) -> None:
    """Delete an entity that nothing uses, with its members' roles, its service users, projects and collections.

    Its rows of the audit log become the instance's, since SQLite may give its number to another entity.
    """
    prefix = f"{name}/"
    connection.execute(delete(users).where(func.substr(users.c.name, 1, len(prefix)) == prefix))
    connection.execute(update(audit_log).where(audit_log.c.entity_id == entity_id).values(entity_id=None))
    connection.execute(delete(entities).where(entities.c.id == entity_id))
