"""JSON Schemas of definitions: an automation, a webhook, a Slack integration, a source, and the YAML of `apply`.

Derived from the models and tables that the parsers read, so that what is added to one is in the other. Must not check
anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from dispatcher.control.bodies import Body
from dispatcher.control.catalog import EntityBody
from dispatcher.control.manifest_projects import ProjectDefinition
from dispatcher.control.manifests import ManifestBody
from dispatcher.control.quotas import QuotasBody
from dispatcher.control.slack import SlackBody
from dispatcher.control.source_checks import SourceBody
from dispatcher.control.webhook_checks import MAX_NAME_LENGTH, WebhookBody
from shared.domain.automations import schema as automations
from shared.domain.automations.schema import DRAFT, RATE, Schema, Unsaid

UNSAID_OF_ENDPOINTS: tuple[Unsaid, ...] = (
    Unsaid(
        "URLs and headers: their form, the hosts and ports that are allowed, the secrets that may stand in them.",
        r"^url: (?!is required|must be left out)|^headers\b|^basic\.user: ",
    ),
    Unsaid(
        "An Authorization header beside an access token or Basic; a former signing secret that is the same.",
        r"^(access_token|basic): must be the only one|must be another secret",
    ),
    Unsaid("Times: whether they are of RFC 3339.", r"must be a time"),
    Unsaid("A client certificate where the URL is not https.", r"is shown in TLS only"),
    Unsaid("The filter of a success rule.", r"^policy\.success\.body"),
    Unsaid("Text that can't be stored: U+0000 and lone surrogates.", r"U\+0000|surrogates"),
    Unsaid(
        "Whole numbers written as fractions (`5.0`), which are whole to JSON Schema.",
        r"should be a valid integer|must be a status from|must not be 2xx",
    ),
    Unsaid("Names of secrets that there are.", r"must be the name of a secret"),
)
"""What the schemas of webhooks and Slack integrations accept and their parsers refuse."""

UNSAID_OF_SOURCES: tuple[Unsaid, ...] = (
    Unsaid(
        "Rules: the filter `when`, the names in `each` and in `${…}`, and the members that an event of the type needs.",
        r"^events\.\d+(\.(when|each|id|time|data)\b)",
    ),
    Unsaid("What a signature covers: the places in `signed`.", r"^verify\.hmac\.signed: "),
    Unsaid("The characters of a project's name.", r"^project: must be a name"),
    Unsaid("A former secret that is the same.", r"must be another secret"),
    Unsaid("Text that can't be stored: U+0000 and lone surrogates.", r"U\+0000|surrogates"),
    Unsaid("Whole numbers written as fractions (`5.0`), which are whole to JSON Schema.", r"should be a valid integer"),
)
"""What the schema of sources accepts and their parser refuses."""

_WEBHOOK_NAME: Schema = {
    "type": "string",
    "maxLength": MAX_NAME_LENGTH,
    "pattern": r"^[-\p{L}\p{N}_]+( +[-\p{L}\p{N}_]+)*$",
    "not": {"pattern": r"^(wh|slk)_[1-9][0-9]{0,18}$"},
    "description": "Unique among the entity's webhooks and Slack integrations.",
}


def _webhook() -> Schema:
    """A URL or a secret that is one; one way to authenticate; a former signing secret with its end and a successor."""
    former = ("former_signing_secret", "former_signing_until", "signing_secret")
    rules = [
        {"oneOf": [_has("url"), _has("url_secret")]},
        {"not": {"allOf": [_has("access_token"), _has("basic")]}},
        {
            "if": _has(former[0]),
            "then": {"allOf": [_has(former[1]), _has(former[2])]},
            "else": {"not": _has(former[1])},
        },
    ]
    return {**_with_definitions(WebhookBody), "allOf": rules}


def _has(member: str) -> Schema:
    """A condition: the member is there, and not null."""
    return {"required": [member], "properties": {member: {"not": {"type": "null"}}}}


def _slack() -> Schema:
    return _with_definitions(SlackBody)


def _source() -> Schema:
    """What a generic source needs, and what any other must leave to its kind."""
    schema = _with_definitions(SourceBody)
    schema["properties"]["name"] = {
        **_WEBHOOK_NAME,
        "not": {"pattern": r"^src_[1-9][0-9]{0,18}$"},
        "description": "Unique among the entity's sources.",
    }
    generic = {"required": ["kind"], "properties": {"kind": {"const": "generic"}}}
    some_rules = {"required": ["events"], "properties": {"events": {"minItems": 1}}}
    rules = [
        {
            "if": generic,
            "then": {"allOf": [_has("verify"), some_rules]},
            "else": {"allOf": [{"not": _has("verify")}, {"anyOf": [_has("project"), some_rules]}]},
        },
    ]
    return {**schema, "allOf": rules}


def _manifest() -> Schema:
    schema = _with_definitions(ManifestBody)
    definitions = dict(automations.definitions())
    project = _with_definitions(ProjectDefinition, name=False)
    for name, own in (
        ("Webhook", _webhook()),
        ("SlackIntegration", _slack()),
        ("Source", _source()),
        ("Project", project),
    ):
        definitions |= own.pop("$defs", {})
        definitions[name] = {key: value for key, value in own.items() if key != "$schema"}
    definitions["Automation"] = automations.definition()
    properties = dict(schema["properties"])
    for member, name in (
        ("projects", "Project"),
        ("webhooks", "Webhook"),
        ("slack", "SlackIntegration"),
        ("automations", "Automation"),
        ("sources", "Source"),
    ):
        properties[member] = {**properties[member], "items": {"$ref": f"#/$defs/{name}"}}
    properties["entity"] = {"type": "string", "minLength": 1, "description": "The team that the definitions belong to."}
    return {
        **schema,
        "title": "HooklineDocument",
        "description": "Definitions of one entity, as `hookline apply` takes and `hookline export` writes them.",
        "oneOf": [
            {"required": ["entity"], "not": {"required": ["entities"]}},
            {"required": ["entities"], "maxProperties": 1},
        ],
        "properties": {**properties, "entities": _entities()},
        "$defs": {**schema.get("$defs", {}), **definitions},
    }


def _entities() -> Schema:
    """A list of entities, which is a document of its own; the API checks what is said of each."""
    quotas = QuotasBody.model_json_schema()
    members = {**EntityBody.model_json_schema()["properties"], "quotas": _without_title(quotas)}
    name = {"type": "string", "minLength": 1}
    item: Schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {"name": name, **members},
    }
    return {
        "type": "array",
        "items": item,
        "description": "Entities, which an instance administrator's key creates where they are missing.",
    }


def _without_title(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key != "title"}


SCHEMAS: Mapping[str, Callable[[], Schema]] = {
    "automation": automations.automation_schema,
    "webhook": _webhook,
    "slack": _slack,
    "source": _source,
    "manifest": _manifest,
}
"""Makes each schema, by the name under which it is served."""


def _with_definitions(model: type[Body], *, name: bool = True) -> Schema:
    """A model's schema; its rates and names are checked by hand, so their form is put in."""
    schema = model.model_json_schema(ref_template="#/$defs/{model}")
    made: Schema = {"$schema": DRAFT, **_with_rates(schema)}
    if name and "name" in made["properties"]:
        made["properties"]["name"] = _WEBHOOK_NAME
    return made


def _with_rates(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_rates(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node == _SENT_RATE:
        return RATE
    return {key: _with_rates(value) for key, value in node.items()}


_SENT_RATE = {"type": "string", "examples": ["10/s"]}
"""`shared.domain.delivery.retries.RequestRate` as pydantic describes it."""


def schema_text(schema: Schema) -> str:
    """A schema as indented JSON."""
    return json.dumps(schema, indent=2, ensure_ascii=False)
