"""Automations as the client reads them: its form of each, and the lists it asks for.

One automation that a client can't read would break its whole listing, so such a one is left out: what no client's form
expresses, and what this version does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from ariadne import ObjectType, UnionType

from dispatcher.graphql import rows
from dispatcher.graphql.catalog_pages import projects_page
from dispatcher.graphql.client_versions import reads
from dispatcher.graphql.listing_filters import Fields, exact_value, row_filter
from dispatcher.graphql.nodes import CollectionNode, EntityNode, OrganizationNode, ProjectNode, collection_typename
from dispatcher.graphql.pages import (
    DEFAULT_FIRST,
    Connection,
    Position,
    page_of,
    page_size,
    position_after,
    scanned,
    whole,
)
from dispatcher.graphql.rows import StoredIntegration
from dispatcher.graphql.selections import reads_all_of, selected, type_conditions
from dispatcher.graphql.session import Info, Session
from shared.domain.errors import InvalidDefinition
from shared.domain.filters.wandb import SavedEvent, saved_event
from shared.domain.ids import IdKind, encode_id
from shared.domain.json_text import write_json
from shared.storage.definitions import automations as store
from shared.storage.definitions.automations import StoredAutomation
from shared.storage.definitions.entities import StoredEntity


@dataclass(frozen=True, slots=True)
class TriggerNode:
    """An automation that the client's form expresses."""

    entity: StoredEntity
    stored: StoredAutomation
    event: SavedEvent
    integration: StoredIntegration | None
    payload: str | None
    """The payload as JSON text."""

    @property
    def size_bytes(self) -> int:
        """About how much of an answer it is."""
        return 1000 + len(self.event.filter) + len(self.payload or "")


_FIELDS: Fields[TriggerNode] = {
    "name": lambda node: node.stored.name,
    "description": lambda node: node.stored.definition.get("description"),
    "enabled": lambda node: node.stored.definition["enabled"],
}

entity = ObjectType("Entity")
organization = ObjectType("Organization")
user = ObjectType("User")
project = ObjectType("Project")
trigger = ObjectType("Trigger")
webhook = ObjectType("GenericWebhookIntegration")
slack = ObjectType("SlackIntegration")
scope = UnionType("TriggerScope")
condition = UnionType("TriggeringCondition", lambda *_: "FilterEventTriggeringCondition")
action = UnionType("TriggeredAction")
integration = UnionType("Integration", lambda node, *_: "SlackIntegration" if node.is_slack else _WEBHOOK)
_WEBHOOK = "GenericWebhookIntegration"


def trigger_nodes(
    session: Session, of: StoredEntity, stored: Iterable[StoredAutomation], *, all_of: bool
) -> list[TriggerNode]:
    """The automations that can be served, in their order; with several conditions only if the client reads `all_of`."""
    batch = list(stored)
    integrations = rows.integrations_of(
        session.connection, {each.webhook_id for each in batch if each.webhook_id is not None}
    )
    nodes = (_node(of, each, integrations, all_of=all_of) for each in batch)
    return [node for node in nodes if node is not None and reads(session.client, node.event.type)]


def _node(
    of: StoredEntity, stored: StoredAutomation, known: dict[int, StoredIntegration], *, all_of: bool
) -> TriggerNode | None:
    event = saved_event(stored.definition, all_of=all_of)
    target = None if stored.webhook_id is None else known.get(stored.webhook_id)
    payload = stored.definition["action"].get("payload")
    if event is None or (stored.webhook_id is not None and target is None) or not isinstance(payload, dict | None):
        return None
    return TriggerNode(of, stored, event, target, None if payload is None else write_json(payload).decode())


_IN_LISTS = ("edges", "node")
_NODES_AT_ONCE = 20
"""For how many automations their integrations are looked up together."""


def _of_entity(
    session: Session, of: StoredEntity, after: int = 0, *, project: str | None = None, all_of: bool
) -> Iterator[TriggerNode]:
    found = session.scans.automations(of.id, after=after, project=project)
    while batch := list(islice(found, _NODES_AT_ONCE)):
        yield from trigger_nodes(session, of, batch, all_of=all_of)


@entity.field("triggers")
@organization.field("triggers")
def resolve_triggers(
    node: EntityNode | OrganizationNode,
    info: Info,
    *,
    after: str | None = None,
    first: int | None = None,
    filters: str | None = None,
    order: str | None = None,
) -> Connection:
    """A page of the entity's automations, in the order in which they were made."""
    session = info.context
    if order is not None:
        raise InvalidDefinition.at(("order",), "must be left out: automations are in the order of their creation")
    readable = session.readable(node.name)
    matches = row_filter(filters, _FIELDS, "filters")
    _, number = position_after(after)
    if (name := exact_value(filters, "name")) is not None:
        found = store.find_automation(session.connection, readable.id, name=name)
        batch = [found] if found is not None and found.id > number else []
        nodes = iter(trigger_nodes(session, readable, batch, all_of=reads_all_of(info, _IN_LISTS)))
    else:
        nodes = _of_entity(session, readable, number, all_of=reads_all_of(info, _IN_LISTS))
    served = (each for each in _in_readable_scopes(info, nodes, _IN_LISTS) if matches(each))
    return page_of((((0, each.stored.id), each) for each in served), first)


@entity.field("projects")
def resolve_projects(
    node: EntityNode,
    info: Info,
    *,
    filters: str | None = None,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
) -> Connection:
    """The entity's projects; with `triggers`, those that automations watch."""
    session = info.context
    visible = session.visible(node.name)
    if not node.of_organization and selected(info, ("edges", "node", "triggers")):
        return _watched(info, [session.readable(node.name)], after, first)
    return projects_page(
        session, visible, registries=node.of_organization, filters=filters, after=after, first=first, order=order
    )


@user.field("projects")
def resolve_all_projects(
    _principal: Any, info: Info, *, after: str | None = None, first: int | None = None
) -> Connection:
    """The projects that automations watch, in all entities that the user may read."""
    session = info.context
    number, _ = position_after(after)
    return _watched(info, session.entities(number), after, first)


def _watched(info: Info, entities: Iterable[StoredEntity], after: str | None, first: int | None) -> Connection:
    """The automations, gathered by the project that they watch: on one page, unless smaller ones are asked for.

    The client looks for a name on each page itself, and from 0.29 on takes a page that has it not for the last one.
    There it asks for pages of its default size; who asks for smaller ones means to read them all.
    """
    found = _positioned(info, entities, position_after(after))
    if page_size(first) < DEFAULT_FIRST:
        page = page_of(found, first)
    else:
        page = whole(found, lambda node: node.size_bytes, must_end=info.context.budget.is_low)
    nodes = [edge["node"] for edge in page["edges"]]
    gathered = [
        ProjectNode(of, name, triggers=tuple(group))
        for (of, name), group in groupby(sorted(nodes, key=_watched_key), key=lambda n: (n.entity, _project_name(n)))
    ]
    end = page["page_info"]["end_cursor"]
    return {**page, "edges": [{"node": node, "cursor": end} for node in gathered]}


def _positioned(
    info: Info, entities: Iterable[StoredEntity], begin: Position
) -> Iterator[tuple[Position, TriggerNode]]:
    path = (*_IN_LISTS, "triggers")
    for of in entities:
        after = begin[1] if of.id == begin[0] else 0
        nodes = _of_entity(info.context, of, after, all_of=reads_all_of(info, path))
        for node in _in_readable_scopes(info, nodes, path):
            yield (of.id, node.stored.id), node


def _in_readable_scopes(info: Info, nodes: Iterable[TriggerNode], path: tuple[str, ...]) -> Iterator[TriggerNode]:
    """The automations without those on a whole entity, if the document has no fields for such a scope.

    It has none in clients up to 0.28.0, which can't read what comes back then.
    """
    conditions = {name for each in selected(info, (*path, "scope")) for name in type_conditions(info, each)}
    entities_too = not conditions or "Entity" in conditions
    return (node for node in nodes if entities_too or node.stored.definition["scope"].get("project") is not None)


def _watched_key(node: TriggerNode) -> tuple[int, str, int]:
    return node.entity.id, _project_name(node), node.stored.id


def _project_name(node: TriggerNode) -> str:
    return str(node.stored.definition["scope"].get("project") or "")


@project.field("triggers")
def resolve_project_triggers(node: ProjectNode, info: Info) -> list[TriggerNode]:
    """The automations that watch the project or a collection in it."""
    if node.triggers is not None:
        return list(node.triggers)
    readable = info.context.readable(node.entity.name)
    return list(_of_entity(info.context, readable, project=node.name, all_of=reads_all_of(info)))


@trigger.field("id")
def resolve_id(node: TriggerNode, _info: Info) -> str:
    """The id that the automation has in REST."""
    return encode_id(IdKind.AUTOMATION, node.stored.id)


@trigger.field("scope")
def resolve_scope(node: TriggerNode, _info: Info) -> EntityNode | ProjectNode | CollectionNode:
    """Where the automation watches."""
    watched = node.stored.definition["scope"]
    if watched.get("project") is None:
        return EntityNode(node.entity)
    within = ProjectNode(node.entity, watched["project"])
    name = watched.get("collection")
    return within if name is None else CollectionNode(within, name)


@trigger.field("triggeringCondition")
def resolve_condition(node: TriggerNode, _info: Info) -> dict[str, str]:
    """The event and its filter, in the client's saved form."""
    return {"event_type": str(node.event.type), "filter": node.event.filter}


@trigger.field("triggeredAction")
def resolve_action(node: TriggerNode, _info: Info) -> dict[str, Any]:
    """What firing does."""
    defined = node.stored.definition["action"]
    if node.integration is None:
        return {"no_op": True}
    if node.integration.is_slack:
        # Some versions read null, and can't send it back then.
        texts = {name: defined.get(name) or "" for name in ("title", "message")}
        return {"integration": node.integration, **texts, "severity": defined.get("severity")}
    return {"integration": node.integration, "request_payload": node.payload}


@action.type_resolver
def action_typename(node: dict[str, Any], *_: Any) -> str:
    """By what the action is sent to."""
    if "integration" not in node:
        return "NoOpTriggeredAction"
    return "NotificationTriggeredAction" if node["integration"].is_slack else "GenericWebhookTriggeredAction"


@scope.type_resolver
def scope_typename(node: EntityNode | ProjectNode | CollectionNode, *_: Any) -> str:
    """By what the automation watches."""
    if isinstance(node, CollectionNode):
        return collection_typename(node)
    return "Project" if isinstance(node, ProjectNode) else "Entity"


@entity.field("integrations")
def resolve_integrations(
    node: EntityNode, info: Info, *, after: str | None = None, first: int | None = None
) -> Connection:
    """The entity's webhooks, Slack integrations among them, on one page.

    The client sorts them out itself, and takes a page that has none of the wanted kind for the end of the list.
    """
    page_size(first)
    session = info.context
    of = session.readable(node.name)
    _, number = position_after(after)
    found = scanned(
        lambda begin, limit: rows.list_integrations(session.connection, of.id, after=begin, limit=limit),
        lambda row: row.number,
        number,
    )
    return whole((((0, each.number), each) for each in found), lambda each: 1000 + len(each.url))


for _name in ("name", "enabled", "description"):
    trigger.set_field(_name, lambda node, _info, _name=_name: node.stored.definition.get(_name))
trigger.set_field("createdAt", lambda node, _info: node.stored.created_at)
trigger.set_field("updatedAt", lambda node, _info: node.stored.updated_at)
webhook.set_field("urlEndpoint", lambda node, _info: node.shown_url)
slack.set_field("teamName", lambda node, _info: node.slack_team or "")
slack.set_field("channelName", lambda node, _info: node.slack_channel or "")

BINDABLES = (entity, organization, user, project, trigger, webhook, slack, scope, condition, action, integration)
