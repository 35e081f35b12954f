"""What `celery -A worker webhooks …` and remote control do to the storage: list, show, pause and resume.

Functions on an open engine, that know nothing of click. Must not send anything.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, Engine

from shared.delivery.endpoint import open_endpoint
from shared.domain.delivery.retries import DeliveryPolicy
from shared.domain.errors import HooklineError
from shared.http.tls import TlsContexts
from shared.settings import Settings
from shared.storage.database.clock import database_time
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.automations import automations_of_webhook
from shared.storage.definitions.revisions import lock_edits, next_revision
from shared.storage.definitions.webhook_fields import public_id
from shared.storage.definitions.webhooks import StoredWebhook, find_webhook, keep_changed
from shared.storage.delivery.webhook_snapshots import SealedSecrets, WebhookSnapshot, load_endpoint, load_secrets
from shared.storage.delivery.webhook_states import (
    WebhookState,
    count_dead,
    count_dead_by_webhook,
    pause_webhook,
    resume_webhook,
    webhook_names,
    webhook_states,
)
from shared.vault import Vault
from worker.operations.audit import OPERATOR, Row, record_change
from worker.operations.lookup import resolve_entity, resolve_webhook


def list_webhooks(engine: Engine, entity: str | None) -> list[Row]:
    """List the webhooks of one entity, or of all. Raises InvalidDefinition for an entity that does not exist."""
    with read_transaction(engine) as connection:
        now = database_time(connection)
        owner = None if entity is None else resolve_entity(connection, entity).id
        dead = count_dead_by_webhook(connection, owner)
        states = webhook_states(connection, now, entity_id=owner)
        return [{**row_of(state, now), "dead": dead.get(state.id, 0)} for state in states]


def describe_webhook(settings: Settings, engine: Engine, webhook: str, entity: str | None) -> Row:
    """Describe a webhook with all that is known of it. Raises InvalidDefinition as `pause`.

    `unusable` says why no request can be made to it, if so, with this machine's keys and OpenSSL.
    """
    with read_transaction(engine) as connection:
        now = database_time(connection)
        state = resolve_webhook(connection, webhook, entity, now)
        stored = _stored(connection, state)
        users = automations_of_webhook(connection, state.id)
        dead = count_dead(connection, state.id, state.entity_id)
        endpoint = load_endpoint(connection, state.id, include_inactive=True)
        assert endpoint is not None  # noqa: S101 - found in this transaction
        secrets = load_secrets(connection, endpoint)
    fields = stored.fields
    return {
        **row_of(state, now),
        "unusable": _unusable(settings, endpoint, secrets),
        "dead": dead,
        "url": fields.url or None,
        "url_secret": fields.url_secret,
        "access_token": fields.access_token,
        "basic_user": fields.basic_user,
        "basic_password": fields.basic_password,
        "headers": [f"{name}: {value}" for name, value in fields.headers.items()],
        "signing_secret": fields.signing_secret,
        "former_signing_secret": fields.former_signing_secret,
        "former_signing_until": fields.former_signing_until,
        "wandb_signature": str(fields.wandb_signature),
        "client_certificate": fields.client_certificate,
        "secrets": list(fields.secrets),
        "policy": DeliveryPolicy().model_dump(mode="json") | fields.policy,
        "automations": [one.name if one.entity == state.entity else f"{one.entity}/{one.name}" for one in users],
        "created_at": stored.created_at,
    }


def _unusable(settings: Settings, endpoint: WebhookSnapshot, secrets: SealedSecrets) -> str | None:
    try:
        open_endpoint(endpoint, secrets, Vault.open(settings), TlsContexts(settings))
    except HooklineError as exc:
        return str(exc)
    return None


def pause(engine: Engine, webhook: str, entity: str | None, *, by: str = OPERATOR) -> Row:
    """Let a webhook's deliveries wait; `changed` says whether they did not already.

    Raises:
        InvalidDefinition: when there is none of this id or name, or several entities have it.
    """
    with write_transaction(engine) as connection:
        lock_edits(connection)
        now = database_time(connection)
        state = resolve_webhook(connection, webhook, entity, now)
        if changed := not state.paused:
            before = _stored(connection, state)
            pause_webhook(connection, state.id, revision=next_revision(connection), now=now)
            keep_changed(connection, before, now=now, by=by)
            _note(connection, state, ["paused"], now, by)
        return {**_reread(connection, state, now), "changed": changed}


def resume(engine: Engine, webhook: str, entity: str | None, *, by: str = OPERATOR) -> Row:
    """Send to a webhook again, whatever kept deliveries from it. It returns and raises as `pause`."""
    with write_transaction(engine) as connection:
        lock_edits(connection)
        now = database_time(connection)
        state = resolve_webhook(connection, webhook, entity, now)
        if changed := state.word(now) != "active":
            before = _stored(connection, state)
            resume_webhook(connection, state.id, revision=next_revision(connection), now=now)
            keep_changed(connection, before, now=now, by=by)
            _note(connection, state, _cleared(state), now, by)
        return {**_reread(connection, state, now), "changed": changed}


def _stored(connection: Connection, state: WebhookState) -> StoredWebhook:
    stored = find_webhook(connection, state.entity_id, webhook_id=state.id, kind=None)
    assert stored is not None  # noqa: S101 - found in this transaction
    return stored


def _cleared(state: WebhookState) -> list[str]:
    held = {"paused": state.paused, "enabled": not state.enabled, "circuit": state.circuit.opened_at is not None}
    return [member for member, held_it in held.items() if held_it]


def names_of(connection: Connection, webhook_ids: Collection[int]) -> dict[int, Row]:
    """The public id, the entity and the name of each of these webhooks."""
    return {
        one.id: {"id": public_id(one.kind, one.id), "entity": one.entity, "name": one.name}
        for one in webhook_names(connection, ids=webhook_ids)
    }


def row_of(state: WebhookState, now: datetime) -> Row:
    """A webhook as it is listed."""
    return {
        "id": public_id(state.kind, state.id),
        "entity": state.entity,
        "name": state.name,
        "kind": state.kind,
        "state": state.word(now),
        "enabled": state.enabled,
        "paused": state.paused,
        "disabled_reason": state.disabled_reason,
        "failing_since": state.failing_since,
        "circuit": str(state.circuit.state(now)),
        "circuit_failures": state.circuit.failures,
        "circuit_opened_at": state.circuit.opened_at,
        "circuit_next_probe_at": state.circuit.probe_at,
        "lane": "slow" if state.slow else "normal",
        "pending": state.pending,
        "due": state.due,
        "in_flight": state.in_flight,
        "oldest_due_at": state.oldest_due_at,
        "updated_at": state.updated_at,
    }


def _reread(connection: Connection, state: WebhookState, now: datetime) -> Row:
    return row_of(webhook_states(connection, now, webhook_id=state.id)[0], now)


def _note(connection: Connection, state: WebhookState, changed: list[str], now: datetime, by: str) -> None:
    record_change(
        connection,
        f"{state.kind}.update",
        entity_id=state.entity_id,
        target=public_id(state.kind, state.id),
        detail={"name": state.name, "changed": changed},
        now=now,
        by=by,
    )
