"""Queries that only this surface asks: things by number or name, whatever entity they belong to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, case, func, select

from shared.delivery.endpoint import SECRET_URLS
from shared.domain.ids import IdKind, encode_id
from shared.storage.definitions.catalog import StoredCollection
from shared.storage.definitions.webhook_fields import WebhookKind
from shared.storage.definitions.webhooks import granted_secrets
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
    has_access_token: bool
    secrets: tuple[str, ...]
    """The names of those that it grants to payloads, in alphabetical order."""

    @property
    def shown_url(self) -> str:
        """The URL as people may see it: its secrets stand in it by their names, and one that is a secret is masked."""
        return self.url or SECRET_URLS[WebhookKind(self.kind)]

    @property
    def is_slack(self) -> bool:
        """Whether it is a Slack integration."""
        return self.kind == SLACK

    @property
    def id(self) -> str:
        """The id that it has in REST."""
        return encode_id(IdKind.SLACK if self.is_slack else IdKind.WEBHOOK, self.number)


def list_integrations(connection: Connection, entity_id: int, *, after: int, limit: int) -> list[StoredIntegration]:
    """The entity's integrations in the order of their numbers."""
    query = _integrations().where(webhooks.c.entity_id == entity_id, webhooks.c.id > after)
    return [_stored(row) for row in connection.execute(query.order_by(webhooks.c.id).limit(limit))]


def integrations_of(connection: Connection, numbers: Collection[int]) -> dict[int, StoredIntegration]:
    """The integrations of these numbers; one that was deleted is left out."""
    if not numbers:
        return {}
    rows = connection.execute(_integrations().where(webhooks.c.id.in_(numbers)))
    return {row.number: _stored(row) for row in rows}


def _integrations() -> Select[Any]:
    return select(
        webhooks.c.id.label("number"),
        webhooks.c.kind,
        webhooks.c.name,
        webhooks.c.url,
        webhooks.c.slack_team,
        webhooks.c.slack_channel,
        webhooks.c.access_token_secret_id.is_not(None).label("has_access_token"),
        granted_secrets().label("granted"),
    ).where(webhooks.c.deleted_at.is_(None))


def _stored(row: Row[Any]) -> StoredIntegration:
    granted = row.granted.split(",") if row.granted else ()
    own: dict[str, Any] = {name: value for name, value in row._mapping.items() if name != "granted"}
    return StoredIntegration(**own, secrets=tuple(sorted(granted)))


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


@dataclass(frozen=True, slots=True)
class StoredType:
    """A type of artifacts in a project; `id` is that of its oldest collection."""

    id: int
    name: str
    created_at: datetime


def artifact_types(connection: Connection, project_id: int) -> list[StoredType]:
    """The types of artifacts that are known to be in a project, in alphabetical order."""
    return [StoredType(*row) for row in connection.execute(_types(project_id).order_by(collections.c.type))]


def find_type(connection: Connection, project_id: int, name: str) -> StoredType | None:
    """The project's type of this name, also where all that is known are collections of which nothing has told it."""
    told = connection.execute(_types(project_id).where(collections.c.type == name)).first()
    if told is not None:
        return StoredType(*told)
    untold = select(func.min(collections.c.id), func.min(collections.c.created_at)).where(
        collections.c.project_id == project_id, collections.c.type == ""
    )
    number, created_at = connection.execute(untold).one()
    return None if number is None else StoredType(number, name, created_at)


def _types(project_id: int) -> Select[Any]:
    return (
        select(func.min(collections.c.id), collections.c.type, func.min(collections.c.created_at))
        .where(collections.c.project_id == project_id, collections.c.type != "")
        .group_by(collections.c.type)
    )


def organizations_of(connection: Connection, among: Collection[int] | None) -> dict[int, str]:
    """The organizations among these entities, or among all, and those above them: their names by their ids."""
    here = select(entities.c.id, entities.c.parent_id, entities.c.name, entities.c.kind)
    above = here if among is None else here.where(entities.c.id.in_(among))
    climbed = above.cte("climbed", recursive=True)
    climbed = climbed.union(here.where(entities.c.id == climbed.c.parent_id))
    query = select(climbed.c.id, climbed.c.name).where(climbed.c.kind == "organization").order_by(climbed.c.id)
    return {row.id: row.name for row in connection.execute(query)}


def belong_to_several(connection: Connection, among: Collection[int] | None) -> bool:
    """Whether these entities, or all, are and belong to more than one organization."""
    own = case((entities.c.kind == "organization", entities.c.id), else_=entities.c.parent_id)
    query = select(own).where(own.is_not(None)).distinct().limit(2)
    if among is not None:
        query = query.where(entities.c.id.in_(among))
    return len(connection.execute(query).all()) > 1
