"""Automations: checked by `shared.domain.automations.parsing`, stored with their webhook's id, answered with its name.

A webhook or Slack integration of another entity is answered with its id, since its name may mean another one here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from dispatcher.control.access import Action, require
from dispatcher.control.audit import changed_members, new_change
from dispatcher.control.bodies import members_to_change
from dispatcher.control.errors import Conflict, NotFound
from dispatcher.control.quotas import within_quotas
from dispatcher.control.webhook_resolver import ResolvedAutomation, WebhookResolver
from shared.domain.automations.model import NoOpAction, Scope
from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.filters.normal_form import same_normal_form
from shared.domain.ids import IdKind, decode_id, encode_id
from shared.domain.payloads.content_types import PayloadTypes
from shared.domain.visible_text import NO_UNSEEN, has_unseen
from shared.storage.accounts.audit_log import NewChange, insert_changes
from shared.storage.accounts.users import Principal
from shared.storage.definitions import automations as store
from shared.storage.definitions.automations import AutomationFields, StoredAutomation
from shared.storage.definitions.catalog import ensure_collection, ensure_project
from shared.storage.definitions.entities import StoredEntity
from shared.storage.definitions.revisions import lock_edits, next_revision, next_revisions
from shared.storage.definitions.webhook_fields import public_id

AutomationView = dict[str, Any]
"""An automation as it is answered: the members of its definition, its id, entity, revision and times."""

# Metric windows and cooldowns start anew when one of these members changes, or what the filter means.
_EPOCH_MEMBERS = ("event", "scope", "conditions", "states", "silent_for", "enabled")


def create(connection: Connection, principal: Principal, entity_name: str, raw: object) -> AutomationView:
    """Store a new automation.

    Raises:
        InvalidDefinition: naming each fault.
        Conflict: when the entity has an automation of this name.
    """
    entity = require(connection, principal, entity_name, Action.AUTOMATE)
    lock_edits(connection)
    definition = WebhookResolver(connection, entity, principal).parse(raw)
    check_new_name(None, definition)
    stored = save_automation(connection, entity, None, definition, by=principal.user_name)
    record_automation_change(connection, principal, entity, "create", stored)
    return automation_view(entity, stored)


def get(connection: Connection, principal: Principal, entity_name: str, automation_id: str) -> AutomationView:
    """One automation. Raises NotFound."""
    entity = require(connection, principal, entity_name, Action.READ)
    return automation_view(entity, load_automation(connection, entity, automation_id))


def find(connection: Connection, principal: Principal, entity_name: str, name_or_id: str) -> AutomationView:
    """One automation by its id or else its name. Raises NotFound."""
    entity = require(connection, principal, entity_name, Action.READ)
    stored = store.find_by_name_or_id(connection, entity.id, name_or_id)
    if stored is None:
        raise NotFound(f"{entity.name!r} has no automation {name_or_id!r}")
    return automation_view(entity, stored)


def list_names(connection: Connection, principal: Principal, entity_name: str, *, limit: int) -> list[tuple[str, str]]:
    """The ids and names of the entity's first automations, by their names."""
    entity = require(connection, principal, entity_name, Action.READ)
    found = store.automation_names(connection, entity.id, limit=limit)
    return [(encode_id(IdKind.AUTOMATION, number), name) for number, name in found]


def change(
    connection: Connection, principal: Principal, entity_name: str, automation_id: str, patch: object
) -> AutomationView:
    """Replace the members that the patch has; a member that is null is set to null.

    Raises:
        InvalidDefinition: naming each fault of the whole definition after the change.
        Conflict: when the name is taken.
    """
    entity = require(connection, principal, entity_name, Action.AUTOMATE)
    lock_edits(connection)
    stored = load_automation(connection, entity, automation_id)
    patch = members_to_change(patch)
    resolver = WebhookResolver(connection, entity, principal, kept=None if "action" in patch else stored)
    before = stored.definition
    definition = resolver.parse({**before, **patch}, was=before)
    check_new_name(stored, definition)
    stored = save_automation(connection, entity, stored, definition, by=principal.user_name)
    if changed := changed_members(before, stored.definition):
        record_automation_change(connection, principal, entity, "update", stored, changed=changed)
    return automation_view(entity, stored)


def delete(connection: Connection, principal: Principal, entity_name: str, automation_id: str) -> None:
    """Delete an automation; its deliveries stay. Raises NotFound."""
    entity = require(connection, principal, entity_name, Action.AUTOMATE)
    lock_edits(connection)
    stored = load_automation(connection, entity, automation_id)
    remove_automation(connection, stored, by=principal.user_name)
    record_automation_change(connection, principal, entity, "delete", stored)


def load_automation(connection: Connection, entity: StoredEntity, automation_id: str) -> StoredAutomation:
    """The entity's automation of this public id. Raises NotFound."""
    number = decode_id(IdKind.AUTOMATION, automation_id)
    stored = None if number is None else store.find_automation(connection, entity.id, automation_id=number)
    if stored is None:
        raise NotFound(f"{entity.name!r} has no automation {automation_id!r}")
    return stored


def check_new_name(stored: StoredAutomation | None, definition: ResolvedAutomation) -> None:
    """Refuse a new name with characters that are not seen; automations of older versions keep theirs."""
    name = definition.automation.name
    if has_unseen(name) and (stored is None or stored.name != name):
        raise InvalidDefinition.at(("name",), NO_UNSEEN)


def automation_id_of(connection: Connection, principal: Principal, entity_name: str, name: str, action: Action) -> str:
    """The public id of the entity's automation of this name, whatever the name looks like, for who may do `action`.

    Raises:
        NotFound: there is none, or no such entity to this principal.
        Forbidden: the principal may not do `action`.
    """
    entity = require(connection, principal, entity_name, action)
    stored = store.find_automation(connection, entity.id, name=name)
    if stored is None:
        raise NotFound(f"{entity.name!r} has no automation that is named {name!r}")
    return encode_id(IdKind.AUTOMATION, stored.id)


def save_automation(
    connection: Connection,
    entity: StoredEntity,
    stored: StoredAutomation | None,
    definition: ResolvedAutomation,
    *,
    by: str,
    revives: bool = False,
) -> StoredAutomation:
    """Store a checked definition as a new automation or over `stored`, under a new revision unless nothing changes.

    With `revives`, `stored` is a deleted automation, which lives again with windows and cooldowns that begin anew.

    The caller holds `lock_edits`; `by` is the user's name, here and below. The scope's project and collection get into
    the catalog.

    Raises:
        Conflict: when another automation has the name.
        QuotaExceeded: when the entity has as much as it may have.
    """
    name = definition.automation.name
    if stored is None or revives or stored.definition != stored_definition(definition):
        namesake = store.find_automation(connection, entity.id, name=name)
        if namesake is not None and (stored is None or namesake.id != stored.id):
            message = f"{entity.name!r} has an automation {name!r} already"
            raise Conflict(message, FieldError(("name",), "must be a name that no other automation of the entity has"))
    with within_quotas(connection, entity):
        return save_automations(connection, entity, [AutomationEdit(stored, definition, revives)], by=by)[0]


@dataclass(frozen=True, slots=True)
class AutomationEdit:
    """A checked definition that becomes a new automation, or replaces the stored one."""

    stored: StoredAutomation | None
    definition: ResolvedAutomation
    revives: bool = False
    """Whether the stored one is deleted, and lives again."""


def save_automations(
    connection: Connection, entity: StoredEntity, edits: Sequence[AutomationEdit], *, by: str
) -> list[StoredAutomation]:
    """Store checked definitions whose names are free, in few statements; returns them in the same order.

    Each gets a revision of its own, unless nothing changes. The caller holds `lock_edits`, and is `within_quotas`.
    """
    definitions = [stored_definition(edit.definition) for edit in edits]
    changed = [
        (edit, definition)
        for edit, definition in zip(edits, definitions, strict=True)
        if edit.stored is None or edit.revives or edit.stored.definition != definition
    ]
    if not changed:
        return [edit.stored for edit in edits if edit.stored is not None]
    revisions, now = next_revisions(connection, len(changed)), datetime.now(UTC)
    for scope in dict.fromkeys(edit.definition.automation.scope for edit, _ in changed):
        _register(connection, entity, scope, now)
    new, old = [], []
    for (edit, definition), revision in zip(changed, revisions, strict=True):
        fields = _fields(edit, definition, revision)
        if edit.stored is None:
            new.append((fields, revision))
        else:
            old.append((edit.stored, fields, revision))
    store.update_automations(connection, old, now=now, by=by)
    made = iter(store.insert_automations(connection, entity.id, new, now=now, by=by))
    numbers = [next(made) if edit.stored is None else edit.stored.id for edit in edits]
    written = {one.id: one for one in store.many_automations(connection, entity.id, ids=numbers)}
    return [written[number] for number in numbers]


def _fields(edit: AutomationEdit, definition: dict[str, Any], revision: int) -> AutomationFields:
    automation, webhook = edit.definition.automation, edit.definition.webhook
    return AutomationFields(
        name=automation.name,
        enabled=automation.enabled,
        event_type=str(automation.event),
        scope_project=automation.scope.project,
        scope_collection=automation.scope.collection,
        webhook_id=None if webhook is None else webhook.id,
        definition=definition,
        epoch=_epoch(None if edit.revives else edit.stored, definition, revision),
    )


def remove_automation(connection: Connection, stored: StoredAutomation, *, by: str) -> None:
    """Delete an automation; the caller holds `lock_edits`."""
    store.delete_automation(connection, stored, revision=next_revision(connection), now=datetime.now(UTC), by=by)


def record_automation_change(
    connection: Connection,
    principal: Principal,
    entity: StoredEntity,
    did: str,
    stored: StoredAutomation,
    changed: Sequence[str] = (),
) -> None:
    """Write the row of `automation_change` to the audit log, in the transaction of the change."""
    insert_changes(connection, [automation_change(principal, entity, did, stored, changed)])


def automation_change(
    principal: Principal, entity: StoredEntity, did: str, stored: StoredAutomation, changed: Sequence[str] = ()
) -> NewChange:
    """The audit log's row of a change: `did` is create, update or delete, `changed` names the members of an update."""
    target_id, detail = encode_id(IdKind.AUTOMATION, stored.id), {"changed": list(changed)} if changed else {}
    return new_change(principal, f"automation.{did}", entity=entity, target_id=target_id, name=stored.name, **detail)


def stored_definition(definition: ResolvedAutomation) -> dict[str, Any]:
    """The definition with its webhook named by id, so that renaming the webhook leaves it right."""
    members, action, webhook = definition.automation.to_json(), definition.automation.action, definition.webhook
    if not isinstance(action, NoOpAction) and webhook is not None:
        members["action"][action.kind] = public_id(webhook.fields.kind, webhook.id)
    return members


def shown_definition(stored: StoredAutomation) -> dict[str, Any]:
    """The definition with its webhook named by name, as people wrote it; by id when it is another entity's."""
    definition = explicit_definition(stored)
    if stored.webhook_id is None or stored.webhook_entity_id != stored.entity_id:
        return definition
    action = definition["action"]
    kind = "slack" if "slack" in action else "webhook"
    return {**definition, "action": {**action, kind: stored.webhook_name}}


def explicit_definition(stored: StoredAutomation) -> dict[str, Any]:
    """The stored definition, with the types of its payload's values.

    Nothing stands for those that automations had before there was a choice. What is sent back, or applied elsewhere,
    must not get those of a new one.
    """
    action = stored.definition["action"]
    if "webhook" not in action:
        return stored.definition
    return {
        **stored.definition,
        "action": {**action, "payload_types": str(action.get("payload_types", PayloadTypes.TEXT))},
    }


def automation_view(entity: StoredEntity, stored: StoredAutomation) -> AutomationView:
    """The automation as it is answered."""
    return {
        "id": encode_id(IdKind.AUTOMATION, stored.id),
        "entity": entity.name,
        **shown_definition(stored),
        "revision": stored.revision,
        "created_at": stored.created_at,
        "updated_at": stored.updated_at,
        "unmatched": None
        if stored.unmatched_at is None
        else {"at": stored.unmatched_at, "reason": stored.unmatched_reason},
        "ignored_sample": None
        if stored.ignored_at is None or stored.ignored_sample is None
        else {"at": stored.ignored_at, **stored.ignored_sample},
    }


def _epoch(stored: StoredAutomation | None, definition: dict[str, Any], revision: int) -> int:
    if stored is None or any(stored.definition.get(m) != definition.get(m) for m in _EPOCH_MEMBERS):
        return revision
    return stored.epoch if same_normal_form(stored.definition["filter"], definition["filter"]) else revision


def _register(connection: Connection, entity: StoredEntity, scope: Scope, now: datetime) -> None:
    if scope.project is None:
        return
    project_id = ensure_project(connection, entity.id, scope.project, now)
    if scope.collection is not None:
        ensure_collection(connection, project_id, scope.collection, now)
