"""What happened, in the variables of each type of event: a sentence, a name for the subject, and facts.

Every event has a value for each of them, or a default stands there: services refuse blank texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from shared.domain.events.types import ARTIFACT_TYPES, COLLECTION_TAG_TYPES, RUN_TYPES, EventType

_WHO = "${event_author:-somebody}"
_VERSION = "${artifact_collection_name} ${version:-(no version)}"
_RUN = "${run_name:-a run}"

_SENTENCES: Mapping[EventType, str] = MappingProxyType(
    {
        EventType.CREATE_ARTIFACT: f"{_WHO} created {_VERSION}",
        EventType.LINK_ARTIFACT: f"{_WHO} linked {_VERSION}",
        EventType.UNLINK_ARTIFACT: f"{_WHO} unlinked {_VERSION}",
        EventType.ADD_ARTIFACT_ALIAS: f"{_WHO} gave {_VERSION} the alias ${{alias}}",
        EventType.REMOVE_ARTIFACT_ALIAS: f"{_WHO} took the alias ${{alias}} off {_VERSION}",
        EventType.ADD_ARTIFACT_TAG: f"{_WHO} tagged {_VERSION} ${{tag}}",
        EventType.REMOVE_ARTIFACT_TAG: f"{_WHO} took the tag ${{tag}} off {_VERSION}",
        EventType.ADD_COLLECTION_TAG: f"{_WHO} tagged ${{artifact_collection_name}} ${{tag}}",
        EventType.REMOVE_COLLECTION_TAG: f"{_WHO} took the tag ${{tag}} off ${{artifact_collection_name}}",
        EventType.RUN_METRIC: f"{_RUN}: ${{metric_name}} is ${{metric_value}}",
        EventType.RUN_STATE: f"{_RUN} is ${{run_state}}",
        EventType.RUN_ALERT: f"{_RUN} alerts: ${{alert_title}}",
        EventType.WEBHOOK_DISABLED: "webhook ${webhook_name} was disabled: ${reason:-no reason}",
        EventType.WEBHOOK_CIRCUIT_OPENED: "webhook ${webhook_name} fails: ${reason:-no reason}",
        EventType.WEBHOOK_CIRCUIT_CLOSED: "webhook ${webhook_name} answers again",
        EventType.DEAD_LETTER: "a delivery to ${webhook_name} became a dead letter: ${reason:-no reason}",
        EventType.AUTOMATION_UNMATCHED: "automation ${automation_name} could not be matched: ${reason:-no reason}",
    }
)


@dataclass(frozen=True, slots=True)
class Words:
    """What a payload template may say of the events of one type."""

    event: EventType
    sentence: str
    """What happened; as long as the names in it, some 1,000 characters at most."""
    subject: str
    """What it happened to: the same for all events about it."""
    facts: Mapping[str, str]
    """By names of letters and underscores: five to ten, each one variable."""


def words_of(event: EventType) -> Words:
    """The words for a type of event."""
    facts = {"event": "${event_type}", "entity": "${entity_name}", "author": "${event_author:-unknown}"}
    subject = "${entity_name}"
    if event in ARTIFACT_TYPES | COLLECTION_TAG_TYPES:
        subject = "${entity_name}/${project_name}/${artifact_collection_name}"
        facts |= {"project": "${project_name}", "collection": "${artifact_collection_name}"}
    if event in ARTIFACT_TYPES:
        facts |= {"version": "${version:-unknown}", "artifact": "${artifact_version_string}"}
    if event in RUN_TYPES:
        subject = "${entity_name}/${project_name}/${run_id}"
        facts |= {"project": "${project_name}", "run_id": "${run_id}", "run_name": "${run_name:-unnamed}"}
    facts |= _own_facts(event)
    return Words(event, _SENTENCES[event], subject, MappingProxyType(facts))


def _own_facts(event: EventType) -> dict[str, str]:
    if event.endswith("_ALIAS"):
        return {"alias": "${alias}"}
    if event.endswith("_TAG"):
        return {"tag": "${tag}"}
    if event is EventType.RUN_METRIC:
        return {"metric": "${metric_name}", "value": "${metric_value}", "threshold": "${metric_threshold:-none}"}
    if event is EventType.RUN_STATE:
        return {"state": "${run_state}"}
    if event is EventType.RUN_ALERT:
        return {"alert": "${alert_title}", "level": "${alert_level}", "text": "${alert_text:-no text}"}
    if event is EventType.AUTOMATION_UNMATCHED:
        return {"automation": "${automation_name}", "reason": "${reason:-no reason}"}
    if event in ARTIFACT_TYPES:
        return {}
    return {"webhook": "${webhook_name}", "reason": "${reason:-no reason}"}
