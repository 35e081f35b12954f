"""A webhook as a drain needs it: URL, policy, circuit and encrypted secrets, read together."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select

from shared.domain.delivery.circuits import Circuit
from shared.storage.database.bulk import among_given, is_postgresql, json_list
from shared.storage.delivery.circuits import circuit_of
from shared.storage.schema.tables import (
    revisions,
    secrets,
    webhook_secrets,
    webhooks,
)


@dataclass(frozen=True, slots=True)
class WebhookSnapshot:
    """A webhook's row as it was read, with the newest `revision` of any definition at that moment."""

    id: int
    revision: int
    edition: int
    """The revision of the last edit of this webhook, or of a secret that it uses."""
    kind: str
    url: str
    url_secret_id: int | None
    policy: dict[str, Any]
    access_token_secret_id: int | None
    signing_secret_id: int | None
    client_certificate_secret_id: int | None
    headers: dict[str, str] | None
    basic_user: str | None
    basic_password_secret_id: int | None
    wandb_signature: str | None
    former_signing_secret_id: int | None
    former_signing_until: datetime | None
    circuit: Circuit
    paused: bool
    slow: bool
    resumed_at: datetime | None
    """When requests last resumed after a pause, a disabling or an open circuit; None if they never stopped."""


@dataclass(frozen=True, slots=True)
class SealedSecrets:
    """The encrypted secrets of a webhook: by their use, and those granted to its payloads by name."""

    url: bytes | None
    access_token: bytes | None
    signing_secret: bytes | None
    client_certificate: bytes | None
    basic_password: bytes | None
    former_signing_secret: bytes | None
    granted: dict[str, bytes]


def load_endpoint(connection: Connection, webhook_id: int, *, include_inactive: bool = False) -> WebhookSnapshot | None:
    """A webhook's snapshot; None when nothing may be sent to it now: it is disabled, paused or deleted.

    With `include_inactive` it is None only for a deleted webhook.
    """
    row = connection.execute(_ENDPOINT, {"webhook_id": webhook_id}).one_or_none()
    if row is None or not (include_inactive or (row.enabled and not row.paused)):
        return None
    return _endpoint_row(row)


def load_endpoints(connection: Connection, ids: Collection[int]) -> dict[int, WebhookSnapshot]:
    """The snapshots of these webhooks, by id; disabled and deleted ones are left out, paused ones are not."""
    if not ids:
        return {}
    rows = connection.execute(_enabled(as_array=is_postgresql(connection)), {"ids": json_list(ids)})
    return {row.id: _endpoint_row(row) for row in rows}


def _endpoint_row(row: Any) -> WebhookSnapshot:
    return WebhookSnapshot(
        id=row.id,
        revision=row.newest_revision,
        edition=max(row.revision, row.own_secrets_revision, row.granted_secrets_revision),
        kind=row.kind,
        url=row.url,
        url_secret_id=row.url_secret_id,
        policy=row.policy,
        access_token_secret_id=row.access_token_secret_id,
        signing_secret_id=row.signing_secret_id,
        client_certificate_secret_id=row.client_certificate_secret_id,
        headers=row.headers,
        basic_user=row.basic_user,
        basic_password_secret_id=row.basic_password_secret_id,
        wandb_signature=row.wandb_signature,
        former_signing_secret_id=row.former_signing_secret_id,
        former_signing_until=row.former_signing_until,
        circuit=circuit_of(row),
        paused=row.paused,
        slow=row.slow,
        resumed_at=row.resumed_at,
    )


_OWN_SECRETS = (
    webhooks.c.url_secret_id,
    webhooks.c.access_token_secret_id,
    webhooks.c.signing_secret_id,
    webhooks.c.client_certificate_secret_id,
    webhooks.c.basic_password_secret_id,
    webhooks.c.former_signing_secret_id,
)
_NEWEST_OF_SECRETS = select(func.coalesce(func.max(secrets.c.revision), 0))
_GRANTED = webhook_secrets.join(secrets, secrets.c.id == webhook_secrets.c.secret_id)


# Revisions are read in the same statement: an endpoint that a process opened of this edition is up to date.
_ENDPOINTS = select(
    webhooks,
    select(revisions.c.value).where(revisions.c.id == 1).scalar_subquery().label("newest_revision"),
    _NEWEST_OF_SECRETS.where(secrets.c.id.in_(_OWN_SECRETS)).scalar_subquery().label("own_secrets_revision"),
    _NEWEST_OF_SECRETS.select_from(_GRANTED)
    .where(webhook_secrets.c.webhook_id == webhooks.c.id)
    .scalar_subquery()
    .label("granted_secrets_revision"),
).where(webhooks.c.deleted_at.is_(None))


_ENDPOINT = _ENDPOINTS.where(webhooks.c.id == bindparam("webhook_id"))


@lru_cache(maxsize=2)
def _enabled(*, as_array: bool) -> Select[Any]:
    return _ENDPOINTS.where(among_given(webhooks.c.id, "ids", as_array=as_array), webhooks.c.enabled)


def load_secrets(connection: Connection, row: WebhookSnapshot) -> SealedSecrets:
    """The encrypted secrets of a webhook. Call it in the transaction that read `row`, so that the two agree."""
    return load_secrets_of(connection, [row])[row.id]


def load_secrets_of(connection: Connection, rows: Collection[WebhookSnapshot]) -> dict[int, SealedSecrets]:
    """The encrypted secrets of webhooks, by webhook. Call it in the transaction that read `rows`.

    Two statements, however many webhooks there are.
    """
    as_array = is_postgresql(connection)
    granted: dict[int, dict[str, bytes]] = {row.id: {} for row in rows}
    for one in connection.execute(_granted(as_array=as_array), {"ids": json_list(granted)}):
        granted[one.webhook_id][one.name] = one.ciphertext
    own = {secret for row in rows for secret in _own_secrets(row) if secret is not None}
    found = dict[int | None, bytes]()
    if own:
        found.update(
            (one.id, one.ciphertext) for one in connection.execute(_own(as_array=as_array), {"ids": json_list(own)})
        )
    return {
        row.id: SealedSecrets(
            url=found.get(row.url_secret_id),
            access_token=found.get(row.access_token_secret_id),
            signing_secret=found.get(row.signing_secret_id),
            client_certificate=found.get(row.client_certificate_secret_id),
            basic_password=found.get(row.basic_password_secret_id),
            former_signing_secret=found.get(row.former_signing_secret_id),
            granted=granted[row.id],
        )
        for row in rows
    }


def _own_secrets(row: WebhookSnapshot) -> tuple[int | None, ...]:
    return (
        row.url_secret_id,
        row.access_token_secret_id,
        row.signing_secret_id,
        row.client_certificate_secret_id,
        row.basic_password_secret_id,
        row.former_signing_secret_id,
    )


@lru_cache(maxsize=2)
def _granted(*, as_array: bool) -> Select[Any]:
    return (
        select(webhook_secrets.c.webhook_id, secrets.c.name, secrets.c.ciphertext)
        .select_from(_GRANTED)
        .where(among_given(webhook_secrets.c.webhook_id, "ids", as_array=as_array))
    )


@lru_cache(maxsize=2)
def _own(*, as_array: bool) -> Select[Any]:
    return select(secrets.c.id, secrets.c.ciphertext).where(among_given(secrets.c.id, "ids", as_array=as_array))
