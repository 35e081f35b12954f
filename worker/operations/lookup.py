"""Finding what an operator names: an entity, a webhook, an automation."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from shared.domain.errors import InvalidDefinition
from shared.domain.ids import IdKind, decode_id
from shared.storage.definitions.automations import StoredAutomation, automations_of_all, find_by_name_or_id
from shared.storage.definitions.entities import StoredEntity, find_entity
from shared.storage.definitions.webhook_fields import ID_KINDS, public_id
from shared.storage.delivery.webhook_states import (
    WebhookState,
    webhook_names,
    webhook_states,
)


class UnknownName(InvalidDefinition):
    """There is nothing of the name or id that an operator gave."""


def resolve_entity(connection: Connection, name: str) -> StoredEntity:
    """Find the entity of this name. Raises UnknownName at `entity`."""
    found = find_entity(connection, name)
    if found is None:
        raise UnknownName.at(("entity",), f"there is no entity {name!r}")
    return found


def resolve_webhook(connection: Connection, name_or_id: str, entity: str | None, now: datetime) -> WebhookState:
    """Find a webhook or Slack integration, of one entity or of any.

    Raises:
        UnknownName: at `entity` or `webhook`, when there is none.
        InvalidDefinition: at `webhook`, when several entities have it.
    """
    owner = None if entity is None else resolve_entity(connection, entity).id
    number = next((n for kind in ID_KINDS.values() if (n := decode_id(kind, name_or_id)) is not None), None)
    if number is None:
        named = webhook_names(connection, name=name_or_id, entity_id=owner)
    else:
        every = webhook_names(connection, ids=[number], entity_id=owner)
        named = [one for one in every if public_id(one.kind, one.id) == name_or_id]
    if len(named) > 1:
        owners = ", ".join(one.entity for one in named)
        raise InvalidDefinition.at(("webhook",), f"several entities have {name_or_id!r}: give --entity, of {owners}")
    if not named:
        where = "any entity" if entity is None else f"entity {entity!r}"
        raise UnknownName.at(("webhook",), f"no webhook of {where} has the id or name {name_or_id!r}")
    return webhook_states(connection, now, webhook_id=named[0].id)[0]


def resolve_automation(connection: Connection, name_or_id: str, entity: str | None) -> StoredAutomation:
    """Find an automation, of one entity or of any.

    Raises:
        UnknownName: at `entity` or `automation`, when there is none.
        InvalidDefinition: at `automation`, when several entities have it.
    """
    if entity is not None:
        stored = find_by_name_or_id(connection, resolve_entity(connection, entity).id, name_or_id)
        found = [] if stored is None else [stored]
    else:
        number = decode_id(IdKind.AUTOMATION, name_or_id)
        found = [] if number is None else automations_of_all(connection, automation_id=number)
        found = found or automations_of_all(connection, name=name_or_id)
    if len(found) > 1:
        owners = ", ".join(one.entity for one in found)
        raise InvalidDefinition.at(("automation",), f"several entities have {name_or_id!r}: give --entity, of {owners}")
    if not found:
        where = "any entity" if entity is None else f"entity {entity!r}"
        raise UnknownName.at(("automation",), f"no automation of {where} has the id or name {name_or_id!r}")
    return found[0]
