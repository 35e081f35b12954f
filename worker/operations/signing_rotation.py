"""`celery -A worker webhooks rotate-signing`: sign with another secret, and with the one before it for a while."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Engine

from shared.domain.delivery.signing import check_new_signing_secret
from shared.domain.errors import InvalidDefinition
from shared.settings import Settings
from shared.storage.database.clock import database_time
from shared.storage.database.transactions import write_transaction
from shared.storage.definitions.revisions import lock_edits, next_revision
from shared.storage.definitions.secrets import ciphertexts, secret_ids
from shared.storage.definitions.webhook_fields import public_id
from shared.storage.definitions.webhooks import WebhookEdit, find_webhook, update_webhooks
from shared.vault import Vault
from worker.operations.audit import OPERATOR, Row, record_change
from worker.operations.lookup import resolve_webhook


def rotate_signing(
    settings: Settings, engine: Engine, webhook: str, secret: str, keep: timedelta, entity: str | None
) -> Row:
    """Have a webhook sign with this secret of its entity, and until `keep` from now with its present one as well.

    Raises:
        InvalidDefinition: when there is no such webhook or secret, the webhook signs with none or with this one
            already, or the secret can't sign.
        SecretUnreadable: when the vault lacks the secret's key.
    """
    with write_transaction(engine) as connection:
        lock_edits(connection)
        now = database_time(connection)
        state = resolve_webhook(connection, webhook, entity, now)
        stored = find_webhook(connection, state.entity_id, webhook_id=state.id)
        if stored is None or stored.fields.signing_secret is None:
            raise InvalidDefinition.at(("webhook",), "signs with no secret yet: set its signing_secret")
        former = stored.fields.signing_secret
        if former == secret:
            raise InvalidDefinition.at(("secret",), "is what the webhook signs with already")
        known = secret_ids(connection, state.entity_id)
        if secret not in known:
            available = ", ".join(known)
            raise InvalidDefinition.at(("secret",), f"must be a secret of {state.entity!r}; available: {available}")
        ciphertext = ciphertexts(connection, state.entity_id, [secret])[secret]
        try:
            check_new_signing_secret(Vault.open(settings).decrypt(ciphertext))
        except InvalidDefinition as exc:
            raise exc.under("secret") from None
        until = now + keep
        after = replace(stored.fields, signing_secret=secret, former_signing_secret=former, former_signing_until=until)
        edit = WebhookEdit(stored=stored, after=after, revision=next_revision(connection), clear_failures=False)
        update_webhooks(connection, [edit], secret_ids=known, now=now, by=OPERATOR)
        changed = ["former_signing_secret", "former_signing_until", "signing_secret"]
        record_change(
            connection,
            "webhook.update",
            entity_id=state.entity_id,
            target=public_id(state.kind, state.id),
            detail={"name": state.name, "changed": changed},
            now=now,
        )
    return {
        "id": public_id(state.kind, state.id),
        "entity": state.entity,
        "name": state.name,
        "signing_secret": secret,
        "former_signing_secret": former,
        "former_signing_until": until,
    }
