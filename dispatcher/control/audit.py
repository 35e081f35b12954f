"""The audit log: who made each change, when and where, written in the transaction of the change.

A row names the members that changed and never their values, so that no secret can get in.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from dispatcher.control.access import Action, require, require_instance_admin
from dispatcher.control.bodies import View
from dispatcher.control.paging import Page, PageRequest
from shared.storage.accounts import audit_log as store
from shared.storage.accounts.audit_log import NewChange, StoredChange
from shared.storage.accounts.users import Principal
from shared.storage.definitions.entities import StoredEntity


class Target(View):
    """What was changed; it may have been deleted."""

    id: str
    name: str


class ChangeView(View):
    """One change in the audit log."""

    id: int
    at: datetime
    by: str
    """The user's name."""
    entity: str | None
    action: str
    """The kind of thing and the change, such as `webhook.update`."""
    target: Target
    detail: dict[str, Any]
    """For an update `changed`, the members that it changed; other actions say what there is to say."""


def record_change(
    connection: Connection,
    principal: Principal,
    action: str,
    *,
    entity: StoredEntity | None,
    target_id: str,
    name: str,
    **detail: Any,
) -> None:
    """Record a change by the principal, in the transaction of the change; `detail` must not contain a secret."""
    noted = new_change(principal, action, entity=entity, target_id=target_id, name=name, **detail)
    store.insert_changes(connection, [noted])


def new_change(
    principal: Principal, action: str, *, entity: StoredEntity | None, target_id: str, name: str, **detail: Any
) -> NewChange:
    """The row that `record_change` inserts, for callers that insert many together."""
    return NewChange(
        user_id=principal.user_id,
        user_name=principal.user_name,
        entity_id=None if entity is None else entity.id,
        action=action,
        target=target_id,
        detail={"name": name, **detail},
        now=datetime.now(UTC),
    )


def changed_members(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The members that differ, sorted."""
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def list_changes(connection: Connection, principal: Principal, entity_name: str, page: PageRequest) -> Page[ChangeView]:
    """The changes in an entity, newest first. For its administrators."""
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    return _page(connection, entity.id, page)


def list_all_changes(connection: Connection, principal: Principal, page: PageRequest) -> Page[ChangeView]:
    """The changes in all entities and of the instance itself, newest first. For instance administrators."""
    require_instance_admin(principal)
    return _page(connection, None, page)


def _page(connection: Connection, entity_id: int | None, page: PageRequest) -> Page[ChangeView]:
    rows = store.list_changes(connection, entity_id=entity_id, before=page.position, limit=page.with_one_more)
    return page.page(rows, _view, lambda row: row.id)


def _view(stored: StoredChange) -> ChangeView:
    detail = {**stored.detail}
    return ChangeView(
        id=stored.id,
        at=stored.created_at,
        by=stored.user_name,
        entity=stored.entity,
        action=stored.action,
        target=Target(id=stored.target, name=detail.pop("name", "")),
        detail=detail,
    )
