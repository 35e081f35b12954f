"""`celery -A worker webhooks test`: one request, made as a drain makes it, and its outcome with secrets masked."""

from __future__ import annotations

import asyncio
from datetime import datetime

from sqlalchemy import Engine

from shared.delivery.endpoint import open_endpoint
from shared.domain.delivery.diagnosis import Credentials, diagnose
from shared.domain.delivery.outcomes import Outcome
from shared.domain.payloads.samples import sample_values
from shared.domain.payloads.slack_messages import Severity, parse_slack_message
from shared.domain.payloads.templates import default_payload
from shared.http.client import WebhookClient
from shared.http.request import Request
from shared.http.tls import TlsContexts
from shared.settings import Settings
from shared.storage.database.clock import database_time
from shared.storage.database.transactions import read_transaction
from shared.storage.definitions.webhooks import WebhookKind, public_id
from shared.storage.delivery.claims import ClaimedDelivery
from shared.storage.delivery.history import new_delivery_id
from shared.storage.delivery.webhook_snapshots import load_endpoint, load_secrets
from shared.vault import Vault
from worker.operations.audit import Row
from worker.operations.lookup import resolve_webhook


def send_test(settings: Settings, engine: Engine, webhook: str, entity: str | None) -> Row:
    """Send one request with sample values. Nothing is stored, and nothing is retried.

    Raises:
        InvalidDefinition: when there is no such webhook.
        SecretUnreadable, EndpointUnusable: when nothing can be sent to it, as `open_endpoint`.
    """
    with read_transaction(engine) as connection:
        now = database_time(connection)
        state = resolve_webhook(connection, webhook, entity, now)
        row = load_endpoint(connection, state.id, include_inactive=True)
        assert row is not None  # noqa: S101 - found in this transaction
        secrets = load_secrets(connection, row)
    endpoint = open_endpoint(row, secrets, Vault.open(settings), TlsContexts(settings))
    id_ = new_delivery_id()
    samples = sample_values(state.entity, None, delivery_id=id_, now=now)
    payload = default_payload(samples)
    if state.kind == WebhookKind.SLACK:
        message = parse_slack_message(name="hookline", title=_TITLE, message=_MESSAGE, severity=Severity.INFO)
        payload = message.render(samples)
    request = endpoint.request(_delivery(id_, payload, state.entity, now), now)
    outcome = endpoint.masked(asyncio.run(_sent(settings, request)))
    credentials = Credentials(
        has_access_token=secrets.access_token is not None, has_signing_secret=endpoint.signer is not None
    )
    return {
        "id": public_id(state.kind, state.id),
        "entity": state.entity,
        "name": state.name,
        "state": state.word(now),
        "url": state.url or None,
        "outcome": str(outcome.kind),
        "status": outcome.status,
        "error": outcome.error,
        "duration_ms": round(outcome.duration_seconds * 1000),
        "response_body": outcome.response_body,
        "diagnosis": diagnose(outcome, credentials),
    }


_TITLE = "A test of Hookline"
_MESSAGE = "A Hookline operator tested this integration. Nothing happened to a model."


def _delivery(id_: str, payload: str, entity: str, now: datetime) -> ClaimedDelivery:
    return ClaimedDelivery(
        seq=0,
        id=id_,
        payload=payload,
        attempts=0,
        event_received_at=now,
        due_at=now,
        automation_id=None,
        entity=entity,
        event_id="sample-event",
        event_source="/hookline",
        event_type="ADD_ARTIFACT_ALIAS",
    )


async def _sent(settings: Settings, request: Request) -> Outcome:
    sender = WebhookClient(settings)
    try:
        return await sender.send(request)
    finally:
        await sender.aclose()
