"""Forms of events and automations in the OpenAPI document, each a component that generators make a class of.

Their parsers are elsewhere and written by hand (`shared.domain.automations.parsing`) or made for speed
(`shared.domain.events`). Must describe what they accept and answer, and check nothing.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from shared.domain.automations.model import CooldownUnit
from shared.domain.conditions.conditions import ChangeCondition, FiniteCondition, ThresholdCondition, ZScoreCondition
from shared.domain.events.limits import MAX_BATCH_EVENTS
from shared.domain.events.models import (
    AliasEvent,
    ArtifactEvent,
    ArtifactTagEvent,
    CollectionTagEvent,
    RunAlertEvent,
    RunMetricEvent,
    RunStateEvent,
)
from shared.domain.events.types import AlertLevel, EventType, RunPhase
from shared.domain.payloads.content_types import ACCEPTED, JSON, PayloadTypes
from shared.domain.payloads.slack_messages import Severity

REFERENCE = "#/components/schemas/{model}"
_PUBLISHED = (
    ArtifactEvent,
    AliasEvent,
    ArtifactTagEvent,
    CollectionTagEvent,
    RunMetricEvent,
    RunStateEvent,
    RunAlertEvent,
)
_CONDITIONS = (ThresholdCondition, ChangeCondition, ZScoreCondition, FiniteCondition)
_TEXT_OR_NULL = {"type": ["string", "null"]}
_OPEN = {"type": "object", "additionalProperties": True}


def reference(name: str) -> dict[str, Any]:
    """A reference to a component."""
    return {"$ref": REFERENCE.format(model=name)}


def _closed(title: str, required: list[str], properties: dict[str, Any], description: str) -> dict[str, Any]:
    return {
        "title": title,
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": properties,
        "description": description,
    }


_NULLABLE = ("filter", "conditions", "states")
_DEFINITION: dict[str, Any] = {
    "name": {"type": "string", "description": "Unique in the entity."},
    "description": _TEXT_OR_NULL,
    "enabled": {"type": "boolean", "default": True},
    "scope": reference("Scope"),
    "event": reference("EventType"),
    "filter": {**_OPEN, "description": "A filter expression over the event's fields."},
    "conditions": {
        "type": "array",
        "items": {"anyOf": [reference(model.__name__) for model in _CONDITIONS]},
        "description": "For RUN_METRIC.",
    },
    "states": {"type": "array", "items": reference("RunPhase"), "description": "For RUN_STATE."},
    "silent_for": {**_TEXT_OR_NULL, "description": "For the state silent.", "examples": ["30m"]},
    "action": {"anyOf": [reference("WebhookAction"), reference("SlackAction"), reference("NoOpAction")]},
    "cooldown": {"anyOf": [reference("Cooldown"), {"type": "null"}]},
    "rate_limit": {**_TEXT_OR_NULL, "examples": ["60/min"]},
}
# Null stands for a member that is left out.
_SENT = {
    **_DEFINITION,
    "scope": {"anyOf": [_DEFINITION["scope"], {"type": "null"}]},
    **{member: {**_DEFINITION[member], "type": [_DEFINITION[member]["type"], "null"]} for member in _NULLABLE},
}
AUTOMATION_SCHEMA = _closed(
    "AutomationBody", ["name", "event", "action"], _SENT, "An automation as it is created and changed."
)
_KEPT: dict[str, Any] = {
    "id": {"type": "string"},
    "entity": {"type": "string"},
    "revision": {"type": "integer"},
    "created_at": {"type": "string", "format": "date-time"},
    "updated_at": {"type": "string", "format": "date-time"},
    "unmatched": {
        "anyOf": [reference("Unmatched"), {"type": "null"}],
        "description": "When it could not be matched with an event, and why; null if that has not happened since the "
        "last change. Written at most once an hour.",
    },
    "ignored_sample": {
        "anyOf": [reference("IgnoredSample"), {"type": "null"}],
        "description": "A sample of a run that was ignored, because its step was not after its metric's last; null if "
        "that has not happened since the last change. Written at most once an hour.",
    },
}
AUTOMATION_VIEW_SCHEMA: dict[str, Any] = {
    "title": "AutomationView",
    "type": "object",
    "required": [*_KEPT, "name", "enabled", "scope", "event", "action"],
    "properties": {**_DEFINITION, **_KEPT, "stats": reference("StatsView")},
    "description": "An automation. `stats` is there in lists with `stats=true`.",
}


def components() -> dict[str, Any]:
    """The components, by name."""
    return {name: simplified(schema) for name, schema in _components().items()}


def _components() -> dict[str, Any]:
    return {
        **_models([*_PUBLISHED, *_CONDITIONS]),
        "EventType": _enumeration("EventType", EventType),
        "RunPhase": _enumeration("RunPhase", RunPhase),
        "AlertLevel": _enumeration("AlertLevel", AlertLevel),
        "CloudEvent": {
            "title": "CloudEvent",
            "anyOf": [reference(model.__name__) for model in _PUBLISHED],
            "discriminator": {"propertyName": "type", "mapping": _mapping()},
            "description": "A CloudEvents 1.0 event; `/v1/schemas/{type}` has the schema of each type.",
        },
        "EventBatch": {
            "title": "EventBatch",
            "type": "array",
            "items": reference("CloudEvent"),
            "maxItems": MAX_BATCH_EVENTS,
        },
        "Scope": _closed(
            "Scope",
            [],
            {"project": _TEXT_OR_NULL, "collection": _TEXT_OR_NULL},
            "Where it watches; empty: the whole entity.",
        ),
        "WebhookAction": _closed(
            "WebhookAction",
            ["webhook"],
            {
                "webhook": {"type": "string", "description": "The webhook's name or id."},
                "payload": {
                    "description": "JSON with variables such as `${artifact_version_string}`; a text for text/plain.",
                },
                "payload_types": {
                    "anyOf": [_enumeration("PayloadTypes", PayloadTypes), {"type": "null"}],
                    "description": "Whether a string that is one variable becomes its value with its type (`json`), or "
                    "stays a string (`text`, as in W&B). Left out: `json` for a new automation, else what it was.",
                },
                "content_type": {
                    **_TEXT_OR_NULL,
                    "description": f"Of the request: {ACCEPTED}. Left out: `{JSON}`.",
                },
            },
            "Send a payload to a webhook.",
        ),
        "SlackAction": _closed(
            "SlackAction",
            ["slack"],
            {
                "slack": {"type": "string", "description": "The Slack integration's name or id."},
                "title": _TEXT_OR_NULL,
                "message": _TEXT_OR_NULL,
                "severity": {"anyOf": [_enumeration("Severity", Severity), {"type": "null"}]},
            },
            "Send a message to a Slack channel.",
        ),
        "NoOpAction": _closed(
            "NoOpAction", ["no_op"], {"no_op": {"type": "boolean", "description": "true"}}, "Record the firing only."
        ),
        "Cooldown": _closed(
            "Cooldown",
            ["per", "period"],
            {
                "per": {"type": "string", "enum": [str(unit) for unit in CooldownUnit]},
                "period": {"type": "string", "examples": ["24h"]},
            },
            "At most one firing in a period.",
        ),
        "Unmatched": {
            "title": "Unmatched",
            "type": "object",
            "required": ["at", "reason"],
            "properties": {"at": {"type": "string", "format": "date-time"}, "reason": {"type": "string"}},
        },
        "IgnoredSample": {
            "title": "IgnoredSample",
            "type": "object",
            "required": ["at", "project", "run", "metric", "step", "last_step"],
            "properties": {
                "at": {"type": "string", "format": "date-time"},
                **{name: {"type": "string"} for name in ("project", "run", "metric")},
                **{name: {"type": "integer"} for name in ("step", "last_step")},
            },
        },
        "AutomationBody": AUTOMATION_SCHEMA,
        "AutomationPatch": {
            **{key: value for key, value in AUTOMATION_SCHEMA.items() if key != "required"},
            "title": "AutomationPatch",
            "description": "The members of an automation to change.",
        },
        "AutomationView": AUTOMATION_VIEW_SCHEMA,
    }


def _mapping() -> dict[str, str]:
    return {
        str(event_type): REFERENCE.format(model=model.__name__)
        for model in _PUBLISHED
        for event_type in model.model_fields["type"].annotation.__args__  # type: ignore[union-attr]
    }


def _enumeration(title: str, values: Any) -> dict[str, Any]:
    return {"title": title, "type": "string", "enum": [str(value) for value in values]}


def _models(models: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for model in models:
        schema = TypeAdapter(model).json_schema(ref_template=REFERENCE)
        found |= schema.pop("$defs", {})
        found[model.__name__] = schema
    found["MetricChange"] = found.pop("Change") | {"title": "MetricChange"}  # there is a change by a manifest as well
    text = json.dumps(found).replace(json.dumps(REFERENCE.format(model="Change")), json.dumps(_METRIC_CHANGE))
    renamed: dict[str, Any] = json.loads(text)
    return renamed


_METRIC_CHANGE = REFERENCE.format(model="MetricChange")


def simplified(node: Any) -> Any:
    """A schema of what is sent, without what generators stumble over.

    An enumeration gets its type. A default goes into the description: `openapi-typescript` takes a member with a
    default for one that must be sent.
    """
    if isinstance(node, list):
        return [simplified(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = dict(node)
    if "enum" in node and "type" not in node:
        node["type"] = "string"
    if isinstance(node.get("properties"), dict):
        node["properties"] = {name: _told(member) for name, member in node["properties"].items()}
    return {key: simplified(value) for key, value in node.items()}


def _told(member: Any) -> Any:
    if not isinstance(member, dict) or "default" not in member:
        return member
    rest = {key: value for key, value in member.items() if key != "default"}
    if member["default"] in (None, "", [], {}) or "$ref" in member or "properties" in member:
        return rest
    default = f"`{json.dumps(member['default'])}` by default."
    return {**rest, "description": f"{rest['description']} {default}" if "description" in rest else default}
