"""Authorization: the roles that each action requires, in one table.

An entity in which the principal has no role answers as one that does not exist, so that names can't be probed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from types import MappingProxyType

from sqlalchemy import Connection

from dispatcher.control.errors import Forbidden, NotFound
from shared.storage.accounts.users import Principal, Role
from shared.storage.definitions.entities import StoredEntity, entity_ids, find_entity


class Action(Enum):
    """The actions in an entity that need a role."""

    #: Look at anything but secrets' values.
    READ = "read"
    #: Create, change and delete automations, and name projects and collections.
    AUTOMATE = "automate"
    #: Secrets, webhooks, replays, keys.
    ADMINISTER = "administer"
    #: Publish events.
    PUBLISH = "publish"


_ALLOWED_TO: Mapping[Action, frozenset[Role]] = MappingProxyType(
    {
        Action.READ: frozenset({Role.ADMIN, Role.MEMBER}),
        Action.AUTOMATE: frozenset({Role.ADMIN, Role.MEMBER}),
        Action.ADMINISTER: frozenset({Role.ADMIN}),
        Action.PUBLISH: frozenset({Role.ADMIN, Role.PUBLISHER}),
    }
)


def require(connection: Connection, principal: Principal, entity_name: str, action: Action) -> StoredEntity:
    """The entity, if the principal may do this there.

    Raises:
        NotFound: when there is no such entity, or the principal has no role in it.
        Forbidden: when the role does not allow the action.
    """
    entity = find_entity(connection, entity_name)
    if entity is None or not (principal.is_admin or entity.id in principal.roles):
        raise NotFound(f"there is no entity {entity_name!r}")
    if not principal.is_admin and principal.roles[entity.id] not in _ALLOWED_TO[action]:
        needed = " or ".join(sorted(_ALLOWED_TO[action]))
        raise Forbidden(f"this needs the role {needed} in {entity_name!r}; yours is {principal.roles[entity.id]}")
    return entity


def may(principal: Principal, entity: StoredEntity, action: Action) -> bool:
    """Whether the principal may do this in an entity."""
    return principal.is_admin or principal.roles.get(entity.id) in _ALLOWED_TO[action]


def require_any_role(connection: Connection, principal: Principal, entity_name: str) -> StoredEntity:
    """The entity, if the principal has any role in it. Raises NotFound."""
    entity = find_entity(connection, entity_name)
    if entity is None or not (principal.is_admin or entity.id in principal.roles):
        raise NotFound(f"there is no entity {entity_name!r}")
    return entity


def require_instance_admin(principal: Principal) -> None:
    """Raises Forbidden unless the principal administers the whole instance."""
    if not principal.is_admin:
        raise Forbidden("this needs an instance administrator's key")


def entities_with(principal: Principal, action: Action) -> frozenset[int]:
    """The entities in which the principal's own role allows an action."""
    return frozenset(entity_id for entity_id, role in principal.roles.items() if role in _ALLOWED_TO[action])


def publishable(connection: Connection, principal: Principal, names: Collection[str]) -> frozenset[str]:
    """The entities that exist and that the principal may publish to."""
    allowed = entities_with(principal, Action.PUBLISH)
    found = entity_ids(connection, names)
    return frozenset(name for name, entity_id in found.items() if principal.is_admin or entity_id in allowed)
