"""Webhooks: endpoint, authentication, granted secrets and delivery policy.

`save_webhook`, `check_automations` and `remove_webhook` also take Slack integrations: these are webhooks of another
kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from dispatcher.control.access import Action, require
from dispatcher.control.audit import changed_members, new_change
from dispatcher.control.bodies import View, apply_patch
from dispatcher.control.circuits import CircuitView, circuit_view
from dispatcher.control.errors import Conflict, NotFound
from dispatcher.control.quotas import within_quotas
from dispatcher.control.webhook_checks import BasicBody, Checks, check_webhook, grants_of
from shared.domain.automations.model import WebhookAction
from shared.domain.automations.parsing import template_of
from shared.domain.delivery.retries import DeliveryPolicy, whole_policy
from shared.domain.delivery.signing import WandbSignature
from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.events.types import EventType
from shared.domain.ids import IdKind, decode_id, encode_id
from shared.storage.accounts.audit_log import NewChange, insert_changes
from shared.storage.accounts.users import Principal
from shared.storage.database.clock import database_time
from shared.storage.definitions import webhooks as store
from shared.storage.definitions.automations import StoredAutomation, automations_of_webhook
from shared.storage.definitions.entities import StoredEntity
from shared.storage.definitions.revisions import lock_edits, next_revision, next_revisions
from shared.storage.definitions.secrets import ciphertexts, secret_ids
from shared.storage.definitions.webhook_fields import WebhookFields, WebhookKind, public_id
from shared.storage.definitions.webhooks import StoredWebhook, WebhookEdit
from shared.storage.delivery.abandon import abandon_deliveries
from shared.storage.delivery.history import DELETED_REASON
from shared.vault import Vault

_WORDS = {WebhookKind.WEBHOOK: "webhook", WebhookKind.SLACK: "Slack integration"}


class WebhookView(View):
    """A webhook."""

    id: str
    entity: str
    name: str
    url: str | None
    """With secrets by their names, as `${NAME}`; null where `url_secret` names the URL."""
    url_secret: str | None
    access_token: str | None
    basic: BasicBody | None
    headers: dict[str, str]
    """With secrets by their names, as `${NAME}`."""
    signing_secret: str | None
    former_signing_secret: str | None
    former_signing_until: datetime | None
    wandb_signature: WandbSignature
    client_certificate: str | None
    secrets: list[str]
    policy: DeliveryPolicy
    enabled: bool
    paused: bool
    disabled_reason: str | None
    failing_since: datetime | None
    """Since when nothing but failures came back; null after a success."""
    circuit: CircuitView
    unreadable_secrets: list[str]
    """The secrets of it that can't be decrypted with this API's keys: nothing can be sent until they are readable."""
    revision: int
    created_at: datetime
    updated_at: datetime


def create(
    connection: Connection, principal: Principal, entity_name: str, raw: object, *, checks: Checks
) -> WebhookView:
    """Store a new webhook.

    Raises:
        InvalidDefinition: naming each fault.
        Conflict: when the entity has a webhook of this name.
    """
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    lock_edits(connection)
    stored = save_webhook(
        connection, entity, None, check_webhook(connection, entity, raw, checks=checks), by=principal.user_name
    )
    record_webhook_change(connection, principal, entity, "create", stored)
    return webhook_view(connection, entity, stored, vault=checks.vault)


def get(
    connection: Connection, principal: Principal, entity_name: str, webhook_id: str, *, vault: Vault
) -> WebhookView:
    """One webhook. Raises NotFound."""
    entity = require(connection, principal, entity_name, Action.READ)
    stored = load_webhook(connection, entity, webhook_id)
    return webhook_view(connection, entity, stored, vault=vault)


def change(
    connection: Connection, principal: Principal, entity_name: str, webhook_id: str, patch: object, *, checks: Checks
) -> WebhookView:
    """Change a webhook by a JSON merge patch. Enabling it again clears why and since when it was failing.

    Raises:
        InvalidDefinition: naming each fault.
        Conflict: when the name is taken, or automations use what would be taken away.
    """
    return _edit(
        connection, principal, entity_name, webhook_id, lambda before: apply_patch(before, patch), checks=checks
    )


def replace(
    connection: Connection,
    principal: Principal,
    entity_name: str,
    webhook_id: str,
    body: Mapping[str, Any],
    *,
    checks: Checks,
) -> WebhookView:
    """Make a webhook what a whole definition says; `enabled` and `paused` stay where it lacks them. Raises as `change`.

    Unlike a merge patch it takes out what is not named, and keeps a null where it means one, as in a success rule.
    """

    def whole(before: dict[str, Any]) -> dict[str, Any]:
        return {"enabled": before["enabled"], "paused": before["paused"], **body}

    return _edit(connection, principal, entity_name, webhook_id, whole, checks=checks)


def _edit(
    connection: Connection,
    principal: Principal,
    entity_name: str,
    webhook_id: str,
    wanted: Callable[[dict[str, Any]], Any],
    *,
    checks: Checks,
) -> WebhookView:
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    lock_edits(connection)
    stored = load_webhook(connection, entity, webhook_id)
    before = webhook_body(stored)
    fields = check_webhook(connection, entity, wanted(before), checks=checks, before=stored.fields)
    stored = save_webhook(connection, entity, stored, fields, by=principal.user_name)
    check_automations(connection, stored)
    if changed := changed_members(before, webhook_body(stored)):
        record_webhook_change(connection, principal, entity, "update", stored, changed=changed)
    return webhook_view(connection, entity, stored, vault=checks.vault)


def delete(connection: Connection, principal: Principal, entity_name: str, webhook_id: str) -> None:
    """Delete a webhook. What is pending for it becomes dead letters.

    Raises:
        Conflict: naming the automations that use it.
    """
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    lock_edits(connection)
    stored = load_webhook(connection, entity, webhook_id)
    remove_webhook(connection, stored, by=principal.user_name)
    record_webhook_change(connection, principal, entity, "delete", stored)


def load_webhook(connection: Connection, entity: StoredEntity, webhook_id: str) -> StoredWebhook:
    """The entity's webhook of this public id. Raises NotFound."""
    number = decode_id(IdKind.WEBHOOK, webhook_id)
    stored = None if number is None else store.find_webhook(connection, entity.id, webhook_id=number)
    if stored is None:
        raise NotFound(f"{entity.name!r} has no webhook {webhook_id!r}")
    return stored


def webhook_id_of(
    connection: Connection,
    principal: Principal,
    entity_name: str,
    name: str,
    action: Action,
    *,
    kind: WebhookKind = WebhookKind.WEBHOOK,
) -> str:
    """The public id of the entity's webhook of this name and kind, whatever it looks like, for who may do `action`.

    Raises:
        NotFound: there is none, or no such entity to this principal.
        Forbidden: the principal may not do `action`.
    """
    entity = require(connection, principal, entity_name, action)
    stored = store.find_webhook(connection, entity.id, name=name, kind=kind)
    if stored is None:
        raise NotFound(f"{entity.name!r} has no {_WORDS[kind]} that is named {name!r}")
    return public_id(kind, stored.id)


def save_webhook(
    connection: Connection, entity: StoredEntity, stored: StoredWebhook | None, fields: WebhookFields, *, by: str
) -> StoredWebhook:
    """Store checked fields as a new webhook or over `stored`, under a new revision unless nothing changes.

    `by` is the user's name, here and below. The caller holds `lock_edits`, and calls `check_automations` after changing
    a webhook.

    Raises:
        Conflict: when another webhook has the name.
        QuotaExceeded: when the entity has as many as it may have.
    """
    if stored is not None and stored.fields == fields:
        return stored
    namesake = store.find_webhook(connection, entity.id, name=fields.name, kind=None)
    if namesake is not None and (stored is None or namesake.id != stored.id):
        raise name_conflict(entity, namesake.fields.kind, fields.name)
    with within_quotas(connection, entity):
        return save_webhooks(connection, entity, [(stored, fields)], by=by)[0]


def name_conflict(entity: StoredEntity, kind: WebhookKind, name: str) -> Conflict:
    """The refusal of a name that one of this kind has already."""
    message = f"{entity.name!r} has a {_WORDS[kind]} {name!r} already"
    accepted = "must be a name that no other webhook or Slack integration of the entity has"
    return Conflict(message, FieldError(("name",), accepted))


def save_webhooks(
    connection: Connection,
    entity: StoredEntity,
    edits: Sequence[tuple[StoredWebhook | None, WebhookFields]],
    *,
    by: str,
) -> list[StoredWebhook]:
    """Store checked fields whose names are free, in few statements; returns the webhooks in the same order.

    Each gets a revision of its own, unless nothing changes. The caller holds `lock_edits`.
    """
    changed = [(stored, fields) for stored, fields in edits if stored is None or stored.fields != fields]
    if not changed:
        return [stored for stored, _ in edits if stored is not None]
    ids, revisions = secret_ids(connection, entity.id), next_revisions(connection, len(changed))
    now = database_time(connection)
    new, old = [], []
    for (stored, fields), revision in zip(changed, revisions, strict=True):
        if stored is None:
            new.append((fields, revision))
        else:
            old.append(
                WebhookEdit(
                    stored=stored,
                    after=fields,
                    revision=revision,
                    clear_failures=fields.enabled and not stored.fields.enabled,
                )
            )
    store.update_webhooks(connection, old, secret_ids=ids, now=now, by=by)
    made = iter(store.insert_webhooks(connection, entity.id, new, secret_ids=ids, now=now, by=by))
    numbers = [next(made) if stored is None else stored.id for stored, _ in edits]
    written = {one.id: one for one in store.many_webhooks(connection, entity.id, ids=numbers)}
    return [written[number] for number in numbers]


def check_automations(connection: Connection, webhook: StoredWebhook) -> None:
    """Check that the payloads of the webhook's automations, of any entity, use only secrets that it grants.

    Raises:
        Conflict: naming those that don't.
    """
    check_users(webhook, automations_of_webhook(connection, webhook.id))


def check_users(webhook: StoredWebhook, users: Sequence[StoredAutomation]) -> None:
    """Check `users`, the automations that call the webhook, as `check_automations` does."""
    grants = grants_of(webhook.fields)
    broken = []
    for automation in users:
        definition = automation.definition
        try:
            if "webhook" in definition["action"]:
                template_of(WebhookAction.of_json(definition["action"]), grants, EventType(definition["event"]))
        except InvalidDefinition:
            broken.append(automation)
    if broken:
        names = _names(broken, webhook)
        message = f"these automations need secrets that this would remove from webhook {webhook.name!r}: {names}"
        raise Conflict(message, FieldError(("secrets",), f"must keep the secrets that are in the payloads of {names}"))


def remove_webhook(connection: Connection, webhook: StoredWebhook, *, by: str) -> None:
    """Delete a webhook; the caller holds `lock_edits`. Raises Conflict as `delete`."""
    users = automations_of_webhook(connection, webhook.id)
    if users:
        what, names = _WORDS[webhook.fields.kind], _names(users, webhook)
        raise Conflict(f"{what} {webhook.name!r} is in use by the automations {names}: change or delete them first")
    now = database_time(connection)  # leases are by it
    abandon_deliveries(connection, webhook.id, reason=DELETED_REASON, now=now)
    store.delete_webhook(connection, webhook, revision=next_revision(connection), now=now, by=by)


def _names(users: Sequence[StoredAutomation], webhook: StoredWebhook) -> str:
    own = webhook.entity_id
    return ", ".join(repr(u.name) if u.entity_id == own else f"{u.name!r} of {u.entity!r}" for u in users)


def record_webhook_change(
    connection: Connection,
    principal: Principal,
    entity: StoredEntity,
    did: str,
    stored: StoredWebhook,
    changed: Sequence[str] = (),
) -> None:
    """Write the row of `webhook_change` to the audit log, as `webhook.create`, `slack.update` and so on."""
    insert_changes(connection, [webhook_change(principal, entity, did, stored, changed)])


def webhook_change(
    principal: Principal, entity: StoredEntity, did: str, stored: StoredWebhook, changed: Sequence[str] = ()
) -> NewChange:
    """The audit log's row of a change: `did` is create, update or delete, `changed` names the members of an update."""
    kind, detail = stored.fields.kind, {"changed": list(changed)} if changed else {}
    target_id = public_id(kind, stored.id)
    return new_change(principal, f"{kind}.{did}", entity=entity, target_id=target_id, name=stored.name, **detail)


def webhook_body(stored: StoredWebhook) -> dict[str, Any]:
    """The webhook in the form that `check_webhook` takes."""
    return body_of_fields(stored.fields)


def body_of_fields(fields: WebhookFields) -> dict[str, Any]:
    """The fields of a webhook in the form that `check_webhook` takes."""
    until = fields.former_signing_until
    return {
        "name": fields.name,
        "url": fields.url if fields.url_secret is None else None,
        "url_secret": fields.url_secret,
        "access_token": fields.access_token,
        "basic": _basic(fields),
        "headers": dict(fields.headers),
        "signing_secret": fields.signing_secret,
        "former_signing_secret": fields.former_signing_secret,
        "former_signing_until": None if until is None else until.isoformat().replace("+00:00", "Z"),
        "wandb_signature": str(fields.wandb_signature),
        "client_certificate": fields.client_certificate,
        "secrets": list(fields.secrets),
        "policy": whole_policy(fields.policy),
        "enabled": fields.enabled,
        "paused": fields.paused,
    }


def _basic(fields: WebhookFields) -> dict[str, Any] | None:
    if fields.basic_password is None:
        return None
    return {"user": fields.basic_user, "password_secret": fields.basic_password}


def webhook_view(connection: Connection, entity: StoredEntity, stored: StoredWebhook, *, vault: Vault) -> WebhookView:
    """The webhook as it is answered."""
    return view_of(connection, entity, stored, unreadable_secrets(connection, entity, [stored], vault))


def unreadable_secrets(
    connection: Connection, entity: StoredEntity, webhooks: Sequence[StoredWebhook], vault: Vault
) -> frozenset[str]:
    """The secrets that some webhooks use and that no key fits."""
    names = frozenset[str]().union(*(one.fields.used_secrets for one in webhooks))
    stored = ciphertexts(connection, entity.id, names) if names else {}
    return frozenset(name for name, ciphertext in stored.items() if not vault.can_decrypt(ciphertext))


def view_of(
    connection: Connection, entity: StoredEntity, stored: StoredWebhook, unreadable: frozenset[str]
) -> WebhookView:
    """The webhook as it is answered, where its secrets that no key fits are known."""
    return WebhookView(
        **webhook_body(stored),
        id=encode_id(IdKind.WEBHOOK, stored.id),
        entity=entity.name,
        disabled_reason=stored.disabled_reason,
        failing_since=stored.failing_since,
        circuit=circuit_view(connection, stored.circuit),
        unreadable_secrets=sorted(stored.fields.used_secrets & unreadable),
        revision=stored.revision,
        created_at=stored.created_at,
        updated_at=stored.updated_at,
    )
