"""Slack integrations: incoming webhooks of Slack, whose URL is a credential and therefore a secret of the entity.

They are webhooks of another kind, and obey the same rules. Must not show the URL, nor anything of it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Connection

from dispatcher.control import webhooks
from dispatcher.control.access import Action, require
from dispatcher.control.audit import changed_members
from dispatcher.control.bodies import Body, View, apply_patch, parse_body
from dispatcher.control.circuits import CircuitView, circuit_view
from dispatcher.control.errors import NotFound
from dispatcher.control.webhook_checks import Checks, KnownSecrets, WebhookName
from shared.domain.delivery.retries import DeliveryPolicy, whole_policy
from shared.domain.errors import InvalidDefinition
from shared.domain.ids import IdKind, decode_id
from shared.storage.accounts.users import Principal
from shared.storage.definitions import webhooks as store
from shared.storage.definitions.entities import StoredEntity
from shared.storage.definitions.revisions import lock_edits
from shared.storage.definitions.secrets import SecretUses
from shared.storage.definitions.webhook_fields import WebhookFields, WebhookKind, public_id
from shared.storage.definitions.webhooks import StoredWebhook


class SlackBody(Body):
    """A Slack integration's definition."""

    name: WebhookName
    url_secret: Annotated[str, Field(description="The secret whose value is the URL of Slack's incoming webhook.")]
    team: Annotated[
        str | None, Field(min_length=1, max_length=255, description="The Slack workspace, for people to read.")
    ] = None
    channel: Annotated[
        str | None, Field(min_length=1, max_length=255, description="The channel, for people to read.")
    ] = None
    policy: DeliveryPolicy = DeliveryPolicy()
    enabled: Annotated[bool, Field(description="A disabled integration's firings are skipped.")] = True
    paused: Annotated[bool, Field(description="A paused integration's deliveries wait.")] = False


class SlackView(View):
    """A Slack integration."""

    id: str
    entity: str
    name: str
    url_secret: str
    team: str | None
    channel: str | None
    policy: DeliveryPolicy
    enabled: bool
    paused: bool
    disabled_reason: str | None
    failing_since: datetime | None
    """Since when nothing but failures came back; null after a success."""
    circuit: CircuitView
    revision: int
    created_at: datetime
    updated_at: datetime


def create(connection: Connection, principal: Principal, entity_name: str, raw: object, *, checks: Checks) -> SlackView:
    """Store a new Slack integration.

    Raises:
        InvalidDefinition: naming each fault.
        Conflict: when the entity has a webhook or Slack integration of this name.
    """
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    lock_edits(connection)
    fields = check_slack(connection, entity, raw, checks=checks)
    stored = webhooks.save_webhook(connection, entity, None, fields, by=principal.user_name)
    webhooks.record_webhook_change(connection, principal, entity, "create", stored)
    return slack_view(connection, entity, stored)


def get(connection: Connection, principal: Principal, entity_name: str, slack_id: str) -> SlackView:
    """One Slack integration. Raises NotFound."""
    entity = require(connection, principal, entity_name, Action.READ)
    return slack_view(connection, entity, load_slack(connection, entity, slack_id))


def change(
    connection: Connection, principal: Principal, entity_name: str, slack_id: str, patch: object, *, checks: Checks
) -> SlackView:
    """Change a Slack integration by a JSON merge patch. Enabling it again clears why and since when it was failing.

    Raises:
        InvalidDefinition: naming each fault.
        Conflict: when the name is taken.
    """
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    lock_edits(connection)
    stored = load_slack(connection, entity, slack_id)
    before = slack_body(stored)
    fields = check_slack(connection, entity, apply_patch(before, patch), checks=checks)
    stored = webhooks.save_webhook(connection, entity, stored, fields, by=principal.user_name)
    if changed := changed_members(before, slack_body(stored)):
        webhooks.record_webhook_change(connection, principal, entity, "update", stored, changed=changed)
    return slack_view(connection, entity, stored)


def delete(connection: Connection, principal: Principal, entity_name: str, slack_id: str) -> None:
    """Delete a Slack integration. What is pending for it becomes dead letters.

    Raises:
        Conflict: naming the automations that use it.
    """
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    lock_edits(connection)
    stored = load_slack(connection, entity, slack_id)
    webhooks.remove_webhook(connection, stored, by=principal.user_name)
    webhooks.record_webhook_change(connection, principal, entity, "delete", stored)


def load_slack(connection: Connection, entity: StoredEntity, slack_id: str) -> StoredWebhook:
    """The entity's Slack integration of this public id. Raises NotFound."""
    number = decode_id(IdKind.SLACK, slack_id)
    stored = number and store.find_webhook(connection, entity.id, webhook_id=number, kind=WebhookKind.SLACK)
    if not stored:
        raise NotFound(f"{entity.name!r} has no Slack integration {slack_id!r}")
    return stored


def check_slack(
    connection: Connection,
    entity: StoredEntity,
    raw: object,
    *,
    checks: Checks,
    known: KnownSecrets | None = None,
    before: WebhookFields | None = None,
) -> WebhookFields:
    """A whole definition, checked, its secret's value included; `known` is for those who check many.

    Raises:
        InvalidDefinition: naming each fault.
    """
    body = parse_body(SlackBody, raw)
    known = known or KnownSecrets(connection, entity, checks)
    faults = known.missing([(("url_secret",), body.url_secret)])
    if not faults:
        faults = known.unfit([(("url_secret",), body.url_secret, SecretUses(as_url=True))])
    if faults:
        raise InvalidDefinition(*faults)
    return WebhookFields(
        name=body.name,
        url="",
        access_token=None,
        signing_secret=None,
        secrets=(),
        policy=body.policy.stored_form(),
        enabled=body.enabled,
        paused=body.paused,
        kind=WebhookKind.SLACK,
        url_secret=body.url_secret,
        slack_team=body.team,
        slack_channel=body.channel,
    )


def slack_body(stored: StoredWebhook) -> dict[str, Any]:
    """The Slack integration in the form that `check_slack` takes."""
    return body_of_fields(stored.fields)


def body_of_fields(fields: WebhookFields) -> dict[str, Any]:
    """The fields of a Slack integration in the form that `check_slack` takes."""
    return {
        "name": fields.name,
        "url_secret": fields.url_secret,
        "team": fields.slack_team,
        "channel": fields.slack_channel,
        "policy": whole_policy(fields.policy),
        "enabled": fields.enabled,
        "paused": fields.paused,
    }


def slack_view(connection: Connection, entity: StoredEntity, stored: StoredWebhook) -> SlackView:
    """The Slack integration as it is answered."""
    return SlackView(
        **slack_body(stored),
        id=public_id(WebhookKind.SLACK, stored.id),
        entity=entity.name,
        disabled_reason=stored.disabled_reason,
        failing_since=stored.failing_since,
        circuit=circuit_view(connection, stored.circuit),
        revision=stored.revision,
        created_at=stored.created_at,
        updated_at=stored.updated_at,
    )
