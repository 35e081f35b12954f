"""Deleting an entity: only one that was never used, so that no history loses the name that it is kept under."""

from __future__ import annotations

from sqlalchemy import Connection

from dispatcher.control.access import require_instance_admin
from dispatcher.control.audit import record_change
from dispatcher.control.errors import Conflict, NotFound
from shared.storage.accounts.users import Principal
from shared.storage.definitions import entity_removal as store
from shared.storage.definitions.entities import find_entity
from shared.storage.definitions.revisions import lock_edits, next_revision


def delete_entity(connection: Connection, principal: Principal, name: str) -> None:
    """Delete an entity with its service users, roles, projects and collections. For instance administrators.

    Raises:
        Conflict: naming what it has or had. Such an entity can be retired by removing its members.
    """
    require_instance_admin(principal)
    lock_edits(connection)
    entity = find_entity(connection, name)
    if entity is None:
        raise NotFound(f"there is no entity {name!r}")
    if uses := store.uses_of_entity(connection, entity.id):
        raise Conflict(
            f"entity {name!r} cannot be deleted, because its history uses its name: it has {', '.join(uses)}"
        )
    store.delete_entity(connection, entity.id, entity.name)
    next_revision(connection)
    record_change(connection, principal, "entity.delete", entity=None, target_id=name, name=name)
