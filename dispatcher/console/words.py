"""The console's words for events, outcomes and reasons, and an automation as a sentence. Must not decide anything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.domain.delivery.waiting import WAIT_WORDS
from shared.domain.events.types import EventType
from shared.domain.sources.model import SourceKind

EVENTS: Mapping[str, str] = {
    EventType.CREATE_ARTIFACT: "A version of an artifact is created",
    EventType.LINK_ARTIFACT: "A version is linked to a collection",
    EventType.UNLINK_ARTIFACT: "A version is unlinked from a collection",
    EventType.ADD_ARTIFACT_ALIAS: "An alias is added to a version",
    EventType.REMOVE_ARTIFACT_ALIAS: "An alias is removed from a version",
    EventType.ADD_ARTIFACT_TAG: "A tag is added to a version",
    EventType.REMOVE_ARTIFACT_TAG: "A tag is removed from a version",
    EventType.ADD_COLLECTION_TAG: "A tag is added to a collection",
    EventType.REMOVE_COLLECTION_TAG: "A tag is removed from a collection",
    EventType.RUN_METRIC: "A run's metric meets a condition",
    EventType.RUN_STATE: "A run changes its state",
    EventType.RUN_ALERT: "A run raises an alert",
    EventType.WEBHOOK_DISABLED: "Hookline disables a webhook",
    EventType.WEBHOOK_CIRCUIT_OPENED: "A webhook's circuit opens",
    EventType.WEBHOOK_CIRCUIT_CLOSED: "A webhook's circuit closes",
    EventType.DEAD_LETTER: "A delivery becomes a dead letter",
    EventType.AUTOMATION_UNMATCHED: "An automation can't be matched",
}
_OPERATORS = {
    "$eq": "is",
    "$ne": "is not",
    "$gt": ">",
    "$gte": "≥",
    "$lt": "<",
    "$lte": "≤",
    "$in": "is one of",
    "$nin": "is none of",
    "$regex": "matches",
    "$contains": "contains",
    "$exists": "exists:",
}


_SIGNS = {name: sign for name, sign in _OPERATORS.items() if name in ("$gt", "$gte", "$lt", "$lte")} | {
    "$eq": "=",
    "$ne": "≠",
}
_COMPARISON = re.compile(r"(?<!\S)\$(?:gte?|lte?|eq|ne)(?!\S)")


@dataclass(frozen=True, slots=True)
class StatusWords:
    """How a delivery's status is shown: never by colour alone."""

    kind: str
    icon: str
    words: str


WAITS: Mapping[str, str] = {reason: f"Waits for: {words}" for reason, words in WAIT_WORDS.items()}

SOURCE_KINDS: Mapping[SourceKind, str] = {
    SourceKind.MLFLOW: "MLflow's model registry",
    SourceKind.GITHUB: "GitHub: tags and releases",
    SourceKind.GITLAB: "GitLab: tags and releases",
    SourceKind.HUGGING_FACE: "Hugging Face Hub",
    SourceKind.EVENT_GRID: "Azure Machine Learning, by Event Grid",
    SourceKind.GENERIC: "Another service, by rules of yours",
}

STATUSES: Mapping[str, StatusWords] = {
    "pending": StatusWords("info", "clock", "Waiting"),
    "delivered": StatusWords("good", "circle-check", "Delivered"),
    "dead": StatusWords("bad", "circle-x", "Out of retries"),
    "refused": StatusWords("bad", "ban", "Refused"),
    "skipped": StatusWords("calm", "circle-minus", "Held back"),
}


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a sentence; `code` is set apart, since somebody named it."""

    text: str
    code: bool = False


def event_words(event_type: str) -> str:
    """What a type of event is, for people."""
    return EVENTS.get(event_type, event_type)


def happened_words(event_type: str) -> str:
    """What happened in an event of a type, where that is more than automations wait for."""
    return "A run logged metrics" if event_type == EventType.RUN_METRIC else event_words(event_type)


def sentence(definition: Mapping[str, Any]) -> list[Part]:
    """What an automation does: `When an alias is added …, where alias matches ^prod, POST to deploy-hook.`"""
    words = event_words(definition["event"])
    parts = [Part(f"When {words[0].lower()}{words[1:]}")]
    parts += _scope(definition.get("scope") or {})
    if states := definition.get("states"):
        parts += [Part(" to "), *_listed(states)]
    if silence := definition.get("silent_for"):
        parts += [Part(" for "), Part(silence, code=True)]
    parts += _filter(definition.get("filter") or {})
    for index, condition in enumerate(definition.get("conditions") or ()):
        parts += [Part(", and " if index else ", where "), *_condition(condition)]
    parts += [Part(", "), *_action(definition["action"])]
    if cooldown := definition.get("cooldown"):
        each = "" if cooldown["per"] == "automation" else f" for each {cooldown['per']}"
        parts += [Part(f"; at most once in {cooldown['period']}{each}")]
    if rate := definition.get("rate_limit"):
        parts += [Part(f"; at most {rate}")]
    return [*parts, Part(".")]


def _scope(scope: Mapping[str, Any]) -> list[Part]:
    if scope.get("collection"):
        place = f"{scope['project']} / {scope['collection']}" if scope.get("project") else scope["collection"]
        return [Part(" in "), Part(place, code=True)]
    return [Part(" in "), Part(scope["project"], code=True)] if scope.get("project") else []


def _listed(values: Any) -> list[Part]:
    parts: list[Part] = []
    for index, value in enumerate(values):
        parts += [Part(" or " if index else ""), Part(str(value), code=True)]
    return parts


def _filter(expression: Mapping[str, Any]) -> list[Part]:
    terms = simple_terms(expression)
    if terms is None:
        return [Part(", where its filter matches")]
    parts: list[Part] = []
    for index, (field, operator, value) in enumerate(terms):
        parts += [Part(" and " if index else ", where "), Part(field, code=True), Part(f" {_OPERATORS[operator]} ")]
        parts += _listed(value) if isinstance(value, list) else [Part(_scalar(value), code=True)]
    return parts


def simple_terms(expression: Mapping[str, Any]) -> list[tuple[str, str, Any]] | None:
    """A filter as a list of terms that must all hold: field, operator, value. None for one of another form."""
    terms: list[tuple[str, str, Any]] = []
    for name, wanted in expression.items():
        if name == "$and" and isinstance(wanted, list):
            for one in wanted:
                inner = simple_terms(one) if isinstance(one, Mapping) else None
                if inner is None:
                    return None
                terms += inner
        elif name.startswith("$"):
            return None
        elif isinstance(wanted, Mapping):
            if not wanted or any(operator not in _OPERATORS for operator in wanted):
                return None
            terms += [(name, operator, value) for operator, value in wanted.items()]
        else:
            terms.append((name, "$eq", wanted))
    return terms


def with_signs(text: str) -> str:
    """The text of a condition with the signs that people write for its operators."""
    return _COMPARISON.sub(lambda found: _SIGNS[found[0]], text)


def _scalar(value: Any) -> str:
    return {None: "null", True: "true", False: "false"}.get(value, str(value)) if not isinstance(value, dict) else "…"


def _condition(condition: Mapping[str, Any]) -> list[Part]:
    metric = Part(str(condition.get("metric", "")), code=True)
    window, kind = condition.get("window", 1), condition.get("kind", "threshold")
    of = f"the {str(condition.get('aggregate', 'average')).lower()} of {window} values of " if window > 1 else ""
    operator = _OPERATORS.get(str(condition.get("op", "")), str(condition.get("op", "")))
    if isinstance(condition.get("finite"), bool):
        return [metric, Part(f" is {'a' if condition['finite'] else 'no'} finite number")]
    if kind == "threshold" and "threshold" in condition:
        return [Part(of), metric, Part(f" {operator} {condition['threshold']}")]
    return [Part(of), metric, Part(" meets its condition")]


def _action(action: Mapping[str, Any]) -> list[Part]:
    if webhook := action.get("webhook"):
        return [Part("POST to "), Part(webhook, code=True)]
    if slack := action.get("slack"):
        return [Part("post to Slack by "), Part(slack, code=True)]
    return [Part("record it")]


OUTCOMES: Mapping[str, StatusWords] = {
    "fired": StatusWords("good", "zap", "Fires"),
    "skipped": StatusWords("calm", "circle-minus", "Held back"),
    "no_match": StatusWords("bad", "x", "No match"),
    "out_of_scope": StatusWords("calm", "minus", "Out of scope"),
}
REASONS: Mapping[str, str] = {
    "event_type": "It is another type of event.",
    "scope": "It happened in another place than the automation watches.",
    "automation_disabled": "The automation was off.",
    "state": "The run entered another state.",
    "filter": "The filter says no.",
    "filter_too_costly": "The filter takes too much work on this event.",
    "repeated": "This event has made a delivery of this automation before.",
    "no_new_sample": "No metric of its conditions has a new value.",
    "conditions": "The conditions do not hold.",
    "already_true": "The conditions held before this event, and fire only when they become true.",
    "webhook_disabled": "The webhook is disabled.",
    "cooldown": "It fired shortly before, and its cooldown holds it back.",
    "rate_limit": "Its rate limit is used up.",
    "payload_too_large": "The payload is too large.",
    "webhook_paused": "It fires, and waits until the webhook is resumed.",
    "not_created": "The automation was not there yet.",
    "deleted": "The automation was deleted.",
    "not_kept": "What the automation was at that time is not kept.",
    "not_evaluated": "No worker has evaluated this event yet.",
    "not_recorded": "No firing is recorded, and the events that were read do not show why.",
}
