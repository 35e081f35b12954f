"""Automations: checked by `shared.domain.definitions`, stored with their webhook's id, answered with its name.

A webhook or Slack integration of another entity is answered with its id, since its name may mean another one here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from dispatcher.control.access import Action, require
from dispatcher.control.audit import changed_members, note
from dispatcher.control.bodies import members_to_change
from dispatcher.control.destinations import WebhookFinder
from dispatcher.control.errors import Conflict, NotFound
from dispatcher.control.paging import Page, PageRequest
from shared.domain.automations import Automation, NoOpAction, Scope
from shared.domain.errors import FieldError
from shared.domain.ids import IdKind, decode_id, encode_id
from shared.storage import automations as store
from shared.storage.automations import AutomationFields, StoredAutomation
from shared.storage.catalog import ensure_collection, ensure_project
from shared.storage.entities import StoredEntity
from shared.storage.identity import Principal
from shared.storage.revisions import lock_edits, next_revision
from shared.storage.webhooks import StoredWebhook, public_id

AutomationView = dict[str, Any]
"""An automation as it is answered: the members of its definition, its id, entity, revision and times."""

# What metric windows and cooldowns are about: with another one of these they begin anew.
_EPOCH_MEMBERS = ("event", "scope", "filter", "conditions", "states", "enabled")


def create(connection: Connection, principal: Principal, entity_name: str, raw: object) -> AutomationView:
    """Store a new automation.

    Raises:
        InvalidDefinition: naming each fault.
        Conflict: when the entity has an automation of this name.
    """
    entity = require(connection, principal, entity_name, Action.AUTOMATE)
    lock_edits(connection)
    finder = WebhookFinder(connection, entity, principal)
    stored = write(connection, entity, None, finder.automation(raw), finder.found)
    note_change(connection, principal, entity, "create", stored)
    return view(entity, stored)


def get(connection: Connection, principal: Principal, entity_name: str, automation_id: str) -> AutomationView:
    """One automation. Raises NotFound."""
    entity = require(connection, principal, entity_name, Action.READ)
    return view(entity, found(connection, entity, automation_id))


def listed(connection: Connection, principal: Principal, entity_name: str, page: PageRequest) -> Page[AutomationView]:
    """The entity's automations."""
    entity = require(connection, principal, entity_name, Action.READ)
    rows = store.list_automations(connection, entity.id, after=page.after, limit=page.with_one_more)
    return page.page(rows, lambda row: view(entity, row), lambda row: row.id)


def change(
    connection: Connection, principal: Principal, entity_name: str, automation_id: str, patch: object
) -> AutomationView:
    """Replace the members that the patch has; null stands for what the member means when it is null.

    Raises:
        InvalidDefinition: naming each fault of the whole definition after the change.
        Conflict: when the name is taken.
    """
    entity = require(connection, principal, entity_name, Action.AUTOMATE)
    lock_edits(connection)
    stored = found(connection, entity, automation_id)
    patch = members_to_change(patch)
    finder = WebhookFinder(connection, entity, principal, kept=None if "action" in patch else stored)
    before = stored.definition
    stored = write(connection, entity, stored, finder.automation({**before, **patch}), finder.found)
    if changed := changed_members(before, stored.definition):
        note_change(connection, principal, entity, "update", stored, changed=changed)
    return view(entity, stored)


def delete(connection: Connection, principal: Principal, entity_name: str, automation_id: str) -> None:
    """Delete an automation; its deliveries stay. Raises NotFound."""
    entity = require(connection, principal, entity_name, Action.AUTOMATE)
    lock_edits(connection)
    stored = found(connection, entity, automation_id)
    remove(connection, stored)
    note_change(connection, principal, entity, "delete", stored)


def found(connection: Connection, entity: StoredEntity, automation_id: str) -> StoredAutomation:
    """The entity's automation of this public id. Raises NotFound."""
    number = decode_id(IdKind.AUTOMATION, automation_id)
    stored = None if number is None else store.find_automation(connection, entity.id, automation_id=number)
    if stored is None:
        raise NotFound(f"{entity.name!r} has no automation {automation_id!r}")
    return stored


def write(
    connection: Connection,
    entity: StoredEntity,
    stored: StoredAutomation | None,
    automation: Automation,
    webhook: StoredWebhook | None,
) -> StoredAutomation:
    """Store a checked definition as a new automation or over `stored`, under a new revision unless nothing changes.

    The caller holds `lock_edits`. The scope's project and collection get into the catalog.

    Raises:
        Conflict: when another automation has the name.
    """
    definition = stored_definition(automation, webhook)
    if stored is not None and stored.definition == definition:
        return stored
    namesake = store.find_automation(connection, entity.id, name=automation.name)
    if namesake is not None and (stored is None or namesake.id != stored.id):
        message = f"{entity.name!r} has an automation {automation.name!r} already"
        raise Conflict(message, FieldError(("name",), "must be a name that no other automation of the entity has"))
    revision, now = next_revision(connection), datetime.now(UTC)
    _register(connection, entity, automation.scope, now)
    fields = AutomationFields(
        name=automation.name,
        enabled=automation.enabled,
        event_type=str(automation.event),
        scope_project=automation.scope.project,
        scope_collection=automation.scope.collection,
        webhook_id=None if webhook is None else webhook.id,
        definition=definition,
        epoch=_epoch(stored, definition, revision),
    )
    if stored is None:
        number = store.insert_automation(connection, entity.id, fields, revision=revision, now=now)
    else:
        number = stored.id
        store.update_automation(connection, number, fields, revision=revision, now=now)
    written = store.find_automation(connection, entity.id, automation_id=number)
    assert written is not None  # noqa: S101 - written in this transaction
    return written


def remove(connection: Connection, stored: StoredAutomation) -> None:
    """Delete an automation; the caller holds `lock_edits`."""
    store.delete_automation(connection, stored.id, revision=next_revision(connection), now=datetime.now(UTC))


def note_change(
    connection: Connection,
    principal: Principal,
    entity: StoredEntity,
    did: str,
    automation: StoredAutomation,
    **detail: Any,
) -> None:
    """Write a change of an automation down."""
    target_id = encode_id(IdKind.AUTOMATION, automation.id)
    action = f"automation.{did}"
    note(connection, principal, action, entity=entity, target_id=target_id, name=automation.name, **detail)


def stored_definition(automation: Automation, webhook: StoredWebhook | None) -> dict[str, Any]:
    """The definition with its webhook named by id, so that renaming the webhook leaves it right."""
    definition, action = automation.to_json(), automation.action
    if not isinstance(action, NoOpAction) and webhook is not None:
        definition["action"][action.kind] = public_id(webhook.fields.kind, webhook.id)
    return definition


def shown_definition(stored: StoredAutomation) -> dict[str, Any]:
    """The definition with its webhook named by name, as people wrote it; by id when it is another entity's."""
    if stored.webhook_id is None or stored.webhook_entity_id != stored.entity_id:
        return stored.definition
    action = stored.definition["action"]
    kind = "slack" if "slack" in action else "webhook"
    return {**stored.definition, "action": {**action, kind: stored.webhook_name}}


def view(entity: StoredEntity, stored: StoredAutomation) -> AutomationView:
    """The automation as it is answered."""
    return {
        "id": encode_id(IdKind.AUTOMATION, stored.id),
        "entity": entity.name,
        **shown_definition(stored),
        "revision": stored.revision,
        "created_at": stored.created_at,
        "updated_at": stored.updated_at,
    }


def _epoch(stored: StoredAutomation | None, definition: dict[str, Any], revision: int) -> int:
    if stored is None or any(stored.definition.get(m) != definition.get(m) for m in _EPOCH_MEMBERS):
        return revision
    return stored.epoch


def _register(connection: Connection, entity: StoredEntity, scope: Scope, now: datetime) -> None:
    if scope.project is None:
        return
    project_id = ensure_project(connection, entity.id, scope.project, now)
    if scope.collection is not None:
        ensure_collection(connection, project_id, scope.collection, now)
