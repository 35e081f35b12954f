"""Lists of automations, webhooks and Slack integrations: by what people look for, sorted, with how deliveries went."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Connection

from dispatcher.control.access import Action, require
from dispatcher.control.automations import AutomationView, automation_view
from dispatcher.control.bodies import Body, Text, View, one_or_many_of, parse_body
from dispatcher.control.deliveries import webhook_number
from dispatcher.control.paging import DEFAULT_LIMIT, MAX_LIMIT, Page, SortedPageRequest, sorted_page_request
from dispatcher.control.slack import SlackView, slack_view
from dispatcher.control.webhooks import WebhookView, unreadable_secrets, view_of
from shared.domain.events.types import EventType
from shared.storage.accounts.users import Principal
from shared.storage.database.clock import database_time
from shared.storage.definitions.definition_lists import (
    AutomationFilter,
    Sort,
    WebhookFilter,
    WebhookStateName,
    list_automation_rows,
    list_webhook_rows,
)
from shared.storage.definitions.entities import StoredEntity
from shared.storage.definitions.webhook_fields import WebhookKind
from shared.storage.definitions.webhooks import StoredWebhook
from shared.storage.delivery.delivery_stats import MAX_COUNTED, DeliveryStats, automation_stats, webhook_stats
from shared.storage.delivery.history import DeliveryStatus
from shared.vault import Vault


class _Query(Body):
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT
    cursor: str | None = None
    sort: Annotated[Sort, Field(strict=False)] = Sort.CREATED
    stats: bool = False
    name: str | None = None
    text: Text | None = None
    enabled: bool | None = None

    def page(self) -> SortedPageRequest:
        """The page that is asked for. Raises InvalidDefinition for a cursor that no answer gave."""
        return sorted_page_request(self.limit, self.sort, self.cursor)


class AutomationQuery(_Query):
    """Which automations are meant, and how they are shown."""

    event: Annotated[tuple[EventType, ...], one_or_many_of(EventType)] = ()
    project: str | None = None
    collection: str | None = None
    webhook: str | None = None
    action: Annotated[str | None, Field(pattern="^(webhook|slack|no_op)$")] = None
    applies_to_project: str | None = None
    """Those that watch this project, by its name or as a part of the entity."""
    applies_to_collection: str | None = None
    """With `applies_to_project`: those that watch this collection of it."""

    @property
    def place(self) -> tuple[str, str | None] | None:
        """The place that they watch."""
        return None if self.applies_to_project is None else (self.applies_to_project, self.applies_to_collection)


class WebhookQuery(_Query):
    """Which webhooks or Slack integrations are meant, and how they are shown."""

    state: Annotated[tuple[WebhookStateName, ...], one_or_many_of(WebhookStateName)] = ()


class StatsView(View):
    """How deliveries went lately. The counts end at 1000, which stands for that many or more."""

    last_fired_at: datetime | None
    """When the newest delivery was created that is neither skipped nor a replay; null if none of the newest 1000 is."""
    waiting: int
    """Deliveries that are pending; of an automation those among its newest 1000 where many are pending in all."""
    failed: int
    """Dead letters, as long as they are kept."""
    outcomes: list[DeliveryStatus]
    """The statuses of the newest 50 deliveries, newest first."""


class _Listed(View):
    stats: Annotated[StatsView | None, Field(exclude_if=lambda stats: stats is None)] = None
    """With `stats=true`."""


class ListedWebhookView(_Listed, WebhookView):
    """A webhook in a list."""


class ListedSlackView(_Listed, SlackView):
    """A Slack integration in a list."""


def list_automations(
    connection: Connection, principal: Principal, entity_name: str, raw: object
) -> Page[AutomationView]:
    """The entity's automations that match. Raises InvalidDefinition for a query that can't be understood."""
    entity = require(connection, principal, entity_name, Action.READ)
    query = parse_body(AutomationQuery, raw)
    page = query.page()
    wanted = AutomationFilter(
        name=query.name,
        text=query.text,
        event_types=tuple(str(one) for one in query.event),
        project=query.project,
        collection=query.collection,
        webhook_id=webhook_number(connection, entity, query.webhook),
        action=query.action,
        enabled=query.enabled,
        applies_to=None
        if query.applies_to_project is None
        else (query.applies_to_project, query.applies_to_collection),
    )
    rows = list_automation_rows(connection, entity.id, wanted, page.sort, after=page.after, limit=page.with_one_more)
    shown, answered = page.read_page(rows, lambda row: automation_view(entity, row))
    if query.stats:
        stats = automation_stats(connection, [row.id for row in shown])
        for row, item in zip(shown, answered.items, strict=True):
            item["stats"] = _stats_view(stats[row.id])
    return answered


def list_webhooks(
    connection: Connection, principal: Principal, entity_name: str, raw: object, *, vault: Vault
) -> Page[ListedWebhookView]:
    """The entity's webhooks that match. Raises as `list_automations`."""
    entity, query, page, rows = _webhooks(connection, principal, entity_name, raw, WebhookKind.WEBHOOK)
    stats = _stats(connection, query, (row for _, row in rows[: page.limit]))
    unreadable = unreadable_secrets(connection, entity, [row for _, row in rows], vault)
    return page.read_page(
        rows,
        lambda row: ListedWebhookView(
            **_members(view_of(connection, entity, row, unreadable)), stats=stats.get(row.id)
        ),
    )[1]


def list_slack(connection: Connection, principal: Principal, entity_name: str, raw: object) -> Page[ListedSlackView]:
    """The entity's Slack integrations that match. Raises as `list_automations`."""
    entity, query, page, rows = _webhooks(connection, principal, entity_name, raw, WebhookKind.SLACK)
    stats = _stats(connection, query, (row for _, row in rows[: page.limit]))
    return page.read_page(
        rows,
        lambda row: ListedSlackView(**_members(slack_view(connection, entity, row)), stats=stats.get(row.id)),
    )[1]


def _webhooks(
    connection: Connection, principal: Principal, entity_name: str, raw: object, kind: WebhookKind
) -> tuple[StoredEntity, WebhookQuery, SortedPageRequest, list[tuple[Any, StoredWebhook]]]:
    entity = require(connection, principal, entity_name, Action.READ)
    query = parse_body(WebhookQuery, raw)
    page = query.page()
    wanted = WebhookFilter(kind=kind, name=query.name, text=query.text, enabled=query.enabled, states=query.state)
    rows = list_webhook_rows(
        connection,
        entity.id,
        wanted,
        page.sort,
        now=database_time(connection),
        after=page.after,
        limit=page.with_one_more,
    )
    return entity, query, page, rows


def _members(view: View) -> dict[str, Any]:
    return {name: getattr(view, name) for name in type(view).model_fields}


def _stats(connection: Connection, query: _Query, rows: Iterable[StoredWebhook]) -> dict[int, StatsView]:
    if not query.stats:
        return {}
    found = webhook_stats(connection, [row.id for row in rows])
    return {number: _stats_view(stats) for number, stats in found.items()}


def _stats_view(stats: DeliveryStats) -> StatsView:
    return StatsView(
        last_fired_at=stats.last_fired_at,
        waiting=stats.waiting,
        failed=min(stats.failed, MAX_COUNTED),
        outcomes=[DeliveryStatus(status) for status in stats.outcomes],
    )
