"""The JSON Schema of an automation, for editors, generators and CI: what it accepts, `parse_automation` accepts.

Derived from the tables and models that the parser reads; what only the parser says is written out here, and a property
test holds both to each other. `UNSAID` lists what no schema can say. Must not check anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter

from shared.domain.automations.model import CooldownUnit
from shared.domain.automations.parsing import MAX_DESCRIPTION_LENGTH, MAX_NAME_LENGTH, own_unit
from shared.domain.conditions.conditions import CONDITION_MODELS, MAX_CONDITIONS, WORDS
from shared.domain.durations import MAX_DURATION, MAX_RATE_COUNT
from shared.domain.events.types import NOTICE_TYPES, RUN_TYPES, EventType, RunPhase
from shared.domain.events.values import Name
from shared.domain.filters.fields import filter_fields
from shared.domain.filters.filters import MAX_FIELD_CHARS
from shared.domain.filters.operands import NULLABLE, OBJECT_FIELD, RUN_TEXTS, closed_values, list_fields
from shared.domain.payloads.content_types import FORM, JSON, OTHER_JSON, PLAIN, PayloadTypes
from shared.domain.payloads.slack_messages import Severity

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Unsaid:
    """Something that a definition is refused for and no schema can say."""

    what: str
    refusal: str
    """A regular expression that the refusal matches."""


UNSAID: tuple[Unsaid, ...] = (
    Unsaid("Names of webhooks, Slack integrations and secrets that there are.", r"must be the name or id of a"),
    Unsaid(
        "Variables of payloads and Slack texts: whether they are there, closed, and of a known form.",
        r"is not available|begins a variable and must be closed|events have no \$"
        r"|is an object: write|is a secret and has a value",
    ),
    Unsaid("RE2 patterns: whether they are valid and small enough.", r"RE2 pattern"),
    Unsaid(
        "Bounds over a whole definition: depth, numbers of values, terms and patterns, bytes of a payload.",
        r"must not nest deeper|must have at most [\d,]+ (values|terms|\$regex|characters)|must be at most \d+ bytes"
        r"|a payload names (variables|secrets) at most|would keep [\d,]+ values of each run",
    ),
    Unsaid("Text that can't be stored: U+0000 and lone surrogates.", r"U\+0000|surrogates"),
    Unsaid("How short and how long a silence may be.", r"a duration from 1m to 30d"),
    Unsaid("Durations over ten years that are written with units.", r"no longer than ten years"),
    Unsaid(
        "Whole numbers written as fractions (`5.0`), which are whole to JSON Schema, and numbers beyond 64-bit floats.",
        r"expected a whole number|digits, or a fraction|must be a finite number|expected a finite number",
    ),
)
"""What the schema accepts and the parser refuses; there is nothing that the parser accepts and the schema refuses."""

_NULL: Final[Schema] = {"type": "null"}
_NO_COLLECTION: Final[Schema] = {"properties": {"collection": _NULL}}
_NOTHING: Final[Schema] = {"anyOf": [_NULL, {"type": "array", "maxItems": 0}]}
_NAME: Final[Schema] = TypeAdapter(Name).json_schema()
_SPACES: Final = " \\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"
"""What Python strips; `\\s` is not the same everywhere."""
_DURATION: Final[Schema] = {
    "anyOf": [
        {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|[smhdw]))+$"},
        {"type": "number", "minimum": 0, "maximum": MAX_DURATION.total_seconds()},
    ],
    "description": "Such as 30s, 15m, 24h or 5d; a plain number counts seconds.",
    "examples": ["24h", "1h30m"],
}
RATE: Final[Schema] = {
    "type": "string",
    "pattern": rf"^(?=[0-9]{{1,6}} */)0*([1-9][0-9]{{0,2}}|{MAX_RATE_COUNT}) */ *"
    "(s|sec|second|m|min|minute|h|hour|d|day)$",
    "examples": ["60/min"],
}


def automation_schema() -> Schema:
    """The schema of one automation, with definitions of its own."""
    return {"$schema": DRAFT, **definition(), "$defs": definitions()}


def definition() -> Schema:
    """The automation's own part, which refers to `definitions()`."""
    profiles = _profiles()
    return {
        "title": "Automation",
        "description": "On this event, in this scope, under this filter: do this.",
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "event", "action"],
        "properties": _members(),
        "allOf": [
            {
                "if": {"properties": {"event": {"enum": [str(one) for one in events]}}, "required": ["event"]},
                "then": _of_events(label, events),
            }
            for label, events in profiles.items()
        ],
    }


def definitions() -> dict[str, Schema]:
    """What `definition()` refers to, by name."""
    found: dict[str, Schema] = {}
    for label, events in _profiles().items():
        found |= _filter(label, events[0])
    return {**found, **_conditions()}


def _members() -> dict[str, Schema]:
    blank = f"[^{_SPACES}]"
    return {
        "name": {
            **_NAME,
            "maxLength": MAX_NAME_LENGTH,
            "allOf": [{"pattern": blank}],
            "description": "Unique in the entity.",
        },
        "description": {"type": ["string", "null"], "maxLength": MAX_DESCRIPTION_LENGTH},
        "enabled": {"type": "boolean", "default": True},
        "scope": {
            "type": ["object", "null"],
            "additionalProperties": False,
            "properties": {"project": _or_null(_NAME), "collection": _or_null(_NAME)},
            "if": {"properties": {"collection": {"type": "string"}}, "required": ["collection"]},
            "then": {"properties": {"project": {"type": "string"}}, "required": ["project"]},
            "description": "Where it watches; empty: the whole entity. A collection needs its project.",
        },
        "event": {"type": "string", "enum": [str(one) for one in EventType]},
        "filter": {"description": "An expression over the event's fields; none: every event in scope."},
        "conditions": {"description": "Statements about metrics, which must all hold; for RUN_METRIC."},
        "states": {"description": "The states that fire; for RUN_STATE."},
        "silent_for": {"description": "How long nothing of a run has come; for the state silent."},
        "action": _action(),
        "cooldown": {
            "type": ["object", "null"],
            "additionalProperties": False,
            "required": ["per", "period"],
            "properties": {"per": {"enum": [str(unit) for unit in CooldownUnit]}, "period": _DURATION},
            "description": "At most one firing in a period; null: none.",
        },
        "rate_limit": _or_null(RATE, "The most firings in a period."),
    }


def _or_null(schema: Schema, description: str | None = None) -> Schema:
    found: Schema = {"anyOf": [schema, _NULL]}
    return found if description is None else {**found, "description": description}


def _action() -> Schema:
    text: Schema = {"type": ["string", "null"]}
    return {
        "type": "object",
        "oneOf": [
            _webhook_form(),
            _form(
                "slack",
                slack={"type": "string", "description": "The Slack integration's name or id."},
                title={**text, "description": "The automation's name by default."},
                message=text,
                severity={"enum": [*(str(one) for one in Severity), None]},
            ),
            _form("no_op", no_op={"const": True, "description": "Record the firing, and do nothing."}),
        ],
    }


def _webhook_form() -> Schema:
    payload = (
        "JSON with variables such as `${artifact_collection_name}`, or text for text/plain; none: all with a value."
    )
    form = _form(
        "webhook",
        webhook={"type": "string", "description": "Its name or id."},
        payload={"description": payload},
        payload_types={
            "enum": [*(str(one) for one in PayloadTypes), None],
            "description": "Whether a string that is one variable becomes the value with its type, or stays text.",
        },
        content_type={
            "anyOf": [{"enum": [JSON, FORM, PLAIN, None]}, {"type": "string", "pattern": f"^{OTHER_JSON}$"}],
            "description": f"Of the request; {JSON} by default.",
        },
    )
    of_type = {
        content_type: {"properties": {"content_type": {"const": content_type}}} for content_type in (FORM, PLAIN)
    }
    return {
        **form,
        "allOf": [
            {
                "if": {**of_type[FORM], "required": ["content_type"]},
                "then": {"properties": {"payload": {"type": ["object", "null"]}}},
            },
            {
                "if": {**of_type[PLAIN], "required": ["content_type"]},
                "then": {"properties": {"payload": {"type": ["string", "number", "boolean"]}}, "required": ["payload"]},
            },
        ],
    }


def _form(required: str, **properties: Schema) -> Schema:
    return {"additionalProperties": False, "required": [required], "properties": properties}


def _profiles() -> dict[str, tuple[EventType, ...]]:
    """The event types whose automations have the same members, by the first of them."""
    found: dict[Any, list[EventType]] = {}
    for event in EventType:
        fields, prefixes = filter_fields(event)
        own = event in (EventType.RUN_METRIC, EventType.RUN_STATE) and event
        key = (fields, prefixes, list_fields(event), own, event in NOTICE_TYPES, own_unit(event))
        found.setdefault(key, []).append(event)
    return {str(events[0]): tuple(events) for events in found.values()}


def _of_events(label: str, events: tuple[EventType, ...]) -> Schema:
    event = events[0]
    units = dict.fromkeys((own_unit(event), CooldownUnit.AUTOMATION))
    properties: dict[str, Schema] = {
        "filter": {"anyOf": [{"$ref": f"#/$defs/{_filter_name(label)}"}, _NULL]},
        "cooldown": {"properties": {"per": {"enum": [str(unit) for unit in units]}}},
        "conditions": _NOTHING,
        "states": _NOTHING,
        "silent_for": _NULL,
    }
    required = []
    if event is EventType.RUN_METRIC:
        items = {"anyOf": [{"$ref": f"#/$defs/{model.__name__}"} for model in CONDITION_MODELS]}
        properties["conditions"] = {"type": "array", "minItems": 1, "maxItems": MAX_CONDITIONS, "items": items}
        required = ["conditions"]
    if event is EventType.RUN_STATE:
        phases = {"enum": [str(phase) for phase in RunPhase]}
        properties["states"] = {"type": "array", "minItems": 1, "items": phases}
        del properties["silent_for"]
        required = ["states"]
        silent = {"properties": {"states": {"type": "array", "contains": {"const": str(RunPhase.SILENT)}}}}
        lasts: Schema = {"properties": {"silent_for": _DURATION}, "required": ["silent_for"]}
        none: Schema = {"properties": {"silent_for": _NULL}}
        properties["scope"] = _NO_COLLECTION
        return {"properties": properties, "required": required, "if": silent, "then": lasts, "else": none}
    if event in RUN_TYPES:
        properties["scope"] = _NO_COLLECTION
    if event in NOTICE_TYPES:
        properties["scope"] = {"properties": {"project": _NULL}}
    return {"properties": properties, "required": required} if required else {"properties": properties}


def _conditions() -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for model in CONDITION_MODELS:
        schema = TypeAdapter(model).json_schema(ref_template="#/$defs/{model}")
        found |= schema.pop("$defs", {})
        found[model.__name__] = schema
    for word in WORDS:
        if word.__name__ in found:
            found[word.__name__] = _in_any_case(found[word.__name__])
    return found


def _in_any_case(enumeration: Schema) -> Schema:
    """Editors complete the words as they are written; the parser takes them in any case."""
    words = [
        "".join(f"[{c.upper()}{c.lower()}]" if c.isalpha() else re.escape(c) for c in one)
        for one in enumeration["enum"]
    ]
    return {
        **{key: value for key, value in enumeration.items() if key != "enum"},
        "anyOf": [{"enum": enumeration["enum"]}, {"pattern": f"^({'|'.join(words)})$"}],
    }


# Filters. A field is of a kind: what its values may be, and what it may be compared with.

_ANY, _TEXT, _TEXT_OR_NULL, _TEXTS, _OBJECT = "any", "text", "text_or_null", "texts", "object"
_VALUES: Final[dict[str, Schema]] = {
    _ANY: {},
    _TEXT: {"type": "string"},
    _TEXT_OR_NULL: {"type": ["string", "null"]},
    _TEXTS: {"type": ["string", "array"], "items": {"type": "string"}},
    _OBJECT: {"type": ["object", "null"]},
}
_LOOKS_LIKE_OPERATORS: Final[Schema] = {"type": "object", "not": {"propertyNames": {"not": {"pattern": r"^\$"}}}}


def _filter_name(label: str) -> str:
    return f"filter_{label.lower()}"


def _filter(label: str, event: EventType) -> dict[str, Schema]:
    name = _filter_name(label)
    fields, prefixes = filter_fields(event)
    lists = list_fields(event)
    kinds = {field: _TEXTS if field in lists else _TEXT for field in fields}
    closed: dict[str, Schema] = {}
    for field in sorted(fields):
        if values := closed_values(event, field):
            kinds[field], closed[field] = field, {"enum": list(values)}
    for field in (*RUN_TEXTS, OBJECT_FIELD):
        if any(field.startswith(prefix) for prefix in prefixes):
            kinds[field] = _OBJECT if field == OBJECT_FIELD else _TEXT_OR_NULL if field in NULLABLE else _TEXT
    this = {"$ref": f"#/$defs/{name}"}
    listed: Schema = {"type": "array", "items": this}
    expression: Schema = {
        "type": "object",
        "propertyNames": {"maxLength": MAX_FIELD_CHARS},
        "properties": {
            "$and": listed,
            "$or": {**listed, "minItems": 1},
            "$nor": {**listed, "minItems": 1},
            "$not": this,
            **{field: {"$ref": f"#/$defs/operand_{kind}"} for field, kind in sorted(kinds.items())},
        },
        "patternProperties": {
            _members_of(prefix, kinds): {"$ref": f"#/$defs/operand_{_ANY}"} for prefix in sorted(prefixes)
        },
        "additionalProperties": False,
    }
    used = {*kinds.values(), *([_ANY] if prefixes else [])}
    found = {name: expression}
    for kind in sorted(used):
        value = closed.get(kind) or _VALUES[kind]
        found |= {f"operand_{kind}": _operand(kind, value), f"operators_{kind}": _operators(kind, value)}
    return found


def _members_of(prefix: str, named: Iterable[str]) -> str:
    own = [re.escape(one.removeprefix(prefix)) for one in sorted(named) if one.startswith(prefix)]
    others = f"(?!({'|'.join(own)})$)" if own else ""
    return rf"^{re.escape(prefix)}{others}[\s\S]"


def _operand(kind: str, value: Schema) -> Schema:
    return {"if": _LOOKS_LIKE_OPERATORS, "then": {"$ref": f"#/$defs/operators_{kind}"}, "else": value}


def _operators(kind: str, value: Schema) -> Schema:
    text: Schema = {"not": {}} if kind == _OBJECT else {"type": "string"}
    ordered: Schema = {"type": ["number", "string"]} if kind == _ANY else text
    among: Schema = {"type": "array", "items": value}
    properties: dict[str, Schema] = {
        **dict.fromkeys(("$eq", "$ne"), value),
        **dict.fromkeys(("$gt", "$gte", "$lt", "$lte"), ordered),
        **dict.fromkeys(("$in", "$nin"), among),
        **dict.fromkeys(("$regex", "$contains"), text),
        "$exists": {"type": "boolean"},
        "$not": {"$ref": f"#/$defs/operators_{kind}"},
    }
    return {"type": "object", "minProperties": 1, "additionalProperties": False, "properties": properties}
