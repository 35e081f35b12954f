"""The query parameters of lists of automations, webhooks and Slack integrations."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import WithJsonSchema

from dispatcher.control.paging import DEFAULT_LIMIT, MAX_LIMIT
from shared.domain.events.types import EventType
from shared.storage.definitions.definition_lists import Sort, WebhookStateName

_ANY = "Given several times: any will do."
_STATE = WithJsonSchema({"type": "string", "enum": [str(state) for state in WebhookStateName]})
_SORT = WithJsonSchema({"type": "string", "enum": [str(sort) for sort in Sort], "default": str(Sort.CREATED)})
_ACTION = WithJsonSchema({"type": "string", "enum": ["webhook", "slack", "no_op"]})

EventTypeName = Annotated[
    str, WithJsonSchema({"type": "string", "enum": [str(event_type) for event_type in EventType]})
]
"""The name of an event type; control refuses others, in its own words."""
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
Cursor = Annotated[str | None, Query(description="The `next` of the previous page.")]
SortBy = Annotated[
    Annotated[str, _SORT],
    Query(description="By id, by name, or what was edited or fired last first; a cursor belongs to one order."),
]
Stats = Annotated[bool, Query(description="Also show when each fired last, and how its deliveries went.")]
Name = Annotated[str | None, Query(description="The whole name.")]
Enabled = Annotated[bool | None, Query()]


async def _automation_query(
    *,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    sort: SortBy = Sort.CREATED,
    stats: Stats = False,
    name: Name = None,
    text: Annotated[str | None, Query(description="A part of the name or the description, in any case.")] = None,
    enabled: Enabled = None,
    event: Annotated[list[EventTypeName] | None, Query(description=_ANY)] = None,
    project: Annotated[str | None, Query(description="The project or registry of the scope.")] = None,
    collection: Annotated[str | None, Query(description="The collection of the scope.")] = None,
    webhook: Annotated[str | None, Query(description="A webhook's or Slack integration's id or name.")] = None,
    action: Annotated[Annotated[str, _ACTION] | None, Query(description="The kind of action.")] = None,
    applies_to_project: Annotated[
        str | None, Query(description="Those that watch this project: by its name, or all of the entity.")
    ] = None,
    applies_to_collection: Annotated[
        str | None, Query(description="With `applies_to_project`: those that watch this collection of it.")
    ] = None,
) -> dict[str, Any]:
    return _given(locals())


async def _webhook_query(
    *,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    sort: SortBy = Sort.CREATED,
    stats: Stats = False,
    name: Name = None,
    text: Annotated[str | None, Query(description="A part of the name or the URL, in any case.")] = None,
    enabled: Enabled = None,
    state: Annotated[list[Annotated[str, _STATE]] | None, Query(description=_ANY)] = None,
) -> dict[str, Any]:
    return _given(locals())


def _given(query: dict[str, Any]) -> dict[str, Any]:
    """The parameters that were given."""
    return {name: value for name, value in query.items() if value is not None}


AutomationCriteria = Annotated[dict[str, Any], Depends(_automation_query)]
WebhookCriteria = Annotated[dict[str, Any], Depends(_webhook_query)]
