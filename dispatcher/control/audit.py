"""The audit log: who made each change, when and where, written in the transaction of the change.

A row names the members that changed and never their values, so that no secret can get in.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import Connection

from dispatcher.control.access import Action, require, require_instance_admin
from dispatcher.control.bodies import Body, View, parse_body
from dispatcher.control.moments import Moment, time_of
from dispatcher.control.paging import PageRequest, TwoWayPage
from shared.storage.accounts import audit_log as store
from shared.storage.accounts.audit_log import ChangeFilter, NewChange, StoredChange
from shared.storage.accounts.users import Principal
from shared.storage.definitions.entities import StoredEntity

Text = Annotated[str, Field(min_length=1, max_length=store.MAX_TARGET_CHARS)]


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


class ChangeQuery(Body):
    """Which changes are meant; what is left out stands for any."""

    by: Annotated[Text | None, Field(description="The name of the user who made them.")] = None
    action: Annotated[
        Text | None, Field(description="The action, such as `webhook.update`, or its kind of thing: `webhook`.")
    ] = None
    target: Annotated[Text | None, Field(description="The id or name of what was changed.")] = None
    since: Annotated[Moment | None, Field(description="Made at this time or later, or so long ago: `1h`.")] = None
    until: Annotated[Moment | None, Field(description="Made before this time, or longer ago.")] = None


def list_changes(
    connection: Connection, principal: Principal, entity_name: str, raw: object, page: PageRequest
) -> TwoWayPage[ChangeView]:
    """The changes in an entity that match, newest first. For its administrators.

    Raises:
        InvalidDefinition: for a query that can't be understood.
    """
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    return _page(connection, entity.id, raw, page)


def list_all_changes(
    connection: Connection, principal: Principal, raw: object, page: PageRequest
) -> TwoWayPage[ChangeView]:
    """The changes in all entities and of the instance itself, newest first. For instance administrators.

    Raises:
        InvalidDefinition: for a query that can't be understood.
    """
    require_instance_admin(principal)
    return _page(connection, None, raw, page)


def _page(connection: Connection, entity_id: int | None, raw: object, page: PageRequest) -> TwoWayPage[ChangeView]:
    query = parse_body(ChangeQuery, raw)
    wanted = ChangeFilter(
        user_name=query.by,
        action=query.action,
        target=query.target,
        since=time_of(connection, query.since),
        until=time_of(connection, query.until),
    )
    rows = store.list_changes(
        connection, entity_id, wanted, position=page.position, newer=page.newer, limit=page.with_one_more
    )
    return page.two_way(rows, _view, lambda row: row.id)


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
