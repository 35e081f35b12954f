"""Automations for workers' caches: all of them at first, then those that changed since a revision."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from sqlalchemy import (
    Connection,
    Text,
    cast,
    select,
)

from shared.storage.database.bulk import among, chunks
from shared.storage.schema.tables import (
    automations,
    entities,
    webhook_secrets,
    webhooks,
)
from shared.storage.schema.tables import secrets as secrets_table

_ROWS_READ = 500
"""Rows in memory at a time, while a worker loads all automations."""


@dataclass(frozen=True, slots=True)
class AutomationRow:
    """An automation with what compiling it needs. One that is not `live` was disabled or deleted: drop it."""

    id: int
    entity_id: int
    entity: str
    live: bool
    event_type: str
    scope_project: str | None
    scope_collection: str | None
    definition: str
    epoch: int
    webhook_id: int | None
    grants: frozenset[str]
    has_access_token: bool


def automations_since(connection: Connection, revision: int) -> Iterator[AutomationRow]:
    """The automations that changed after a revision, one by one as they are read.

    Those whose webhook was edited are among them, since it may grant other secrets now. A negative revision stands for
    none: all automations that are live.
    """
    concerned = automations.c.revision > revision
    if revision < 0:
        concerned = automations.c.enabled & automations.c.deleted_at.is_(None)
    elif edited := connection.scalars(select(webhooks.c.id).where(webhooks.c.revision > revision)).all():
        concerned |= among(connection, automations.c.webhook_id, edited)
    query = (
        select(
            automations.c.id,
            automations.c.entity_id,
            entities.c.name.label("entity"),
            (automations.c.enabled & automations.c.deleted_at.is_(None)).label("live"),
            automations.c.event_type,
            automations.c.scope_project,
            automations.c.scope_collection,
            cast(automations.c.definition, Text).label("definition"),
            automations.c.epoch,
            automations.c.webhook_id,
            webhooks.c.access_token_secret_id,
        )
        .join(entities, entities.c.id == automations.c.entity_id)
        .outerjoin(webhooks, webhooks.c.id == automations.c.webhook_id)
        .where(concerned)
    )
    # All of them together may take more memory than the index that is made of them, so they are streamed. A few are
    # quicker in one answer.
    options = {"yield_per": _ROWS_READ} if revision < 0 else {}
    for rows in connection.execute(query, execution_options=options).partitions(_ROWS_READ):
        grants = _grants(connection, {row.webhook_id for row in rows if row.webhook_id is not None})
        for row in rows:
            yield AutomationRow(
                id=row.id,
                entity_id=row.entity_id,
                entity=row.entity,
                live=bool(row.live),
                event_type=row.event_type,
                scope_project=row.scope_project,
                scope_collection=row.scope_collection,
                definition=row.definition,
                epoch=row.epoch,
                webhook_id=row.webhook_id,
                grants=frozenset(grants.get(row.webhook_id, ())),
                has_access_token=row.access_token_secret_id is not None,
            )


def _grants(connection: Connection, webhook_ids: Collection[int]) -> dict[int, list[str]]:
    grants: dict[int, list[str]] = {}
    for chunk in chunks(list(webhook_ids)):
        for row in connection.execute(
            select(webhook_secrets.c.webhook_id, secrets_table.c.name)
            .join(secrets_table, secrets_table.c.id == webhook_secrets.c.secret_id)
            .where(webhook_secrets.c.webhook_id.in_(chunk))
        ):
            grants.setdefault(row.webhook_id, []).append(row.name)
    return grants
