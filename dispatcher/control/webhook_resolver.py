"""The webhooks and Slack integrations that an automation may name: its entity's, its organizations', its teams'.

Those of another entity may be named by principals that may read that entity; to others they do not exist.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from dispatcher.control.access import Action, entities_with, require
from dispatcher.control.webhook_checks import grants_of
from shared.domain.automations.model import Action as ActionOfAutomation
from shared.domain.automations.model import Automation, Grants, SlackAction, WebhookAction
from shared.domain.automations.parsing import parse_automation
from shared.domain.errors import InvalidDefinition
from shared.domain.ids import decode_id
from shared.domain.payloads.content_types import PayloadTypes
from shared.storage.accounts.users import Principal
from shared.storage.definitions.automations import StoredAutomation
from shared.storage.definitions.entities import StoredEntity, related_entities
from shared.storage.definitions.webhook_fields import ID_KINDS, WebhookFields, WebhookKind, public_id
from shared.storage.definitions.webhooks import StoredWebhook, find_webhooks, webhook_names


def list_owners(connection: Connection, principal: Principal, entity_name: str) -> list[str]:
    """The entities whose webhooks an automation of the entity may name: its own, then the others by their names."""
    entity = require(connection, principal, entity_name, Action.READ)
    return [entity.name, *sorted(WebhookResolver(connection, entity, principal).readable().values())]


def list_names(
    connection: Connection, principal: Principal, owner: str, kind: WebhookKind, *, limit: int
) -> list[tuple[str, str]]:
    """The ids and names of an entity's first webhooks or Slack integrations, by their names."""
    entity = require(connection, principal, owner, Action.READ)
    return [
        (public_id(kind, number), name) for number, name in webhook_names(connection, entity.id, limit=limit, kind=kind)
    ]


@dataclass(frozen=True, slots=True)
class NamedWebhook:
    """A webhook or Slack integration that an automation names, and the entity that owns it."""

    id: str
    owner: str
    fields: WebhookFields


def find_named(
    connection: Connection,
    principal: Principal,
    entity_name: str,
    name_or_id: str,
    kind: WebhookKind,
    *,
    owner: str | None = None,
) -> NamedWebhook | None:
    """What an automation of the entity would mean by a name or id; None where there is none.

    Args:
        owner: only what this entity owns. Without it, a name means one of the entity itself, and an id whichever it is.
    """
    entity = require(connection, principal, entity_name, Action.READ)
    number = decode_id(ID_KINDS[kind], name_or_id)
    owners = {entity.id: entity.name}
    if owner is not None or number is not None:
        owners |= WebhookResolver(connection, entity, principal).readable()
    among = [one for one, name in owners.items() if owner in (None, name)]
    found = find_webhooks(connection, among, webhook_id=number, name=name_or_id, kind=kind)
    return NamedWebhook(public_id(kind, found[0].id), owners[found[0].entity_id], found[0].fields) if found else None


@dataclass(frozen=True, slots=True)
class ResolvedAutomation:
    """A checked definition, and the stored webhook or Slack integration that its action names."""

    automation: Automation
    webhook: StoredWebhook | None
    """None for an action without one, and for one that is only planned."""


@dataclass(slots=True)
class WebhookResolver:
    """Looks up the webhooks and Slack integrations that the definitions of one entity's automations name.

    `planned` are webhooks that are not stored, with what they are meant to grant, and `planned_slack` such Slack
    integrations; a definition may be checked with them, not stored. `kept` is an automation whose action is not being
    changed: it keeps its webhook, whatever the principal may read. `known` holds what was looked up already, by what a
    definition may call it; whoever checks many definitions may fill it beforehand.
    """

    connection: Connection
    entity: StoredEntity
    principal: Principal
    planned: Mapping[str, Grants] = field(default_factory=dict)
    planned_slack: Collection[str] = ()
    kept: StoredAutomation | None = None
    known: dict[tuple[WebhookKind, str], StoredWebhook | None] = field(default_factory=dict)

    def parse(self, raw: object, was: Mapping[str, Any] | None = None) -> ResolvedAutomation:
        """Check a definition, which replaces one that was accepted before. Raises InvalidDefinition, naming each fault.

        A filter that was accepted by an older version, and stays as it is, is accepted again. An action that says
        nothing of `payload_types` keeps what it had; a new one has `json`.
        """
        raw = _with_payload_types(raw, was)
        automation = self._checked(raw, was)
        return ResolvedAutomation(automation, self._webhook_of(automation.action))

    def _checked(self, raw: object, was: Mapping[str, Any] | None) -> Automation:
        try:
            return parse_automation(raw, self.grants_of, self.has_slack, is_new=True)
        except InvalidDefinition as exc:
            if was is None:
                raise
            refusal = exc
        automation = parse_automation(raw, self.grants_of, self.has_slack)
        if (str(automation.event), automation.filter.to_json()) != (was["event"], was["filter"]):
            raise refusal
        return automation

    def grants_of(self, name_or_id: str) -> Grants | None:
        """The grants of the webhook of this name or id; None when there is none.

        Raises:
            InvalidDefinition: when webhooks of several other entities have the name.
        """
        if name_or_id in self.planned:
            return self.planned[name_or_id]
        webhook = self._find(name_or_id, WebhookKind.WEBHOOK)
        return None if webhook is None else grants_of(webhook.fields)

    def has_slack(self, name_or_id: str) -> bool:
        """Whether there is a Slack integration of this name or id. Raises as `grants_of` does."""
        return name_or_id in self.planned_slack or self._find(name_or_id, WebhookKind.SLACK) is not None

    def _webhook_of(self, action: ActionOfAutomation) -> StoredWebhook | None:
        """The second look-up of the name finds it in `known`."""
        if isinstance(action, WebhookAction) and action.webhook not in self.planned:
            return self._find(action.webhook, WebhookKind.WEBHOOK)
        if isinstance(action, SlackAction) and action.slack not in self.planned_slack:
            return self._find(action.slack, WebhookKind.SLACK)
        return None

    def _find(self, name_or_id: str, kind: WebhookKind) -> StoredWebhook | None:
        key = kind, name_or_id
        if key not in self.known:
            self.known[key] = self._look_up(name_or_id, kind)
        return self.known[key]

    def _look_up(self, name_or_id: str, kind: WebhookKind) -> StoredWebhook | None:
        number = decode_id(ID_KINDS[kind], name_or_id)
        own = self._among([self.entity.id], name_or_id, number, kind)
        if own:
            return own[0]
        if self.kept is not None and number == self.kept.webhook_id and self.kept.webhook_entity_id is not None:
            kept = self._among([self.kept.webhook_entity_id], name_or_id, number, kind)
            return kept[0] if kept else None
        names = self.readable()
        found = self._among(names, name_or_id, number, kind)
        if len(found) > 1:
            choice = ", ".join(f"{public_id(kind, one.id)} of {names[one.entity_id]!r}" for one in found)
            raise InvalidDefinition.at((), f"means more than one here: name it by its id, {choice}")
        return found[0] if found else None

    def _among(
        self, entity_ids: Collection[int], name: str, number: int | None, kind: WebhookKind
    ) -> list[StoredWebhook]:
        return find_webhooks(self.connection, entity_ids, webhook_id=number, name=name, kind=kind)

    def readable(self) -> dict[int, str]:
        """The organizations and teams around the entity that the principal may read, by id."""
        related = related_entities(self.connection, self.entity.id)
        allowed = related.keys() if self.principal.is_admin else entities_with(self.principal, Action.READ)
        return {number: name for number, name in related.items() if number in allowed}


def _with_payload_types(raw: object, was: Mapping[str, Any] | None) -> object:
    action = raw.get("action") if isinstance(raw, Mapping) else None
    if not isinstance(raw, Mapping) or not isinstance(action, Mapping) or "webhook" not in action:
        return raw
    if action.get("payload_types") is not None:
        return raw
    before = {} if was is None else was["action"]
    types = before.get("payload_types", PayloadTypes.TEXT) if "webhook" in before else PayloadTypes.JSON
    return {**raw, "action": {**action, "payload_types": str(types)}}
