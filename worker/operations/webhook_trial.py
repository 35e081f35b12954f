"""`celery -A worker webhooks test`: one request, made as a drain makes it, and its outcome with secrets masked."""

from __future__ import annotations

import asyncio

from sqlalchemy import Engine

from shared.delivery.webhook_trial import load_for_trial, prepare_trial, slack_test_message
from shared.domain.delivery.outcomes import Outcome
from shared.http.client import WebhookClient
from shared.http.request import Request
from shared.http.tls import TlsContexts
from shared.settings import Settings
from shared.storage.database.clock import database_time
from shared.storage.database.transactions import read_transaction
from shared.storage.definitions.webhook_fields import WebhookKind, public_id
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
        stored = load_for_trial(connection, state.id)
    message = None
    if state.kind == WebhookKind.SLACK:
        message = slack_test_message()
    contexts = TlsContexts(settings)
    trial = prepare_trial(
        stored, entity=state.entity, template=message, vault=Vault.open(settings), contexts=contexts, now=now
    )
    outcome = trial.mask(asyncio.run(_send(settings, trial.request)))
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
        **trial.exchange(outcome),
        "diagnosis": trial.diagnose(outcome),
        "code": trial.code(outcome),
    }


async def _send(settings: Settings, request: Request) -> Outcome:
    sender = WebhookClient(settings)
    try:
        return await sender.send(request)
    finally:
        await sender.aclose()
