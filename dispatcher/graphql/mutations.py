"""What the client changes: automations, webhooks, projects. Each is one call of `dispatcher.control`, translated."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import orjson
from ariadne import MutationType

from dispatcher.control import automations, catalog, webhooks
from dispatcher.control.errors import NotFound
from dispatcher.graphql import opaque_ids, rows
from dispatcher.graphql.nodes import CollectionNode, ProjectNode
from dispatcher.graphql.selections import reads_all_of
from dispatcher.graphql.session import Info, Session
from dispatcher.graphql.triggers import TriggerNode, trigger_nodes
from shared.domain.automations.model import cooldown_to_json
from shared.domain.automations.parsing import default_cooldown, own_unit
from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.events.types import EventType
from shared.domain.filters.wandb import WandbEventType, event_members
from shared.domain.ids import IdKind, decode_id
from shared.domain.json_text import read_json
from shared.domain.payloads.content_types import PayloadTypes
from shared.storage.definitions.automations import StoredAutomation, find_automation
from shared.storage.definitions.catalog import find_project

_ACTIONS = {
    "GENERIC_WEBHOOK": "generic_webhook_action_input",
    "NOTIFICATION": "notification_action_input",
    "NO_OP": "no_op_action_input",
}
_INTEGRATIONS = {
    "GENERIC_WEBHOOK": (IdKind.WEBHOOK, "a webhook"),
    "NOTIFICATION": (IdKind.SLACK, "a Slack integration"),
}

mutation = MutationType()


@mutation.field("createFilterTrigger")
def resolve_create(_root: Any, info: Info, *, input: dict[str, Any]) -> dict[str, Any]:
    """Define an automation, owned by the entity of its scope."""
    session = info.context
    owner, scope = _scope(session, input["scope_type"], input["scope_id"])
    definition = {
        "name": input["name"],
        "description": input.get("description"),
        "enabled": input.get("enabled") is not False,
        "scope": scope,
        **event_members(WandbEventType(input["triggering_event_type"]), input["event_filter"]),
        "action": _action(input["triggered_action_type"], input["triggered_action_config"]),
    }
    view = automations.create(session.connection, session.principal, owner, definition)
    return {"trigger": _trigger(info, owner, view["id"])}


@mutation.field("updateFilterTrigger")
def resolve_update(_root: Any, info: Info, *, input: dict[str, Any]) -> dict[str, Any]:
    """Change what the input has; a scope in another entity moves the automation there, under a new id."""
    session = info.context
    owner, stored = _stored(session, input["id"])
    patch: dict[str, Any] = {key: input[key] for key in ("name", "enabled") if input.get(key) is not None}
    if "description" in input:
        patch["description"] = input["description"]
    patch |= _changed_event(input, stored)
    if input.get("triggered_action_type") is not None or input.get("triggered_action_config") is not None:
        action = _action(input.get("triggered_action_type"), input.get("triggered_action_config"), stored)
        # The client sends the action back at every change; one that stays need not be one that this key could choose.
        if action != automations.explicit_definition(stored)["action"]:
            patch["action"] = action
    target = owner
    if input.get("scope_id") is not None:
        target, patch["scope"] = _scope(session, input.get("scope_type"), input["scope_id"])
    connection, principal = session.connection, session.principal
    if target == owner:
        view = automations.change(connection, principal, owner, input["id"], patch)
    else:
        automations.delete(connection, principal, owner, input["id"])
        moved = {**automations.explicit_definition(stored), **patch}
        view = automations.create(connection, principal, target, moved)
    return {"trigger": _trigger(info, target, view["id"])}


@mutation.field("deleteTrigger")
def resolve_delete(_root: Any, info: Info, *, input: dict[str, Any]) -> dict[str, bool]:
    """Delete an automation."""
    session = info.context
    owner, _ = _stored(session, input["trigger_id"])
    automations.delete(session.connection, session.principal, owner, input["trigger_id"])
    return {"success": True}


@mutation.field("createGenericWebhookIntegration")
def resolve_create_webhook(_root: Any, info: Info, *, input: dict[str, Any]) -> dict[str, Any]:
    """Define a webhook; its secret signs requests and may be used in payloads."""
    session = info.context
    secret = input.get("secret_ref")
    definition = {
        "name": input["name"],
        "url": input["url_endpoint"],
        "access_token": input.get("access_token_ref"),
        "signing_secret": secret,
        "secrets": [] if secret is None else [secret],
    }
    view = webhooks.create(
        session.connection, session.principal, input["entity_name"], definition, checks=session.checks
    )
    number = decode_id(IdKind.WEBHOOK, view.id)
    return {"integration": None if number is None else rows.integrations_of(session.connection, [number])[number]}


@mutation.field("upsertModel")
def resolve_upsert_project(_root: Any, info: Info, *, input: dict[str, Any]) -> dict[str, Any]:
    """Register a project or registry, or describe it."""
    session = info.context
    _refuse_unkept(input)
    owner = session.readable(input.get("entity_name") or session.default_entity() or "")
    name = input.get("name") or ""
    known = find_project(session.connection, owner.id, name) is not None
    body = {} if input.get("description") is None else {"description": input["description"]}
    catalog.put_project(session.connection, session.principal, owner.name, name, body)
    node = ProjectNode(owner, name)
    return {"project": node, "model": node, "inserted": not known}


def _refuse_unkept(given: Mapping[str, Any]) -> None:
    """Raises InvalidDefinition for each member that asks for what projects here do not have."""
    kept = {"name", "entity_name", "description", "client_mutation_id"}
    means_nothing = {"access": "PRIVATE", "allow_all_artifact_types_in_registry": True, "is_benchmark": False}
    accepted = {
        "access": "must be PRIVATE (visibility organization): everybody who may read the entity may read its registries"
    }
    faults = [
        FieldError((key,), accepted.get(key, "is not kept here; leave it out"))
        for key, value in given.items()
        if key not in kept and value not in (None, []) and value != means_nothing.get(key)
    ]
    if faults:
        raise InvalidDefinition(*faults)


def _stored(session: Session, automation_id: str) -> tuple[str, StoredAutomation]:
    """An automation and its owner. Raises NotFound, in the same words whoever owns it."""
    number = decode_id(IdKind.AUTOMATION, automation_id)
    owner = None if number is None else rows.entity_of_automation(session.connection, number)
    missing = NotFound(f"there is no automation {automation_id!r}")
    if owner is None:
        raise missing
    try:
        of = session.readable(owner)
    except NotFound:
        raise missing from None
    found = find_automation(session.connection, of.id, automation_id=number)
    if found is None:
        raise missing
    return owner, found


def _trigger(info: Info, owner: str, automation_id: str) -> TriggerNode | None:
    session = info.context
    of, number = session.readable(owner), decode_id(IdKind.AUTOMATION, automation_id)
    stored = find_automation(session.connection, of.id, automation_id=number)
    batch = [] if stored is None else [stored]
    nodes = trigger_nodes(session, of, batch, all_of=reads_all_of(info, ("trigger",)))
    return nodes[0] if nodes else None


def _scope(session: Session, kind: str | None, scope_id: str) -> tuple[str, dict[str, str]]:
    """The owner and the scope that the client names by an id.

    Raises:
        InvalidDefinition: for an id that no answer gave, one of another kind, and one of what is not there for this
            key; not NotFound, which the client takes to be about the automation.
    """
    try:
        found = _scope_of(session, kind, scope_id)
    except NotFound as exc:
        raise InvalidDefinition.at(("scopeID",), str(exc)) from None
    if found is None:
        what = "a scope" if kind is None else kind
        raise InvalidDefinition.at(("scopeID",), f"must be the id of {what} from an answer")
    return found


def _scope_of(session: Session, kind: str | None, scope_id: str) -> tuple[str, dict[str, str]] | None:
    of_collection = opaque_ids.read_collection_id(scope_id)
    if kind in (None, "ARTIFACT_COLLECTION") and of_collection is not None:
        owner, project, name = of_collection
        CollectionNode(ProjectNode(session.readable(owner), project), name).known(session)
        return owner, {"project": project, "collection": name}
    of_project = opaque_ids.read_project_id(scope_id)
    if kind in (None, "PROJECT") and of_project is not None:
        owner, project = of_project
        ProjectNode(session.readable(owner), project).known(session)
        return owner, {"project": project}
    of_entity = opaque_ids.read_entity_id(scope_id)
    if kind in (None, "ENTITY") and of_entity is not None:
        return session.readable(of_entity).name, {}
    return None


def _changed_event(given: Mapping[str, Any], stored: StoredAutomation) -> dict[str, Any]:
    """What the input says of the event. A cooldown that the new type could not have becomes that type's default."""
    event_type, event_filter = given.get("triggering_event_type"), given.get("event_filter")
    if event_type is None and event_filter is None:
        return {}
    if event_type is None or event_filter is None:
        missing = "triggeringEventType" if event_type is None else "eventFilter"
        raise InvalidDefinition.at((missing,), "is required with the other one: what a filter says depends on the type")
    members = event_members(WandbEventType(event_type), event_filter, stored=stored.definition)
    was, becomes = EventType(stored.definition["event"]), EventType(members["event"])
    cooldown = stored.definition.get("cooldown")
    if own_unit(was) is not own_unit(becomes) and (cooldown is None or cooldown["per"] != "automation"):
        members["cooldown"] = cooldown_to_json(default_cooldown(becomes))
    return members


def _action(
    kind: str | None, config: Mapping[str, Any] | None, stored: StoredAutomation | None = None
) -> dict[str, Any]:
    """The action of a definition. What the client has no word for stays as it is in the stored one.

    Raises InvalidDefinition when the configuration is not that of the action's type.
    """
    given = {key: value for key, value in (config or {}).items() if value is not None}
    if kind is None or list(given) != [_ACTIONS[kind]]:
        accepted = ", ".join(f"{name}: {_wire_name(key)}" for name, key in _ACTIONS.items())
        raise InvalidDefinition.at(
            ("triggeredActionConfig",), f"must have exactly what belongs to triggeredActionType ({accepted})"
        )
    value = given[_ACTIONS[kind]]
    if kind == "NO_OP":
        return {"no_op": True}
    id_kind, what = _INTEGRATIONS[kind]
    if decode_id(id_kind, value["integration_id"]) is None:
        loc = ("triggeredActionConfig", _wire_name(_ACTIONS[kind]), "integrationID")
        raise InvalidDefinition.at(loc, f"must be the id of {what}")
    if kind == "NOTIFICATION":
        # The client has a blank text where there is none.
        texts = {key: value[key] for key in ("title", "message", "severity") if value.get(key)}
        return {"slack": value["integration_id"], **texts}
    payload = _payload(value.get("request_payload"))
    action = {"webhook": value["integration_id"], **_beyond_client(stored)}
    return action if payload is None else {**action, "payload": payload}


def _beyond_client(stored: StoredAutomation | None) -> dict[str, Any]:
    """The members of a webhook's action that the client can't send: a new one's values are text, as W&B's are."""
    before = {} if stored is None else stored.definition["action"]
    kept = {name: before[name] for name in ("payload_types", "content_type") if name in before}
    return {"payload_types": str(PayloadTypes.TEXT), **kept}


def _payload(text: str | None) -> Any:
    if text is None:
        return None
    loc = ("triggeredActionConfig", "genericWebhookActionInput", "requestPayload")
    payload: Any = ""
    with suppress(orjson.JSONDecodeError, TypeError):
        payload = read_json(text)
    if not isinstance(payload, dict | None):  # no client could read another one back
        raise InvalidDefinition.at(loc, "must be a JSON object in a string")
    return payload


def _wire_name(key: str) -> str:
    head, *rest = key.split("_")
    return head + "".join(part.capitalize() for part in rest)


BINDABLES = (mutation,)
