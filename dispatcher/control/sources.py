"""Sources: whose webhooks Hookline takes for an entity, their last requests, and what would become of a body."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from dispatcher.control.access import Action, require
from dispatcher.control.audit import changed_members, new_change
from dispatcher.control.bodies import View, apply_patch
from dispatcher.control.errors import Conflict, NotFound
from dispatcher.control.paging import Page, PageRequest
from dispatcher.control.quotas import within_quotas
from dispatcher.control.source_checks import SourceFields, check_source
from dispatcher.control.webhook_checks import Checks
from shared.domain.errors import FieldError
from shared.domain.ids import IdKind, decode_id, encode_id
from shared.domain.sources.model import SourceKind
from shared.storage.accounts.audit_log import NewChange, insert_changes
from shared.storage.accounts.users import Principal
from shared.storage.database.clock import database_time
from shared.storage.definitions import source_requests as history
from shared.storage.definitions import sources as store
from shared.storage.definitions.entities import StoredEntity
from shared.storage.definitions.revisions import lock_edits, next_revision
from shared.storage.definitions.secrets import secret_ids
from shared.storage.definitions.sources import StoredSource

TOKEN_BYTES = 16
IN_PATH = "/v1/in/"


class SourceView(View):
    """A source."""

    id: str
    entity: str
    name: str
    kind: SourceKind
    path: str
    """Where the service sends to, after the address of this Hookline. It can't be guessed, but proves nothing."""
    secret: str
    former_secret: str | None
    project: str | None
    verify: dict[str, Any] | None
    events: list[dict[str, Any]]
    """Its rules."""
    enabled: bool
    revision: int
    created_at: datetime
    updated_at: datetime


class MadeEvent(View):
    """An event that a request became."""

    type: str
    id: str


class RequestView(View):
    """One of a source's last requests, masked."""

    id: int
    at: datetime
    outcome: str
    """`accepted`, `ignored`, `refused` (it proved nothing) or `failed` (no event could be made of it, or taken)."""
    reason: str | None
    """Why it, or a part of it, became no event."""
    events: list[MadeEvent]
    sender: str
    """The address that it came from."""
    headers: dict[str, str]
    """A few of its headers, never the one that proves it."""
    body_bytes: int
    body: str | None
    """The beginning of its body; null where it proved nothing."""


def create(
    connection: Connection, principal: Principal, entity_name: str, raw: object, *, checks: Checks
) -> SourceView:
    """Store a new source.

    Raises:
        InvalidDefinition: naming each fault.
        Conflict: when the entity has a source of this name.
        QuotaExceeded: when it has as many as it may have.
    """
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    lock_edits(connection)
    fields = check_source(connection, entity, raw, checks=checks)
    with within_quotas(connection, entity):
        stored = save_source(connection, entity, None, fields)
    insert_changes(connection, [source_change(principal, entity, "create", stored)])
    return source_view(entity, stored)


def get(connection: Connection, principal: Principal, entity_name: str, source_id: str) -> SourceView:
    """One source. Raises NotFound."""
    entity = require(connection, principal, entity_name, Action.READ)
    return source_view(entity, load_source(connection, entity, source_id))


def list_sources(connection: Connection, principal: Principal, entity_name: str, page: PageRequest) -> Page[SourceView]:
    """The entity's sources."""
    entity = require(connection, principal, entity_name, Action.READ)
    rows = store.list_sources(connection, entity.id, after=page.after, limit=page.with_one_more)
    return page.page(rows, lambda row: source_view(entity, row), lambda row: row.id)


def change(
    connection: Connection, principal: Principal, entity_name: str, source_id: str, patch: object, *, checks: Checks
) -> SourceView:
    """Change a source by a JSON merge patch; its URL stays.

    Raises:
        InvalidDefinition: naming each fault.
        Conflict: when the name is taken.
    """
    return _edit(connection, principal, entity_name, source_id, lambda before: apply_patch(before, patch), checks)


def replace(
    connection: Connection,
    principal: Principal,
    entity_name: str,
    source_id: str,
    body: Mapping[str, Any],
    *,
    checks: Checks,
) -> SourceView:
    """Make a source what a whole definition says; `enabled` stays where it is left out. Raises as `change`."""
    return _edit(
        connection, principal, entity_name, source_id, lambda before: {"enabled": before["enabled"], **body}, checks
    )


def _edit(
    connection: Connection,
    principal: Principal,
    entity_name: str,
    source_id: str,
    wanted: Callable[[dict[str, Any]], object],
    checks: Checks,
) -> SourceView:
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    lock_edits(connection)
    stored = load_source(connection, entity, source_id)
    before = source_body(stored)
    fields = check_source(connection, entity, wanted(before), checks=checks)
    written = save_source(connection, entity, stored, fields)
    if changed := changed_members(before, source_body(written)):
        insert_changes(connection, [source_change(principal, entity, "update", written, changed)])
    return source_view(entity, written)


def delete(connection: Connection, principal: Principal, entity_name: str, source_id: str) -> None:
    """Delete a source with its history; requests to its URL are refused from then on. Raises NotFound."""
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    lock_edits(connection)
    stored = load_source(connection, entity, source_id)
    remove_source(connection, stored)
    insert_changes(connection, [source_change(principal, entity, "delete", stored)])


def remove_source(connection: Connection, stored: StoredSource) -> None:
    """Delete a source with its history; the caller holds `lock_edits`."""
    next_revision(connection)
    store.delete_source(connection, stored.id)


def list_requests(
    connection: Connection, principal: Principal, entity_name: str, source_id: str, page: PageRequest
) -> Page[RequestView]:
    """The last requests of a source, newest first. Raises NotFound."""
    entity = require(connection, principal, entity_name, Action.READ)
    stored = load_source(connection, entity, source_id)
    rows = history.list_requests(connection, stored.id, before=page.position, limit=page.with_one_more)
    return page.page(rows, request_view, lambda row: row.id)


def load_source(connection: Connection, entity: StoredEntity, source_id: str) -> StoredSource:
    """The entity's source of this public id. Raises NotFound."""
    number = decode_id(IdKind.SOURCE, source_id)
    stored = None if number is None else store.find_source(connection, entity.id, source_id=number)
    if stored is None:
        raise NotFound(f"{entity.name!r} has no source {source_id!r}")
    return stored


def source_id_of(connection: Connection, principal: Principal, entity_name: str, name: str, action: Action) -> str:
    """The public id of the entity's source of this name, for who may do `action`. Raises NotFound, Forbidden."""
    entity = require(connection, principal, entity_name, action)
    stored = store.find_source(connection, entity.id, name=name)
    if stored is None:
        raise NotFound(f"{entity.name!r} has no source that is named {name!r}")
    return encode_id(IdKind.SOURCE, stored.id)


def save_source(
    connection: Connection, entity: StoredEntity, stored: StoredSource | None, fields: SourceFields
) -> StoredSource:
    """Store checked fields as a new source or over `stored`, under a new revision unless nothing changes.

    The caller holds `lock_edits`. Raises Conflict when another source has the name.
    """
    namesake = store.find_source(connection, entity.id, name=fields.name)
    if namesake is not None and (stored is None or namesake.id != stored.id):
        message = f"{entity.name!r} has a source {fields.name!r} already"
        raise Conflict(message, FieldError(("name",), "must be a name that no other source of the entity has"))
    if stored is not None and source_body(stored) == _body_of(fields):
        return stored
    known = secret_ids(connection, entity.id)
    names = (fields.definition["secret"], fields.definition["former_secret"])
    values: dict[str, Any] = {
        "name": fields.name,
        "kind": fields.kind,
        "definition": fields.definition,
        "enabled": fields.enabled,
        "secret_ids": [known[name] for name in names if name is not None],
        "revision": next_revision(connection),
        "now": database_time(connection),
    }
    if stored is None:
        number = store.insert_source(connection, entity.id, token=new_token(), **values)
    else:
        number = stored.id
        store.update_source(connection, number, **values)
    written = store.find_source(connection, entity.id, source_id=number)
    if written is None:
        raise NotFound(f"{entity.name!r} has no source {fields.name!r}")
    return written


def new_token() -> str:
    """The part of a source's URL that nobody can guess."""
    return secrets.token_hex(TOKEN_BYTES)


def source_change(
    principal: Principal, entity: StoredEntity, did: str, stored: StoredSource, changed: Sequence[str] = ()
) -> NewChange:
    """The audit log's row of a change: `did` is create, update or delete, `changed` names the members of an update."""
    detail = {"changed": list(changed)} if changed else {}
    target = encode_id(IdKind.SOURCE, stored.id)
    return new_change(principal, f"source.{did}", entity=entity, target_id=target, name=stored.name, **detail)


def source_body(stored: StoredSource) -> dict[str, Any]:
    """The source in the form that `check_source` takes."""
    return {"name": stored.name, "kind": stored.kind, **stored.definition, "enabled": stored.enabled}


def _body_of(fields: SourceFields) -> dict[str, Any]:
    return {"name": fields.name, "kind": str(fields.kind), **fields.definition, "enabled": fields.enabled}


def source_view(entity: StoredEntity, stored: StoredSource) -> SourceView:
    """The source as it is answered."""
    return SourceView(
        id=encode_id(IdKind.SOURCE, stored.id),
        entity=entity.name,
        path=f"{IN_PATH}{stored.token}",
        revision=stored.revision,
        created_at=stored.created_at,
        updated_at=stored.updated_at,
        **source_body(stored),
    )


def request_view(row: history.StoredRequest) -> RequestView:
    """A request that is kept, as it is answered."""
    return RequestView(
        id=row.id,
        at=row.created_at,
        outcome=row.outcome,
        reason=row.reason,
        events=[MadeEvent(**event) for event in row.events or ()],
        sender=row.sender,
        headers=row.headers,
        body_bytes=row.body_bytes,
        body=row.body,
    )
