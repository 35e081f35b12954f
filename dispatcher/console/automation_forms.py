"""An automation as the fields of a form, and back. What rows can't show is kept as JSON, unchanged.

Pure: it neither checks a definition, which `dispatcher.control` does, nor knows of requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dispatcher.console.condition_forms import condition_fields, conditions_of
from dispatcher.console.filter_forms import filter_fields, filter_of
from dispatcher.console.forms import Form
from dispatcher.console.json_fields import read_json_field, shown_json
from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.payloads.content_types import PLAIN

FIELDS = (
    "name",
    "description",
    "event",
    "scope.project",
    "scope.collection",
    "filter",
    "states",
    "silent_for",
    "conditions",
    "action",
    "action.webhook",
    "action.slack",
    "action.payload",
    "action.payload_types",
    "action.content_type",
    "cooldown",
    "rate_limit",
)
"""The members that have a field of their own: where faults are shown."""


def form_of(definition: Mapping[str, Any], *, revision: int | None = None) -> Form:
    """The fields that show a definition."""
    scope, action = definition.get("scope") or {}, definition.get("action") or {"webhook": ""}
    cooldown = definition.get("cooldown") or {}
    kind = next((one for one in ("webhook", "slack", "no_op") if one in action), "webhook")
    payload = action.get("payload")
    fields: dict[str, list[str]] = {
        "name": [definition.get("name", "")],
        "description": [definition.get("description") or ""],
        "event": [str(definition.get("event", "ADD_ARTIFACT_ALIAS"))],
        "scope.project": [scope.get("project") or ""],
        "scope.collection": [scope.get("collection") or ""],
        "states": list(definition.get("states") or ()),
        "silent_for": [definition.get("silent_for") or ""],
        "action": [kind],
        "action.webhook": [action.get("webhook", "")],
        "action.slack": [action.get("slack", "")],
        "title": [action.get("title") or ""],
        "message": [action.get("message") or ""],
        "severity": [action.get("severity", "INFO")],
        "action.payload": ["" if payload is None else _payload_text(action)],
        "action.payload_types": [str(action.get("payload_types", "json"))],
        "action.content_type": [action.get("content_type", "")],
        "cooldown.per": [cooldown.get("per", "")],
        "cooldown.period": [cooldown.get("period", "")],
        "rate_limit": [definition.get("rate_limit") or ""],
        "revision": ["" if revision is None else str(revision)],
    }
    if definition.get("enabled", True):
        fields["enabled"] = ["1"]
    fields |= filter_fields(definition.get("filter") or {}, fields["event"][0])
    fields |= condition_fields(definition.get("conditions") or [])
    return Form(fields)


def definition_of(form: Form) -> dict[str, Any]:
    """The definition that the fields say.

    Raises:
        InvalidDefinition: naming each field whose JSON can't be read.
    """
    faults: list[FieldError] = []
    event = form.text("event")
    scope = {key: form.text(f"scope.{key}").strip() for key in ("project", "collection")}
    definition: dict[str, Any] = {
        "name": form.text("name").strip(),
        "description": form.text("description").strip() or None,
        "enabled": form.has("enabled"),
        "scope": {key: value for key, value in scope.items() if value},
        "event": event,
        "filter": filter_of(form, faults),
        "conditions": conditions_of(form, faults) if event == "RUN_METRIC" else None,
        "states": form.texts("states") if event == "RUN_STATE" else None,
        "silent_for": (form.text("silent_for").strip() or None) if event == "RUN_STATE" else None,
        "action": _action_of(form, faults),
        "rate_limit": form.text("rate_limit").strip() or None,
        "cooldown": None,
    }
    if form.text("cooldown.per"):
        definition["cooldown"] = {"per": form.text("cooldown.per"), "period": form.text("cooldown.period").strip()}
    if faults:
        raise InvalidDefinition(*faults)
    return definition


def _action_of(form: Form, faults: list[FieldError]) -> dict[str, Any]:
    kind = form.text("action", "webhook")
    if kind == "no_op":
        return {"no_op": True}
    if kind == "slack":
        texts = {name: form.text(name) for name in ("title", "message")}
        chosen = {name: text for name, text in texts.items() if text.strip()}
        return {"slack": form.text("action.slack"), **chosen, "severity": form.text("severity", "INFO")}
    action: dict[str, Any] = {"webhook": form.text("action.webhook")}
    for name in ("payload_types", "content_type"):
        if form.text(f"action.{name}"):
            action[name] = form.text(f"action.{name}")
    text = form.text("action.payload")
    if action.get("content_type") == PLAIN:
        return {**action, "payload": text.replace("\r\n", "\n")}  # which browsers make of the lines of a field
    payload = read_json_field("action.payload", text, faults)
    return action if payload is None else {**action, "payload": payload}


def _payload_text(action: Mapping[str, Any]) -> str:
    """A payload to edit: plain text as it is, else JSON."""
    payload = action["payload"]
    return payload if isinstance(payload, str) and action.get("content_type") == PLAIN else shown_json(payload)
