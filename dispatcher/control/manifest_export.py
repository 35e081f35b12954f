"""An entity's definitions in the form that `apply` takes, without members that mean the same when they are left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from sqlalchemy import Connection

from dispatcher.control import automations, slack, webhooks
from dispatcher.control.access import Action, require
from dispatcher.control.manifest_projects import export_projects
from dispatcher.control.manifest_sources import all_sources, brief_source
from dispatcher.control.slack import SlackBody
from dispatcher.control.webhook_checks import WebhookBody
from shared.domain.automations.model import cooldown_to_json
from shared.domain.automations.parsing import default_cooldown
from shared.domain.events.types import EventType
from shared.domain.filters.filters import parse_filter
from shared.storage.accounts.users import Principal
from shared.storage.definitions import automations as automation_store
from shared.storage.definitions import webhooks as webhook_store
from shared.storage.definitions.automations import StoredAutomation
from shared.storage.definitions.entities import StoredEntity
from shared.storage.definitions.webhook_fields import WebhookKind
from shared.storage.definitions.webhooks import StoredWebhook

_PAGE = 500

_Row = TypeVar("_Row")


def export(
    connection: Connection, principal: Principal, entity_name: str, *, projects: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """The entity's definitions as a manifest, without members that have their defaults.

    It has `slack` and `sources` if there are any.

    With `projects` its projects and collections too, those among them that events have named.
    """
    entity = require(connection, principal, entity_name, Action.READ)
    own_slack = [_brief_slack(stored) for stored in all_webhooks(connection, entity, WebhookKind.SLACK)]
    own_sources = [brief_source(stored) for stored in all_sources(connection, entity)]
    return {
        **({"projects": export_projects(connection, entity)} if projects else {}),
        "webhooks": [_brief_webhook(stored) for stored in all_webhooks(connection, entity)],
        **({"slack": own_slack} if own_slack else {}),
        "automations": [
            _brief_automation(automations.shown_definition(stored)) for stored in all_automations(connection, entity)
        ],
        **({"sources": own_sources} if own_sources else {}),
    }


def all_webhooks(
    connection: Connection, entity: StoredEntity, kind: WebhookKind = WebhookKind.WEBHOOK
) -> Iterator[StoredWebhook]:
    """Every webhook of an entity that is of this kind."""
    return _all(
        lambda after: webhook_store.list_webhooks(connection, entity.id, after=after, limit=_PAGE, kind=kind),
        lambda row: row.id,
    )


def all_automations(connection: Connection, entity: StoredEntity) -> Iterator[StoredAutomation]:
    """Every automation of an entity."""
    return _all(
        lambda after: automation_store.list_automations(connection, entity.id, after=after, limit=_PAGE),
        lambda row: row.id,
    )


def _all(page: Callable[[int], list[_Row]], position: Callable[[_Row], int]) -> Iterator[_Row]:
    rows = page(0)
    while rows:
        yield from rows
        rows = page(position(rows[-1])) if len(rows) == _PAGE else []


def _brief_webhook(stored: StoredWebhook) -> dict[str, Any]:
    body = WebhookBody.model_validate(webhooks.webhook_body(stored))
    return body.model_dump(mode="json", exclude_defaults=True)


def _brief_slack(stored: StoredWebhook) -> dict[str, Any]:
    return SlackBody.model_validate(slack.slack_body(stored)).model_dump(mode="json", exclude_defaults=True)


def _brief_automation(definition: dict[str, Any]) -> dict[str, Any]:
    """The definition without members that mean the same when they are left out."""
    return {key: value for key, value in definition.items() if not _is_default(key, value, definition["event"])}


def _is_default(member: str, value: object, event: str) -> bool:
    if member == "filter":
        return parse_filter(value, lambda _field: None).matches_everything
    if member == "cooldown":
        return value == cooldown_to_json(default_cooldown(EventType(event)))
    return member in _DEFAULTS and _DEFAULTS[member] == value


_DEFAULTS: Mapping[str, object] = {"description": None, "enabled": True, "scope": {}, "rate_limit": None}
