"""A test request to a webhook, with sample values. REST and operators' commands make it as a delivery makes its own.

Nothing is stored and nothing is retried. Must not be shown to anyone who may not see the endpoint's answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from shared.delivery.endpoint import Endpoint, open_endpoint
from shared.domain.delivery.diagnosis import Credentials, diagnose, diagnosis_code
from shared.domain.delivery.exchange import Exchange, read_exchange, shown_exchange, stored_exchange
from shared.domain.delivery.outcomes import Outcome
from shared.domain.payloads.content_types import JSON, PayloadTypes
from shared.domain.payloads.samples import sample_values
from shared.domain.payloads.sealed import shown_payload
from shared.domain.payloads.slack_messages import Severity, SlackMessage, parse_slack_message
from shared.domain.payloads.templates import Template, default_payload
from shared.domain.payloads.variables import unfilled_notes
from shared.http.request import Request
from shared.http.tls import TlsContexts
from shared.storage.delivery.history import new_delivery_id
from shared.storage.delivery.webhook_snapshots import SealedSecrets, WebhookSnapshot, load_endpoint, load_secrets
from shared.vault import Vault


@dataclass(frozen=True, slots=True)
class StoredEndpoint:
    """A webhook's snapshot and its encrypted secrets, read in one transaction."""

    webhook: WebhookSnapshot
    secrets: SealedSecrets


@dataclass(frozen=True, slots=True)
class WebhookTrial:
    """A test request that is ready to be sent. It holds secrets in the clear."""

    endpoint: Endpoint = field(repr=False)
    request: Request = field(repr=False)
    sealed_body: str
    shown_body: Any
    """The request's body as people may see it, with `***NAME***` in place of each secret: a value of JSON, or text."""
    notes: tuple[str, ...]
    """What the payload leaves blank, in sentences."""
    credentials: Credentials

    @property
    def shown_url(self) -> str:
        """The URL as people may see it."""
        return self.endpoint.shown_url

    def exchange(self, masked: Outcome) -> dict[str, Any]:
        """The members of `shown_exchange`, of a masked outcome. Signatures are shown, secrets are not."""
        headers = self.endpoint.mask_headers(self.request.headers, signatures=False)
        kept = stored_exchange(masked.exchange or Exchange(), headers)
        return shown_exchange(self.shown_url, read_exchange(kept))

    def mask(self, outcome: Outcome) -> Outcome:
        """The outcome without the secrets that the request carried."""
        return self.endpoint.mask_outcome(outcome, self.sealed_body)

    def diagnose(self, outcome: Outcome) -> str:
        """The meaning of the outcome, in plain words for the endpoint's owner."""
        return diagnose(outcome, self.credentials, self.endpoint.policy)

    def code(self, outcome: Outcome) -> str:
        """The diagnosis as a code, for programs."""
        return str(diagnosis_code(outcome, self.credentials))


@dataclass(frozen=True, slots=True)
class _SampleDelivery:
    """The delivery that a test request pretends to be; it is not stored."""

    id: str
    payload: str
    attempts: int = 0


def slack_test_message() -> SlackMessage:
    """The message that a test of a Slack integration sends."""
    return parse_slack_message(name="hookline", title=_TITLE, message=_MESSAGE, severity=Severity.INFO)


_TITLE = "A test of Hookline"
_MESSAGE = "An administrator tested this integration. Nothing happened to a model."


def load_for_trial(connection: Connection, webhook_id: int) -> StoredEndpoint:
    """Read what a test request to a webhook needs. The webhook may be disabled or paused.

    Raises:
        LookupError: when the webhook is deleted. Callers have found it in the same transaction.
    """
    webhook = load_endpoint(connection, webhook_id, include_inactive=True)
    if webhook is None:
        raise LookupError(f"webhook {webhook_id} is deleted")
    return StoredEndpoint(webhook, load_secrets(connection, webhook))


def prepare_trial(
    stored: StoredEndpoint,
    *,
    entity: str,
    template: Template | SlackMessage | None,
    vault: Vault,
    contexts: TlsContexts,
    now: datetime,
    values: Mapping[str, str] | None = None,
    types: PayloadTypes = PayloadTypes.TEXT,
    content_type: str = JSON,
) -> WebhookTrial:
    """Make a test request.

    Args:
        stored: the webhook, as `load_for_trial` read it.
        entity: the name of its entity, which is one of the sample values.
        template: the payload; None for every variable that has a sample value.
        vault: decrypts the secrets.
        contexts: where the request will be sent from (`WebhookClient.contexts`).
        now: the time of the request and its signature.
        values: the values of variables; None for sample values.
        types: of the values where there is no template.
        content_type: of the request where there is no template.

    Raises:
        SecretUnreadable, EndpointUnusable: as `open_endpoint`.
        SecretsTooLarge: when the payload repeats secrets too often.
    """
    endpoint = open_endpoint(stored.webhook, stored.secrets, vault, contexts)
    delivery_id = new_delivery_id()
    samples = sample_values(entity, template, delivery_id=delivery_id, now=now)
    if values is not None:
        samples = {**values, "delivery_id": delivery_id}
    if template is None:
        sealed = default_payload(samples, content_type=content_type, types=types)
    else:
        sealed = template.render(samples)
    request = endpoint.request(_SampleDelivery(delivery_id, sealed), now, keep_exchange=True)
    return WebhookTrial(
        endpoint=endpoint,
        request=request,
        sealed_body=sealed,
        shown_body=shown_payload(sealed),
        notes=unfilled_notes(template, samples),
        credentials=Credentials(
            has_access_token=stored.secrets.access_token is not None,
            has_signing_secret=endpoint.signer is not None,
            has_basic=stored.secrets.basic_password is not None,
            has_headers=bool(stored.webhook.headers),
        ),
    )
