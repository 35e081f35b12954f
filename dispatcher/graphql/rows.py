"""Queries that only this surface asks: things by number or name, whatever entity they belong to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, select

from shared.domain.ids import IdKind, encode_id
from shared.storage.definitions.catalog import StoredCollection
from shared.storage.schema.tables import automations, collections, entities, projects, webhooks

SLACK = "slack"


@dataclass(frozen=True, slots=True)
class StoredIntegration:
    """A webhook of either kind, as far as the client looks at it."""

    number: int
    kind: str
    name: str
    url: str
    slack_team: str | None
    slack_channel: str | None

    @property
    def is_slack(self) -> bool:
        """Whether it is a Slack integration."""
        return self.kind == SLACK

    @property
    def id(self) -> str:
        """The id that it has in REST."""
        return encode_id(IdKind.SLACK if self.is_slack else IdKind.WEBHOOK, self.number)


def _integrations() -> Select[Any]:
    return select(
        webhooks.c.id, webhooks.c.kind, webhooks.c.name, webhooks.c.url, webhooks.c.slack_team, webhooks.c.slack_channel
    ).where(webhooks.c.deleted_at.is_(None))


def list_integrations(connection: Connection, entity_id: int, *, after: int, limit: int) -> list[StoredIntegration]:
    """The entity's integrations in the order of their numbers."""
    query = _integrations().where(webhooks.c.entity_id == entity_id, webhooks.c.id > after)
    return [StoredIntegration(*row) for row in connection.execute(query.order_by(webhooks.c.id).limit(limit))]


def integrations_of(connection: Connection, numbers: Collection[int]) -> dict[int, StoredIntegration]:
    """The integrations of these numbers; one that was deleted is left out."""
    if not numbers:
        return {}
    rows = connection.execute(_integrations().where(webhooks.c.id.in_(numbers)))
    return {row.id: StoredIntegration(*row) for row in rows}


def entity_of_automation(connection: Connection, number: int) -> str | None:
    """The name of the entity that owns an automation; None when there is no such automation."""
    query = (
        select(entities.c.name)
        .join(automations, automations.c.entity_id == entities.c.id)
        .where(automations.c.id == number, automations.c.deleted_at.is_(None))
    )
    return connection.scalar(query)


def find_collection(connection: Connection, project_id: int, name: str) -> StoredCollection | None:
    """The project's collection of this name."""
    query = (
        select(collections.c.id, projects.c.name, collections.c.name, collections.c.type, collections.c.created_at)
        .join(projects, projects.c.id == collections.c.project_id)
        .where(collections.c.project_id == project_id, collections.c.name == name)
    )
    row = connection.execute(query).first()
    return None if row is None else StoredCollection(*row)


def artifact_types(connection: Connection, project_id: int) -> list[str]:
    """The types of artifacts that are known to be in a project, in alphabetical order."""
    query = select(collections.c.type).where(collections.c.project_id == project_id, collections.c.type != "")
    return list(connection.scalars(query.distinct().order_by(collections.c.type)))
