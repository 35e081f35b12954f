"""Trying a webhook now: one request with a sample payload, signed as a delivery's, shown with its secrets masked.

Nothing is stored, and nothing is retried. Must not be given to anyone who may not see the endpoint's answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from pydantic import Field
from sqlalchemy import Connection

from dispatcher.control.access import Action, require
from dispatcher.control.bodies import Body, View, parse_body
from dispatcher.control.webhook_checks import grants_of
from dispatcher.control.webhooks import load_webhook
from shared.domain.delivery.diagnosis import Credentials, diagnose
from shared.domain.delivery.outcomes import Outcome
from shared.domain.delivery.retries import DeliveryPolicy
from shared.domain.delivery.signing import signature_headers, unsigned_headers
from shared.domain.errors import InvalidDefinition
from shared.domain.payloads.masking import Mask
from shared.domain.payloads.samples import sample_values
from shared.domain.payloads.sealed import ACCESS_TOKEN, SecretsTooLarge, mask_payload, open_payload
from shared.domain.payloads.templates import Template, default_payload, parse_payload
from shared.http.request import USER_AGENT, Request
from shared.http.tls import TlsContexts
from shared.storage.accounts.users import Principal
from shared.storage.definitions.secrets import ciphertexts
from shared.storage.definitions.webhooks import WebhookFields
from shared.storage.delivery.history import new_delivery_id
from shared.vault import Vault


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


@dataclass(frozen=True, slots=True)
class Trial:
    """A request that is ready to be sent, and what of it may be shown. It holds secrets in the clear."""

    request: Request = field(repr=False)
    secrets: dict[str, str] = field(repr=False)
    masked_body: str
    credentials: Credentials


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
) -> Trial:
    """The request to a webhook, which may be disabled or paused.

    Raises:
        InvalidDefinition: for a payload that the webhook's automations could not have.
    """
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    stored = load_webhook(connection, entity, webhook_id)
    fields = stored.fields
    template = _template(parse_body(TrialBody, raw), fields)
    shown = {*fields.secrets, *filter(None, (fields.access_token, fields.signing_secret))}
    certificate = fields.client_certificate
    names = shown if certificate is None else {*shown, certificate}
    opened = {name: vault.decrypt(text) for name, text in ciphertexts(connection, entity.id, names).items()}
    values = {name: opened[name] for name in shown}  # the private key of a certificate is never sent
    delivery_id = new_delivery_id()
    samples = sample_values(entity.name, template, delivery_id=delivery_id, now=now)
    sealed = default_payload(samples) if template is None else template.render(samples)
    token = {} if fields.access_token is None else {ACCESS_TOKEN: values[fields.access_token]}
    try:
        body = open_payload(sealed, {**values, **token})
    except SecretsTooLarge as exc:
        raise InvalidDefinition.at(("payload",), str(exc)) from None
    request = Request(
        url=fields.url,
        body=body,
        headers=_headers(fields, values, body, delivery_id=delivery_id, now=now),
        timeout_seconds=(policy := DeliveryPolicy.model_validate(fields.policy)).timeout_seconds,
        connect_timeout_seconds=policy.connect_timeout_seconds,
        tls=None if certificate is None else contexts.with_certificate(stored.id, opened[certificate]),
    )
    credentials = Credentials(
        has_access_token=fields.access_token is not None, has_signing_secret=fields.signing_secret is not None
    )
    return Trial(request, values, mask_payload(sealed), credentials)


def trial_view(trial: Trial, outcome: Outcome) -> TrialView:
    """The trial and what came of it, without any secret's value."""
    headers = trial.request.headers
    if "Authorization" in headers:
        headers = {**headers, "Authorization": f"Bearer ***{ACCESS_TOKEN}***"}
    return TrialView(
        request=TrialRequest(url=trial.request.url, headers=headers, body=orjson.loads(trial.masked_body)),
        response=_response(trial, outcome),
        outcome=str(outcome.kind),
        error=outcome.error,
        diagnosis=diagnose(outcome, trial.credentials),
        duration_ms=round(outcome.duration_seconds * 1000),
    )


def _response(trial: Trial, outcome: Outcome) -> TrialResponse | None:
    if outcome.status is None:
        return None
    body = Mask(trial.secrets)(outcome.response_body, cut=outcome.response_truncated)
    return TrialResponse(status=outcome.status, body=body, truncated=outcome.response_truncated)


def _template(body: TrialBody, fields: WebhookFields) -> Template | None:
    if body.payload is None:
        return None
    grants = grants_of(fields)
    try:
        return parse_payload(body.payload, secrets=grants.secrets, has_access_token=grants.has_access_token)
    except InvalidDefinition as exc:
        raise exc.under("payload") from None


def _headers(
    fields: WebhookFields, values: dict[str, str], body: bytes, *, delivery_id: str, now: datetime
) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT, "hookline-attempt": "1"}
    if fields.access_token is not None:
        headers["Authorization"] = f"Bearer {values[fields.access_token]}"
    if fields.signing_secret is None:
        return headers | unsigned_headers(message_id=delivery_id, timestamp=now)
    secret = values[fields.signing_secret]
    return headers | signature_headers(message_id=delivery_id, timestamp=now, body=body, secret=secret)
