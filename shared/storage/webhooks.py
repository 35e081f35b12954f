"""Webhooks of an entity. Deleted ones stay as rows without secrets, so that deliveries can still name them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, select, update

from shared.storage.tables import secrets, webhook_secrets, webhooks


@dataclass(frozen=True, slots=True)
class WebhookFields:
    """What an edit writes; secrets by the names of the entity's secrets."""

    name: str
    url: str
    access_token: str | None
    signing_secret: str | None
    secrets: tuple[str, ...]
    policy: dict[str, Any]
    enabled: bool
    paused: bool


@dataclass(frozen=True, slots=True)
class StoredWebhook:
    """One webhook that is not deleted."""

    id: int
    fields: WebhookFields
    disabled_reason: str | None
    failing_since: datetime | None
    revision: int
    created_at: datetime
    updated_at: datetime

    @property
    def name(self) -> str:
        """Its name, unique in the entity."""
        return self.fields.name


_token, _signing = secrets.alias("token"), secrets.alias("signing")


def _webhooks(entity_id: int) -> Select[Any]:
    return (
        select(webhooks, _token.c.name.label("access_token"), _signing.c.name.label("signing_secret"))
        .outerjoin(_token, _token.c.id == webhooks.c.access_token_secret_id)
        .outerjoin(_signing, _signing.c.id == webhooks.c.signing_secret_id)
        .where(webhooks.c.entity_id == entity_id, webhooks.c.deleted_at.is_(None))
    )


def find_webhook(
    connection: Connection, entity_id: int, *, webhook_id: int | None = None, name: str | None = None
) -> StoredWebhook | None:
    """The entity's webhook of this id, or else of this name."""
    wanted = webhooks.c.id == webhook_id if webhook_id is not None else webhooks.c.name == name
    found = _stored(connection, connection.execute(_webhooks(entity_id).where(wanted)).all())
    return found[0] if found else None


def list_webhooks(connection: Connection, entity_id: int, *, after: int, limit: int) -> list[StoredWebhook]:
    """The entity's webhooks in the order of their ids."""
    query = _webhooks(entity_id).where(webhooks.c.id > after).order_by(webhooks.c.id).limit(limit)
    return _stored(connection, connection.execute(query).all())


def _stored(connection: Connection, rows: Sequence[Row[Any]]) -> list[StoredWebhook]:
    granted = _granted(connection, (row.id for row in rows))
    return [
        StoredWebhook(
            id=row.id,
            fields=WebhookFields(
                name=row.name,
                url=row.url,
                access_token=row.access_token,
                signing_secret=row.signing_secret,
                secrets=tuple(sorted(granted[row.id])),
                policy=row.policy,
                enabled=row.enabled,
                paused=row.paused,
            ),
            disabled_reason=row.disabled_reason,
            failing_since=row.failing_since,
            revision=row.revision,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
        for row in rows
    ]


def _granted(connection: Connection, webhook_ids: Iterable[int]) -> dict[int, list[str]]:
    query = (
        select(webhook_secrets.c.webhook_id, secrets.c.name)
        .join(secrets, secrets.c.id == webhook_secrets.c.secret_id)
        .where(webhook_secrets.c.webhook_id.in_(list(webhook_ids)))
    )
    granted = defaultdict(list)
    for webhook_id, name in connection.execute(query):
        granted[webhook_id].append(name)
    return granted


def insert_webhook(
    connection: Connection,
    entity_id: int,
    fields: WebhookFields,
    *,
    secret_ids: dict[str, int],
    revision: int,
    now: datetime,
) -> int:
    """Store a new webhook; `secret_ids` has the id of each secret that `fields` names.

    Raises:
        sqlalchemy.exc.IntegrityError: when the entity has a webhook of this name.
    """
    statement = (
        insert(webhooks)
        .values(entity_id=entity_id, revision=revision, created_at=now, updated_at=now, **_columns(fields, secret_ids))
        .returning(webhooks.c.id)
    )
    webhook_id = int(connection.execute(statement).scalar_one())
    _grant(connection, webhook_id, [secret_ids[name] for name in fields.secrets])
    return webhook_id


def update_webhook(
    connection: Connection,
    webhook_id: int,
    fields: WebhookFields,
    *,
    secret_ids: dict[str, int],
    revision: int,
    now: datetime,
    clear_failures: bool,
) -> None:
    """Write an edit. `clear_failures` forgets why and since when the webhook was disabled or failing."""
    values = {"revision": revision, "updated_at": now, **_columns(fields, secret_ids)}
    if clear_failures:
        values |= {"disabled_reason": None, "failing_since": None}
    connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(values))
    connection.execute(delete(webhook_secrets).where(webhook_secrets.c.webhook_id == webhook_id))
    _grant(connection, webhook_id, [secret_ids[name] for name in fields.secrets])


def delete_webhook(connection: Connection, webhook_id: int, *, revision: int, now: datetime) -> None:
    """Mark a webhook as deleted and let go of its secrets."""
    connection.execute(delete(webhook_secrets).where(webhook_secrets.c.webhook_id == webhook_id))
    values = {
        "deleted_at": now,
        "updated_at": now,
        "revision": revision,
        "access_token_secret_id": None,
        "signing_secret_id": None,
    }
    connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(values))


def _columns(fields: WebhookFields, secret_ids: dict[str, int]) -> dict[str, Any]:
    return {
        "name": fields.name,
        "url": fields.url,
        "access_token_secret_id": None if fields.access_token is None else secret_ids[fields.access_token],
        "signing_secret_id": None if fields.signing_secret is None else secret_ids[fields.signing_secret],
        "policy": fields.policy,
        "enabled": fields.enabled,
        "paused": fields.paused,
    }


def _grant(connection: Connection, webhook_id: int, granted: Sequence[int]) -> None:
    if granted:
        rows = [{"webhook_id": webhook_id, "secret_id": secret_id} for secret_id in granted]
        connection.execute(insert(webhook_secrets), rows)
