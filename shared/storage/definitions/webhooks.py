"""Webhooks and Slack integrations of an entity: rows of one table and two kinds.

The URL of a Slack integration is a secret. Deleted ones stay as rows without secrets, so that deliveries can still name
them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, ScalarSelect, Select, bindparam, delete, func, insert, select, update

from shared.domain.delivery.circuits import Circuit
from shared.domain.delivery.signing import WandbSignature
from shared.storage.database.bulk import among
from shared.storage.database.transactions import recalled
from shared.storage.definitions.kept_revisions import (
    Edited,
    RevisionChange,
    RevisionKind,
    created,
    edited,
    keep_revisions,
)
from shared.storage.definitions.webhook_fields import WebhookFields, WebhookKind, content_of_fields
from shared.storage.delivery.circuits import circuit_columns, circuit_of
from shared.storage.delivery.webhook_snapshots import WebhookSnapshot
from shared.storage.schema.tables import secrets, webhook_secrets, webhooks


@dataclass(frozen=True, slots=True)
class StoredWebhook:
    """One webhook that is not deleted."""

    id: int
    entity_id: int
    fields: WebhookFields
    disabled_reason: str | None
    failing_since: datetime | None
    circuit: Circuit
    revision: int
    created_at: datetime
    updated_at: datetime

    @property
    def name(self) -> str:
        """Its name, unique in the entity."""
        return self.fields.name


_token, _signing, _url = secrets.alias("token"), secrets.alias("signing"), secrets.alias("url_secret")
_certificate, _password, _former = secrets.alias("certificate"), secrets.alias("password"), secrets.alias("former")


def _webhooks(entity_ids: Collection[int] | None = None) -> Select[Any]:
    query = (
        select(
            webhooks,
            _token.c.name.label("access_token"),
            _signing.c.name.label("signing_secret"),
            _url.c.name.label("url_secret"),
            _certificate.c.name.label("client_certificate"),
            _password.c.name.label("basic_password"),
            _former.c.name.label("former_signing_secret"),
            granted_secrets().label("granted"),
        )
        .outerjoin(_token, _token.c.id == webhooks.c.access_token_secret_id)
        .outerjoin(_signing, _signing.c.id == webhooks.c.signing_secret_id)
        .outerjoin(_url, _url.c.id == webhooks.c.url_secret_id)
        .outerjoin(_certificate, _certificate.c.id == webhooks.c.client_certificate_secret_id)
        .outerjoin(_password, _password.c.id == webhooks.c.basic_password_secret_id)
        .outerjoin(_former, _former.c.id == webhooks.c.former_signing_secret_id)
        .where(webhooks.c.deleted_at.is_(None))
    )
    return query if entity_ids is None else query.where(webhooks.c.entity_id.in_(entity_ids))


def find_webhook(
    connection: Connection,
    entity_id: int,
    *,
    webhook_id: int | None = None,
    name: str | None = None,
    kind: WebhookKind | None = WebhookKind.WEBHOOK,
) -> StoredWebhook | None:
    """The entity's webhook of this id, or, without an id, of this name; `kind` None stands for either kind."""
    found = find_webhooks(connection, [entity_id], webhook_id=webhook_id, name=name, kind=kind)
    return found[0] if found else None


def find_webhooks(
    connection: Connection,
    entity_ids: Collection[int],
    *,
    webhook_id: int | None = None,
    name: str | None = None,
    kind: WebhookKind | None = WebhookKind.WEBHOOK,
) -> list[StoredWebhook]:
    """The webhooks of these entities that have this id, or, without an id, this name, in the order of their ids."""

    def find() -> list[StoredWebhook]:
        wanted = webhooks.c.id == webhook_id if webhook_id is not None else webhooks.c.name == name
        query = _webhooks(entity_ids).where(wanted).order_by(webhooks.c.id)
        if kind is not None:
            query = query.where(webhooks.c.kind == kind)
        return _stored(connection.execute(query).all())

    return recalled(connection, ("webhooks", frozenset(entity_ids), webhook_id, name, kind), find)


def find_of_any(connection: Connection, webhook_ids: Collection[int]) -> dict[int, StoredWebhook]:
    """The webhooks and Slack integrations of these ids, of whichever entity, by id."""
    query = _webhooks().where(among(connection, webhooks.c.id, webhook_ids))
    return {one.id: one for one in _stored(connection.execute(query).all())}


def many_webhooks(
    connection: Connection, entity_id: int, *, ids: Collection[int] = (), names: Collection[str] = ()
) -> list[StoredWebhook]:
    """The entity's webhooks of either kind that have one of these ids or names."""
    wanted = among(connection, webhooks.c.id, ids) | among(connection, webhooks.c.name, names)
    return _stored(connection.execute(_webhooks([entity_id]).where(wanted)).all())


def list_webhooks(
    connection: Connection, entity_id: int, *, after: int, limit: int, kind: WebhookKind = WebhookKind.WEBHOOK
) -> list[StoredWebhook]:
    """The entity's webhooks of one kind in the order of their ids."""
    query = _webhooks([entity_id]).where(webhooks.c.id > after, webhooks.c.kind == kind)
    return _stored(connection.execute(query.order_by(webhooks.c.id).limit(limit)).all())


def webhook_names(
    connection: Connection, entity_id: int, *, limit: int, kind: WebhookKind = WebhookKind.WEBHOOK
) -> list[tuple[int, str]]:
    """The ids and names of the entity's webhooks of one kind, by their names."""
    mine = webhooks.c.entity_id == entity_id, webhooks.c.deleted_at.is_(None), webhooks.c.kind == kind
    query = select(webhooks.c.id, webhooks.c.name).where(*mine).order_by(webhooks.c.name).limit(limit)
    return [(row[0], row[1]) for row in connection.execute(query)]


def _stored(rows: Sequence[Row[Any]]) -> list[StoredWebhook]:
    return [
        StoredWebhook(
            id=row.id,
            entity_id=row.entity_id,
            fields=WebhookFields(
                name=row.name,
                url=row.url,
                access_token=row.access_token,
                signing_secret=row.signing_secret,
                secrets=tuple(sorted(row.granted.split(","))) if row.granted else (),
                policy=row.policy,
                enabled=row.enabled,
                paused=row.paused,
                kind=WebhookKind(row.kind),
                url_secret=row.url_secret,
                client_certificate=row.client_certificate,
                slack_team=row.slack_team,
                slack_channel=row.slack_channel,
                headers=row.headers or {},
                basic_user=row.basic_user,
                basic_password=row.basic_password,
                wandb_signature=WandbSignature(row.wandb_signature or WandbSignature.BASE64),
                former_signing_secret=row.former_signing_secret,
                former_signing_until=row.former_signing_until,
            ),
            disabled_reason=row.disabled_reason,
            failing_since=row.failing_since,
            circuit=circuit_of(row),
            revision=row.revision,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
        for row in rows
    ]


def granted_secrets() -> ScalarSelect[str]:
    """The names of the secrets that a webhook grants: no name has a comma."""
    granted = secrets.alias("granted")
    return (
        select(func.aggregate_strings(granted.c.name, ","))
        .select_from(webhook_secrets.join(granted, granted.c.id == webhook_secrets.c.secret_id))
        .where(webhook_secrets.c.webhook_id == webhooks.c.id)
        .scalar_subquery()
    )


def insert_webhook(
    connection: Connection,
    entity_id: int,
    fields: WebhookFields,
    *,
    secret_ids: dict[str, int],
    revision: int,
    now: datetime,
    by: str | None = None,
) -> int:
    """Store a new webhook; `secret_ids` has the id of each secret that `fields` names.

    Raises:
        sqlalchemy.exc.IntegrityError: when the entity has a webhook of this name.
    """
    return insert_webhooks(connection, entity_id, [(fields, revision)], secret_ids=secret_ids, now=now, by=by)[0]


def insert_webhooks(
    connection: Connection,
    entity_id: int,
    new: Sequence[tuple[WebhookFields, int]],
    *,
    secret_ids: dict[str, int],
    now: datetime,
    by: str | None = None,
) -> list[int]:
    """Store new webhooks, each under its own revision; returns their ids in the same order.

    `by` is who makes them, here and below; None stands for Hookline itself.
    """
    if not new:
        return []
    times = {"created_at": now, "updated_at": now}
    rows = [
        {"entity_id": entity_id, "revision": revision, **times, **_columns(fields, secret_ids)}
        for fields, revision in new
    ]
    made = insert(webhooks).returning(webhooks.c.id, sort_by_parameter_order=True)
    numbers = list(connection.scalars(made, rows))
    _grant(connection, {number: fields.secrets for number, (fields, _) in zip(numbers, new, strict=True)}, secret_ids)
    edits = [
        created(number, entity_id, revision, content_of_fields(fields))
        for number, (fields, revision) in zip(numbers, new, strict=True)
    ]
    keep_revisions(connection, RevisionKind.WEBHOOK, edits, by=by, now=now)
    return numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEdit:
    """An edit of one webhook."""

    stored: StoredWebhook
    """As it was."""
    after: WebhookFields
    revision: int
    clear_failures: bool
    """Whether to clear why the webhook was disabled and since when it was failing."""


def update_webhooks(
    connection: Connection,
    edits: Sequence[WebhookEdit],
    *,
    secret_ids: dict[str, int],
    now: datetime,
    by: str | None = None,
) -> None:
    """Write the columns that edits change, and close the circuits, since an edit may have mended the endpoint.

    No other column is written: a worker may have disabled a webhook since it was read.
    """
    alike: defaultdict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for edit in edits:
        old = _columns(edit.stored.fields, secret_ids)
        values = {
            "revision": edit.revision,
            "updated_at": now,
            "resumed_at": now,
            **circuit_columns(Circuit()),
            **{name: value for name, value in _columns(edit.after, secret_ids).items() if value != old[name]},
        }
        if edit.clear_failures:
            values |= {"disabled_reason": None, "failing_since": None}
        alike[tuple(values)].append({"of": edit.stored.id, **values})
    for rows in alike.values():
        connection.execute(update(webhooks).where(webhooks.c.id == bindparam("of")), rows)
    before = {edit.stored.id: edit.stored.fields.secrets for edit in edits}
    granted = {edit.stored.id: edit.after.secrets for edit in edits if edit.after.secrets != before[edit.stored.id]}
    if granted:
        connection.execute(delete(webhook_secrets).where(among(connection, webhook_secrets.c.webhook_id, granted)))
        _grant(connection, granted, secret_ids)
    # Read again, since a worker may have disabled one meanwhile; now they are locked.
    query = _webhooks({edit.stored.entity_id for edit in edits}).where(
        among(connection, webhooks.c.id, [edit.stored.id for edit in edits])
    )
    after = {one.id: one for one in _stored(connection.execute(query).all())}
    kept = [
        _edited(edit.stored, RevisionChange.UPDATE, content_of(after[edit.stored.id]), edit.revision) for edit in edits
    ]
    keep_revisions(connection, RevisionKind.WEBHOOK, kept, by=by, now=now)


def keep_changed(connection: Connection, before: StoredWebhook, *, now: datetime, by: str) -> None:
    """Keep a revision of what this transaction made of a webhook by other means than an edit of its fields."""
    after = find_webhook(connection, before.entity_id, webhook_id=before.id, kind=None)
    if after is None or content_of(after) == content_of(before):
        return
    edit = _edited(before, RevisionChange.UPDATE, content_of(after), after.revision)
    keep_revisions(connection, RevisionKind.WEBHOOK, [edit], by=by, now=now)


def keep_disabled(connection: Connection, webhook_id: int, *, reason: str, now: datetime) -> None:
    """Keep a revision of a webhook that this transaction disabled because of its failures."""
    after = find_of_any(connection, [webhook_id]).get(webhook_id)
    if after is None:
        return
    edit = Edited(
        target_id=after.id,
        entity_id=after.entity_id,
        revision=after.revision,
        change=RevisionChange.UPDATE,
        content=content_of(after),
        before=content_of(after) | {"enabled": True, "disabled_reason": None},
        reason=reason,
    )
    keep_revisions(connection, RevisionKind.WEBHOOK, [edit], by=None, now=now)


def content_of(stored: StoredWebhook) -> dict[str, Any]:
    """What a revision keeps of a webhook: its fields, with the names of its secrets, and why it is disabled."""
    return content_of_fields(stored.fields, stored.disabled_reason)


def _edited(before: StoredWebhook, change: RevisionChange, content: dict[str, Any], revision: int) -> Edited:
    return edited(before, content_of(before), change, content, revision)


def revive_webhook(connection: Connection, webhook_id: int, name: str) -> None:
    """Let a deleted webhook live again, without the secrets that it referred to; an edit must follow."""
    connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(deleted_at=None, name=name))


def kind_of(connection: Connection, entity_id: int, webhook_id: int) -> WebhookKind | None:
    """The kind of an entity's webhook, also of a deleted one; None when the entity never had it."""
    query = select(webhooks.c.kind).where(webhooks.c.entity_id == entity_id, webhooks.c.id == webhook_id)
    kind = connection.scalar(query)
    return None if kind is None else WebhookKind(kind)


def delete_webhook(
    connection: Connection, stored: StoredWebhook, *, revision: int, now: datetime, by: str | None = None
) -> None:
    """Mark a webhook as deleted and remove its references to secrets."""
    webhook_id = stored.id
    connection.execute(delete(webhook_secrets).where(webhook_secrets.c.webhook_id == webhook_id))
    values = {
        "deleted_at": now,
        "updated_at": now,
        "revision": revision,
        "access_token_secret_id": None,
        "signing_secret_id": None,
        "url_secret_id": None,
        "client_certificate_secret_id": None,
        "basic_password_secret_id": None,
        "former_signing_secret_id": None,
    }
    connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(values))
    edit = _edited(stored, RevisionChange.DELETE, content_of(stored), revision)
    keep_revisions(connection, RevisionKind.WEBHOOK, [edit], by=by, now=now)


def _columns(fields: WebhookFields, secret_ids: Mapping[str, int]) -> dict[str, Any]:
    def secret_id(name: str | None) -> int | None:
        return None if name is None else secret_ids[name]

    return {
        "name": fields.name,
        "url": fields.url,
        "kind": fields.kind,
        "url_secret_id": secret_id(fields.url_secret),
        "slack_team": fields.slack_team,
        "slack_channel": fields.slack_channel,
        "access_token_secret_id": secret_id(fields.access_token),
        "signing_secret_id": secret_id(fields.signing_secret),
        "client_certificate_secret_id": secret_id(fields.client_certificate),
        "headers": fields.headers or None,
        "basic_user": fields.basic_user,
        "basic_password_secret_id": secret_id(fields.basic_password),
        "wandb_signature": None if fields.wandb_signature is WandbSignature.BASE64 else fields.wandb_signature,
        "former_signing_secret_id": secret_id(fields.former_signing_secret),
        "former_signing_until": fields.former_signing_until,
        "policy": fields.policy,
        "enabled": fields.enabled,
        "paused": fields.paused,
    }


def snapshot_of_fields(fields: WebhookFields, secret_ids: Mapping[str, int]) -> WebhookSnapshot:
    """What a drain would read of a webhook with these fields, were it stored: for a test of one that is not."""
    columns = _columns(fields, secret_ids)
    names = {one.name for one in dataclass_fields(WebhookSnapshot)} & columns.keys()
    return WebhookSnapshot(
        id=0,
        revision=0,
        edition=0,
        circuit=Circuit(),
        slow=False,
        resumed_at=None,
        **{name: columns[name] for name in names},
    )


def _grant(connection: Connection, granted: Mapping[int, Collection[str]], secret_ids: dict[str, int]) -> None:
    rows = [
        {"webhook_id": webhook_id, "secret_id": secret_ids[name]}
        for webhook_id, names in granted.items()
        for name in names
    ]
    if rows:
        connection.execute(insert(webhook_secrets), rows)
