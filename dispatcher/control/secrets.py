"""Secrets: written, listed and deleted, never read back."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from sqlalchemy import Connection

from dispatcher.control.access import Action, require
from dispatcher.control.audit import record_change
from dispatcher.control.bodies import Body, View, parse_body
from dispatcher.control.errors import Conflict, NotFound
from dispatcher.control.paging import Page, PageRequest
from dispatcher.control.quotas import within_quotas
from shared.delivery.answers import MIN_SECRET_CHARS
from shared.domain.delivery.request_parts import (
    HEADER_VALUE,
    SECRET_NAME,
    check_header_secret,
    check_password,
    check_url_secret,
)
from shared.domain.delivery.signing import check_new_signing_secret, check_signing_secret
from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.payloads.names import ADDED, VARIABLES
from shared.domain.payloads.sealed import ACCESS_TOKEN
from shared.domain.sources.model import HmacProof, KeyForm
from shared.domain.sources.proofs import key_of
from shared.http.egress import check_webhook_url
from shared.http.tls import check_client_certificate
from shared.settings import Settings
from shared.storage.accounts.users import Principal
from shared.storage.definitions import secrets as store
from shared.storage.definitions.entities import StoredEntity
from shared.storage.definitions.revisions import lock_edits, next_revision
from shared.storage.definitions.secrets import SecretUses
from shared.vault import Vault

MAX_VALUE_BYTES = 64 << 10
_DECODED = HmacProof(header="", key=KeyForm.BASE64)
_WORD = re.compile(r"[a-z_]{1,20}")


def _check_size(value: SecretStr) -> SecretStr:
    if not 1 <= len(value.get_secret_value().encode()) <= MAX_VALUE_BYTES:
        raise ValueError(f"must be text of 1 to {MAX_VALUE_BYTES} bytes")
    return value


class SecretBody(Body):
    """A secret's value; it is encrypted at rest and never shown again."""

    value: Annotated[SecretStr, AfterValidator(_check_size), Field(description="1 byte to 64 KiB of text.")]


class SecretView(View):
    """A secret, without its value."""

    name: str
    created_at: datetime
    updated_at: datetime
    used_by: list[str]
    """Names of the webhooks and Slack integrations that use it, by itself or in URL, headers and payloads; and of the
    sources whose requests it proves."""
    warning: str | None = None
    """The warnings about a value that was stored."""


def put(
    connection: Connection,
    principal: Principal,
    entity_name: str,
    name: str,
    raw: object,
    *,
    vault: Vault,
    settings: Settings,
) -> tuple[SecretView, bool]:
    """Create a secret or replace its value; also whether it is new.

    Raises:
        InvalidDefinition: for a name or value that can't be used.
        QuotaExceeded: when the entity has as many as it may have.
    """
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    _check_name(name)
    value = _body(raw).value.get_secret_value()
    lock_edits(connection)
    now = datetime.now(UTC)
    stored = store.find_secret(connection, entity.id, name)
    if stored is None and name in ADDED:  # an older one may have the name
        raise InvalidDefinition.at(("name",), f"{name} is a payload variable; choose another name")
    if stored is not None:
        check_value(value, store.uses_of_secret(connection, stored), settings=settings, loc=("value",))
    ciphertext, revision = vault.encrypt(value), next_revision(connection)
    if stored is None:
        with within_quotas(connection, entity):
            store.insert_secret(connection, entity.id, name=name, ciphertext=ciphertext, revision=revision, now=now)
    else:
        store.replace_secret(connection, stored.id, ciphertext=ciphertext, revision=revision, now=now)
    did = "secret.create" if stored is None else "secret.update"
    record_change(connection, principal, did, entity=entity, target_id=name, name=name)
    view = get(connection, principal, entity_name, name)
    return view.model_copy(update={"warning": _warning(value)}), stored is None


def _warning(value: str) -> str | None:
    """What may be wrong with a value; it is stored as it is, since only its owner knows."""
    told = []
    if value != value.strip():
        told.append(
            "The value begins or ends with white space, such as the line break that `echo` adds; it is stored with it."
        )
    if len(value) < MIN_SECRET_CHARS:
        told.append(
            f"The value has fewer than {MIN_SECRET_CHARS} characters and could be guessed. "
            "The answers to requests that carry it are not shown."
        )
    return " ".join(told) or None


def get(connection: Connection, principal: Principal, entity_name: str, name: str) -> SecretView:
    """A secret without its value. Raises NotFound."""
    entity = require(connection, principal, entity_name, Action.READ)
    stored = _load_secret(connection, entity, name)
    return _view(stored, store.users_of_secrets(connection, [stored.id])[stored.id])


def list_secrets(connection: Connection, principal: Principal, entity_name: str, page: PageRequest) -> Page[SecretView]:
    """The entity's secrets without their values."""
    entity = require(connection, principal, entity_name, Action.READ)
    rows = store.list_secrets(connection, entity.id, after=page.after, limit=page.with_one_more)
    users = store.users_of_secrets(connection, [row.id for row in rows])
    return page.page(rows, lambda row: _view(row, users[row.id]), lambda row: row.id)


def delete(connection: Connection, principal: Principal, entity_name: str, name: str) -> None:
    """Delete a secret.

    Raises:
        Conflict: naming the webhooks and Slack integrations that use it.
    """
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    lock_edits(connection)
    stored = _load_secret(connection, entity, name)
    users = store.users_of_secrets(connection, [stored.id])[stored.id]
    if users:
        raise Conflict(
            f"secret {name!r} is in use by {', '.join(users)} (webhooks or sources): remove it from them first"
        )
    next_revision(connection)
    store.delete_secret(connection, stored.id)
    record_change(connection, principal, "secret.delete", entity=entity, target_id=name, name=name)


def check_value(value: str, uses: SecretUses, *, settings: Settings, loc: tuple[str, ...]) -> None:
    """Refuse a value that can't do what webhooks use it for.

    Raises:
        InvalidDefinition: at `loc`, without the value.
    """
    if uses.as_access_token and not HEADER_VALUE.fullmatch(value):
        raise InvalidDefinition.at(
            loc, "an access token goes into a header: it must be printable ASCII without line breaks or outer spaces"
        )
    if uses.as_signing_secret or uses.as_former_signing_secret:
        _check_as("a signing secret", partial(check_new_signing_secret, value), loc)
    if uses.as_kept_signing_secret:
        _check_as("a signing secret", partial(check_signing_secret, value), loc)
    if uses.as_url:
        _check_as("a webhook's URL", partial(check_webhook_url, value, settings), loc)
    if uses.as_basic_password:
        _check_as("a password", partial(check_password, value), loc)
    if uses.in_header:
        _check_as("a part of a header", partial(check_header_secret, value), loc)
    if uses.in_url:
        _check_as("a part of a URL", partial(check_url_secret, value), loc)
    if uses.proves:
        _check_as("the secret of a source", partial(check_proving_secret, value), loc)
    if uses.proves_decoded:
        _check_as("the key of a source", partial(check_proving_key, value), loc)
    if uses.as_client_certificate:
        _check_as("a client certificate", partial(check_client_certificate, value), loc)


def check_proving_secret(value: str) -> None:
    """Refuse what a stranger could guess. Raises InvalidDefinition."""
    if len(value) < MIN_SECRET_CHARS:
        raise InvalidDefinition.at((), f"must have at least {MIN_SECRET_CHARS} characters")


def check_proving_key(value: str) -> None:
    """Refuse what is no key in base64, or one that a stranger could guess. Raises InvalidDefinition."""
    if len(key_of(_DECODED, value)) < MIN_SECRET_CHARS:
        raise InvalidDefinition.at((), f"must be base64 of at least {MIN_SECRET_CHARS} bytes")


def _body(raw: object) -> SecretBody:
    """Parse the body. A refusal repeats no more than a word of it, since the value may be where a name belongs."""
    try:
        return parse_body(SecretBody, raw)
    except InvalidDefinition as exc:
        raise InvalidDefinition(*(FieldError(tuple(filter(_is_word, e.loc)), e.msg) for e in exc.errors)) from None


def _is_word(part: str | int) -> bool:
    return isinstance(part, int) or _WORD.fullmatch(part) is not None


def _check_as(what: str, check: Callable[[], None], loc: tuple[str, ...]) -> None:
    try:
        check()
    except InvalidDefinition as exc:
        refusal = InvalidDefinition(*(FieldError(loc, f"as {what} it {e.msg}") for e in exc.errors))
        raise refusal from None


def _check_name(name: str) -> None:
    if not SECRET_NAME.fullmatch(name):
        raise InvalidDefinition.at(
            ("name",), "must be 1 to 255 letters, digits and underscores, and not begin with a digit"
        )
    if (name in VARIABLES and name not in ADDED) or name == ACCESS_TOKEN:
        raise InvalidDefinition.at(("name",), f"{name} is a payload variable; choose another name")


def _load_secret(connection: Connection, entity: StoredEntity, name: str) -> store.StoredSecret:
    stored = store.find_secret(connection, entity.id, name)
    if stored is None:
        raise NotFound(f"{entity.name!r} has no secret of this name")
    return stored


def _view(stored: store.StoredSecret, users: tuple[str, ...]) -> SecretView:
    return SecretView(name=stored.name, created_at=stored.created_at, updated_at=stored.updated_at, used_by=list(users))
