"""Test requests to webhooks over REST: what a caller may send, and what is shown of it, with secrets masked.

Nothing is stored, and nothing is retried. Must not be answered to a principal who may not see the endpoint's answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import Field
from sqlalchemy import Connection

from dispatcher.control.access import Action, require
from dispatcher.control.automations import load_automation
from dispatcher.control.bodies import Body, View, parse_body, parse_form
from dispatcher.control.errors import Conflict
from dispatcher.control.exchange_views import ConnectionView, HeaderView, TimingsView
from dispatcher.control.slack import load_slack
from dispatcher.control.webhook_checks import Checks, check_webhook, grants_of
from dispatcher.control.webhook_resolver import WebhookResolver
from dispatcher.control.webhooks import load_webhook
from shared.delivery.webhook_trial import (
    StoredEndpoint,
    WebhookTrial,
    load_for_trial,
    prepare_trial,
    slack_test_message,
)
from shared.domain.automations.model import Action as ActionOfAutomation
from shared.domain.automations.model import Automation, WebhookAction
from shared.domain.automations.parsing import template_of
from shared.domain.delivery.outcomes import Outcome
from shared.domain.errors import EndpointUnusable, InvalidDefinition
from shared.domain.events.decoding import check_event
from shared.domain.events.models import RunMetricEvent
from shared.domain.matching.firing_rules import asked_by
from shared.domain.payloads.content_types import ACCEPTED, JSON, PLAIN, PayloadTypes, parse_content_type
from shared.domain.payloads.links import FiringLinks
from shared.domain.payloads.samples import sample_values, values_of_type
from shared.domain.payloads.sealed import SecretsTooLarge
from shared.domain.payloads.slack_messages import SlackMessage
from shared.domain.payloads.templates import PayloadTooLarge, Template
from shared.domain.payloads.variables import MetricFacts, payload_values
from shared.http.tls import TlsContexts
from shared.storage.accounts.users import Principal
from shared.storage.definitions.entities import related_entities
from shared.storage.definitions.secrets import ciphertexts, secret_ids
from shared.storage.definitions.webhook_fields import WebhookFields
from shared.storage.definitions.webhooks import snapshot_of_fields
from shared.storage.delivery.webhook_snapshots import load_secrets
from shared.vault import SecretUnreadable, Vault


class TrialBody(Body):
    """What to send; without a payload, every variable that has a sample value."""

    payload: Any = Field(default=None, description="A payload as in an automation's action.")
    payload_types: PayloadTypes | None = Field(
        default=None, strict=False, description="As in an automation's action; `json` by default."
    )
    content_type: str | None = Field(
        default=None, description=f"As in an automation's action: {ACCEPTED}; `{JSON}` by default."
    )


class DraftTrialBody(TrialBody):
    """A webhook that is not saved, and what to send to it."""

    webhook: dict[str, Any] = Field(description="The definition, as for creating a webhook.")


class AutomationTrialBody(Body):
    """The event whose values the payload has; sample values without one."""

    event: dict[str, Any] | None = Field(default=None, description="A CloudEvents event, as for publishing.")


class TrialRequest(View):
    """The request as it was sent, with secrets masked and signatures shown."""

    url: str
    headers: dict[str, str]
    body: Any
    bytes: int
    """Head and body as they were sent; 0 if there was no connection to send them over."""


class TrialResponse(View):
    """The endpoint's response."""

    status: int
    body: str
    truncated: bool
    headers: list[HeaderView]
    """The first 2 KiB of them, in the order in which they came, without cookies."""
    headers_truncated: bool
    bytes: int
    """What was read of the answer, head and body."""


class TrialView(View):
    """A test request; `response` is null if there was none."""

    request: TrialRequest
    response: TrialResponse | None
    connection: ConnectionView
    timings: TimingsView
    outcome: str
    error: str | None
    diagnosis: str
    """What the outcome means, and what to do about it."""
    code: str
    """The diagnosis as a code, such as `accepted`, `token_missing` or `certificate_expired`."""
    duration_ms: int
    notes: list[str] = Field(default=[], description="What the payload leaves blank, in sentences.")


def prepare(
    connection: Connection,
    principal: Principal,
    entity_name: str,
    webhook_id: str,
    raw: object,
    *,
    vault: Vault,
    contexts: TlsContexts,
    now: datetime,
) -> WebhookTrial:
    """Make the test request to a webhook, which may be disabled or paused.

    Raises:
        InvalidDefinition: for a payload that the webhook's automations could not have.
        EndpointUnusable: when nothing can be sent to it, because a secret can't be read for example.
    """
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    webhook = load_webhook(connection, entity, webhook_id)
    action, template = _tried(parse_body(TrialBody, raw), webhook.fields)
    stored = load_for_trial(connection, webhook.id)
    return _prepare(stored, entity.name, template, vault, contexts, now, action=action)


def prepare_draft(
    connection: Connection,
    principal: Principal,
    entity_name: str,
    raw: object,
    *,
    checks: Checks,
    contexts: TlsContexts,
    now: datetime,
) -> WebhookTrial:
    """Make the test request to a webhook that is not stored. It raises as `prepare` and as creating a webhook does."""
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    body = parse_form(DraftTrialBody, raw)
    try:
        fields = check_webhook(connection, entity, body.webhook, checks=checks)
    except InvalidDefinition as exc:
        raise exc.under("webhook") from None
    members = {name: getattr(body, name) for name in TrialBody.model_fields}
    action, template = _tried(parse_body(TrialBody, members), fields)
    snapshot = snapshot_of_fields(fields, secret_ids(connection, entity.id))
    granted = ciphertexts(connection, entity.id, fields.secrets)
    stored = StoredEndpoint(snapshot, replace(load_secrets(connection, snapshot), granted=granted))
    return _prepare(stored, entity.name, template, checks.vault, contexts, now, action=action)


def prepare_slack(
    connection: Connection,
    principal: Principal,
    entity_name: str,
    slack_id: str,
    *,
    vault: Vault,
    contexts: TlsContexts,
    now: datetime,
) -> WebhookTrial:
    """Make the test message to a Slack integration, which may be disabled or paused. Raises as `prepare`."""
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    stored = load_for_trial(connection, load_slack(connection, entity, slack_id).id)
    return _prepare(stored, entity.name, slack_test_message(), vault, contexts, now)


def prepare_automation(
    connection: Connection,
    principal: Principal,
    entity_name: str,
    automation_id: str,
    raw: object,
    *,
    vault: Vault,
    contexts: TlsContexts,
    now: datetime,
    console: str | None,
) -> WebhookTrial:
    """Make the request that an automation would make, with sample values or with those of a given event.

    Whether the automation would fire for that event is not asked: a dry run answers it. It needs the administrator's
    role in the entity whose webhook it is. `console` is the console's address, where it is known.

    Raises:
        Conflict: for an automation without a webhook.
        InvalidDefinition: for an event that is not one of the automation's type and entity.
    """
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    saved = load_automation(connection, entity, automation_id)
    resolved = WebhookResolver(connection, entity, principal, kept=saved).parse(saved.definition, was=saved.definition)
    webhook = resolved.webhook
    if webhook is None:
        raise Conflict(f"automation {saved.name!r} calls no webhook: there is nothing to test")
    if webhook.entity_id != entity.id:
        owner = related_entities(connection, entity.id)[webhook.entity_id]
        require(connection, principal, owner, Action.ADMINISTER)
    template = resolved.automation.template
    event = parse_form(AutomationTrialBody, raw).event
    links = None if console is None else FiringLinks(console, entity.name, saved.id, None)
    if event is None:
        samples = sample_values(entity.name, template, delivery_id="", now=now)
        values = values_of_type(samples, resolved.automation.event)
        if links is not None and "automation_url" in asked_by(resolved.automation):
            values["automation_url"] = links.automation_url
    else:
        values = _event_values(event, resolved.automation, entity.name, links)
    stored = load_for_trial(connection, webhook.id)
    return _prepare(
        stored, entity.name, template, vault, contexts, now, values=values, action=resolved.automation.action
    )


def _event_values(raw: object, automation: Automation, entity: str, links: FiringLinks | None) -> dict[str, str]:
    try:
        event = check_event(raw)
    except InvalidDefinition as exc:
        raise exc.under("event") from None
    if event.type is not automation.event:
        raise InvalidDefinition.at(("event", "type"), f"must be {automation.event}, as in the automation")
    if event.data.entity != entity:
        raise InvalidDefinition.at(("event", "data", "entity"), f"must be {entity!r}, as in the path")
    metric = None
    if isinstance(event, RunMetricEvent) and automation.conditions:
        condition = automation.conditions[0]
        value = event.data.metrics.get(condition.metric)
        if value is None:
            raise InvalidDefinition.at(("event", "data", "metrics"), f"must have {condition.metric!r}")
        metric = MetricFacts(
            condition.metric,
            value,
            condition.reported_threshold,
            step=event.data.step,
            aggregate=value,
            condition=condition.text,
        )
    return payload_values(event, delivery_id="", metric=metric, asked=asked_by(automation), links=links)


def _prepare(
    stored: StoredEndpoint,
    entity: str,
    template: Template | SlackMessage | None,
    vault: Vault,
    contexts: TlsContexts,
    now: datetime,
    *,
    values: Mapping[str, str] | None = None,
    action: ActionOfAutomation | None = None,
) -> WebhookTrial:
    of_webhook = action if isinstance(action, WebhookAction) else WebhookAction("")
    try:
        return prepare_trial(
            stored,
            entity=entity,
            template=template,
            vault=vault,
            contexts=contexts,
            now=now,
            values=values,
            types=of_webhook.payload_types,
            content_type=of_webhook.content_type,
        )
    except (SecretsTooLarge, PayloadTooLarge) as exc:
        raise InvalidDefinition.at(("payload",), str(exc)) from None
    except SecretUnreadable as exc:
        raise EndpointUnusable(str(exc)) from None


def trial_view(trial: WebhookTrial, outcome: Outcome) -> TrialView:
    """The test request and its outcome, without any secret's value."""
    shown = trial.mask(outcome)
    exchange = trial.exchange(shown)
    return TrialView(
        request=TrialRequest(**exchange["request"], body=trial.shown_body),
        response=_response(shown, exchange),
        connection=exchange["connection"],
        timings=exchange["timings"],
        outcome=str(shown.kind),
        error=shown.error,
        diagnosis=trial.diagnose(shown),
        code=trial.code(shown),
        duration_ms=round(shown.duration_seconds * 1000),
        notes=list(trial.notes),
    )


def _response(outcome: Outcome, exchange: dict[str, Any]) -> TrialResponse | None:
    if outcome.status is None:
        return None
    return TrialResponse(
        status=outcome.status,
        body=outcome.response_body,
        truncated=outcome.response_truncated,
        headers=exchange["response_headers"],
        headers_truncated=exchange["response_headers_truncated"],
        bytes=exchange["response_bytes"],
    )


def _tried(body: TrialBody, fields: WebhookFields) -> tuple[WebhookAction, Template | None]:
    """The action that is tried, and its payload's template."""
    try:
        content_type = JSON if body.content_type is None else parse_content_type(body.content_type)
    except InvalidDefinition as exc:
        raise exc.under("content_type") from None
    action = WebhookAction(fields.name, body.payload, body.payload_types or PayloadTypes.JSON, content_type)
    if body.payload is None and content_type == PLAIN:
        raise InvalidDefinition.at(("payload",), f"is required with the content type {PLAIN}: the text to send")
    try:
        return action, template_of(action, grants_of(fields), None)
    except InvalidDefinition as exc:
        raise exc.under("payload") from None
