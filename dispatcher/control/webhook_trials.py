"""Test requests to webhooks over REST: what a caller may send, and what is shown of it, with secrets masked.

Nothing is stored, and nothing is retried. Must not be answered to a principal who may not see the endpoint's answer.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field
from sqlalchemy import Connection

from dispatcher.control.access import Action, require
from dispatcher.control.bodies import Body, View, parse_body
from dispatcher.control.webhook_checks import grants_of
from dispatcher.control.webhooks import load_webhook
from shared.delivery.webhook_trial import WebhookTrial, load_for_trial, prepare_trial
from shared.domain.delivery.outcomes import Outcome
from shared.domain.errors import EndpointUnusable, InvalidDefinition
from shared.domain.json_text import read_json
from shared.domain.payloads.sealed import ACCESS_TOKEN, SecretsTooLarge
from shared.domain.payloads.templates import Template, parse_payload
from shared.http.tls import TlsContexts
from shared.storage.accounts.users import Principal
from shared.storage.definitions.webhooks import WebhookFields
from shared.vault import SecretUnreadable, Vault


class TrialBody(Body):
    """What to send; without a payload, every variable that has a sample value."""

    payload: dict[str, Any] | None = Field(default=None, description="A payload as in an automation's action.")


class TrialRequest(View):
    """The request as it was sent, with secrets masked and signatures shown."""

    url: str
    headers: dict[str, str]
    body: Any


class TrialResponse(View):
    """The endpoint's response."""

    status: int
    body: str
    truncated: bool


class TrialView(View):
    """A test request; `response` is null if there was none."""

    request: TrialRequest
    response: TrialResponse | None
    outcome: str
    error: str | None
    diagnosis: str
    """What the outcome means, and what to do about it."""
    duration_ms: int


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
    template = _template(parse_body(TrialBody, raw), webhook.fields)
    stored = load_for_trial(connection, webhook.id)
    try:
        return prepare_trial(stored, entity=entity.name, template=template, vault=vault, contexts=contexts, now=now)
    except SecretsTooLarge as exc:
        raise InvalidDefinition.at(("payload",), str(exc)) from None
    except SecretUnreadable as exc:
        raise EndpointUnusable(str(exc)) from None


def trial_view(trial: WebhookTrial, outcome: Outcome) -> TrialView:
    """The test request and its outcome, without any secret's value."""
    headers, shown = trial.request.headers, trial.mask(outcome)
    if "Authorization" in headers:
        headers = {**headers, "Authorization": f"Bearer ***{ACCESS_TOKEN}***"}
    return TrialView(
        request=TrialRequest(url=trial.request.url, headers=headers, body=read_json(trial.masked_body)),
        response=_response(shown),
        outcome=str(shown.kind),
        error=shown.error,
        diagnosis=trial.diagnose(shown),
        duration_ms=round(shown.duration_seconds * 1000),
    )


def _response(outcome: Outcome) -> TrialResponse | None:
    if outcome.status is None:
        return None
    return TrialResponse(status=outcome.status, body=outcome.response_body, truncated=outcome.response_truncated)


def _template(body: TrialBody, fields: WebhookFields) -> Template | None:
    if body.payload is None:
        return None
    grants = grants_of(fields)
    try:
        return parse_payload(body.payload, secrets=grants.secrets, has_access_token=grants.has_access_token)
    except InvalidDefinition as exc:
        raise exc.under("payload") from None
