"""`/v1/entities/{entity}/automations`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import JsonBody, Paging, accepts
from dispatcher.api.parts import PartsDep
from dispatcher.control import automations
from dispatcher.control.automations import AutomationView
from dispatcher.control.paging import Page
from shared.domain.events import EventType, RunPhase
from shared.storage.engine import reading, writing

router = APIRouter(prefix="/v1/entities/{entity}/automations", tags=["automations"])

_TEXT_OR_NULL = {"type": ["string", "null"]}
AUTOMATION_SCHEMA: dict[str, Any] = {
    "title": "AutomationBody",
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "event", "action"],
    "properties": {
        "name": {"type": "string", "description": "Unique in the entity."},
        "description": _TEXT_OR_NULL,
        "enabled": {"type": "boolean", "default": True},
        "scope": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"project": _TEXT_OR_NULL, "collection": _TEXT_OR_NULL},
            "description": "Where it watches; empty: the whole entity.",
        },
        "event": {"enum": [str(event_type) for event_type in EventType]},
        "filter": {"type": "object", "description": "A filter expression over the event's fields."},
        "conditions": {"type": "array", "items": {"type": "object"}, "description": "For RUN_METRIC."},
        "states": {"type": "array", "items": {"enum": [str(phase) for phase in RunPhase]}},
        "action": {
            "type": "object",
            "description": "`{webhook, payload}` or `{no_op: true}`.",
            "properties": {
                "webhook": {"type": "string", "description": "The webhook's name or id."},
                "payload": {"type": "object"},
                "no_op": {"const": True},
            },
        },
        "cooldown": {
            "type": ["object", "null"],
            "properties": {"per": {"enum": ["run", "collection", "automation"]}, "period": {"type": "string"}},
        },
        "rate_limit": {"type": ["string", "null"], "examples": ["60/min"]},
    },
}


@router.get("")
def list_automations(entity: str, principal: PrincipalDep, parts: PartsDep, page: Paging) -> Page[AutomationView]:
    """The entity's automations."""
    with reading(parts.engine) as connection:
        return automations.listed(connection, principal, entity, page)


@router.post("", status_code=201, openapi_extra=accepts(AUTOMATION_SCHEMA))
def create_automation(entity: str, body: JsonBody, principal: PrincipalDep, parts: PartsDep) -> AutomationView:
    """Define an automation; it applies to events received from now on."""
    with writing(parts.engine) as connection:
        return automations.create(connection, principal, entity, body)


@router.get("/{automation_id}")
def get_automation(entity: str, automation_id: str, principal: PrincipalDep, parts: PartsDep) -> AutomationView:
    """One automation."""
    with reading(parts.engine) as connection:
        return automations.get(connection, principal, entity, automation_id)


@router.patch("/{automation_id}", openapi_extra=accepts(AUTOMATION_SCHEMA, partly=True))
def change_automation(
    entity: str, automation_id: str, body: JsonBody, principal: PrincipalDep, parts: PartsDep
) -> AutomationView:
    """Replace some members of an automation; the whole is checked anew."""
    with writing(parts.engine) as connection:
        return automations.change(connection, principal, entity, automation_id, body)


@router.delete("/{automation_id}", status_code=204)
def delete_automation(entity: str, automation_id: str, principal: PrincipalDep, parts: PartsDep) -> None:
    """Delete an automation; its deliveries stay in the history."""
    with writing(parts.engine) as connection:
        automations.delete(connection, principal, entity, automation_id)
