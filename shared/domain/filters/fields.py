"""The fields of events that filters may name, and how each is read.

`alias` and `tag` are the alias or tag that the event added or removed. On artifact events without one they stand for
all aliases or tags of the version, as W&B's `ArtifactEvent.alias` does on link events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any

from shared.domain.events.members import member_at, members_sent
from shared.domain.events.types import (
    ALIAS_TYPES,
    ARTIFACT_TYPES,
    COLLECTION_TAG_TYPES,
    NOTICE_TYPES,
    RUN_TYPES,
    TAG_TYPES,
    EventType,
)
from shared.domain.filters.filters import MISSING

Getter = Callable[[Any], object]

_EVERYWHERE: dict[str, Getter] = {
    "author": attrgetter("data.author"),
    "project": attrgetter("data.project"),
}
_ON_COLLECTIONS: dict[str, Getter] = {
    "collection": attrgetter("data.collection.name"),
    "artifact_type": attrgetter("data.collection.type"),
}
_ON_ARTIFACTS: dict[str, Getter] = {
    "version": attrgetter("data.artifact.version"),
    "aliases": attrgetter("data.artifact.aliases"),
    "tags": attrgetter("data.artifact.tags"),
    "alias": attrgetter("data.artifact.aliases"),
    "tag": attrgetter("data.artifact.tags"),
}
_OWN_ALIAS: dict[str, Getter] = {"alias": attrgetter("data.alias")}
_OWN_TAG: dict[str, Getter] = {"tag": attrgetter("data.tag")}
_ON_RUNS: dict[str, Getter] = {
    "display_name": lambda e: e.data.run.name if e.data.run.display_name is None else e.data.run.display_name,
}
_ON_ALERTS: dict[str, Getter] = {
    "title": attrgetter("data.title"),
    "text": attrgetter("data.text"),
    "level": attrgetter("data.level"),
}
_ON_NOTICES: dict[str, Getter] = {
    "author": lambda e: e.data.author,
    "reason": lambda e: e.data.reason,
}
_ON_WEBHOOKS: dict[str, Getter] = {"webhook": lambda e: e.data.webhook.name}
_ON_AUTOMATIONS: dict[str, Getter] = {"automation": lambda e: e.data.automation.name}
_ON_DEAD_LETTERS: dict[str, Getter] = {
    "automation": lambda e: e.data.delivery.automation,
    "status": lambda e: e.data.delivery.status,
    "event_type": lambda e: e.data.delivery.event_type,
}


def _fields(event_type: EventType) -> dict[str, Getter]:
    if event_type in NOTICE_TYPES:
        if event_type is EventType.AUTOMATION_UNMATCHED:
            return _ON_NOTICES | _ON_AUTOMATIONS
        return _ON_NOTICES | _ON_WEBHOOKS | (_ON_DEAD_LETTERS if event_type is EventType.DEAD_LETTER else {})
    fields = dict(_EVERYWHERE)
    if event_type in ARTIFACT_TYPES:
        fields |= _ON_COLLECTIONS | _ON_ARTIFACTS
    if event_type in COLLECTION_TAG_TYPES:
        fields |= _ON_COLLECTIONS
    if event_type in ALIAS_TYPES:
        fields |= _OWN_ALIAS
    if event_type in TAG_TYPES:
        fields |= _OWN_TAG
    if event_type in RUN_TYPES:
        fields |= _ON_RUNS
    if event_type is EventType.RUN_ALERT:
        fields |= _ON_ALERTS
    return fields


def _objects(event_type: EventType) -> dict[str, Callable[[Any], Mapping[str, Any]]]:
    """The objects of which any member is a field, by the prefix of the field's name."""
    if event_type in ARTIFACT_TYPES:
        return {"metadata.": attrgetter("data.artifact.metadata")}
    if event_type in RUN_TYPES:
        return {"run.": members_sent, "config.": attrgetter("data.run.config")}
    return {}


def _member_at(get: Callable[[Any], Mapping[str, Any]], key: str, event: Any) -> object:
    return member_at(get(event), key, MISSING)


_FIELDS = {event_type: _fields(event_type) for event_type in EventType}
_OBJECTS = {event_type: _objects(event_type) for event_type in EventType}


def filter_fields(event_type: EventType) -> tuple[frozenset[str], frozenset[str]]:
    """The fields that filters on this event type may name, and the prefixes of objects of which they name members."""
    return frozenset(_FIELDS[event_type]), frozenset(_OBJECTS[event_type])


def field_refusal(event_type: EventType, name: str) -> str | None:
    """None when a filter on this event type may name the field; otherwise a message with the accepted ones."""
    if name in _FIELDS[event_type] or any(
        name.startswith(prefix) and len(name) > len(prefix) for prefix in _OBJECTS[event_type]
    ):
        return None
    accepted = [*sorted(_FIELDS[event_type]), *(f"{prefix}<key>" for prefix in _OBJECTS[event_type])]
    return f"{event_type} events have no field {name!r}; accepted: {', '.join(accepted)}"


@lru_cache(maxsize=4096)
def field_getter(event_type: EventType, name: str) -> Getter:
    """How to read a field of events of this type; the name must have passed `field_refusal`."""
    member = member_field(event_type, name)
    return _FIELDS[event_type][name] if member is None else partial(_member_at, *member)


def member_field(event_type: EventType, name: str) -> tuple[Callable[[Any], Mapping[str, Any]], str] | None:
    """Where a field is a member of an object of any members: what reads the object, and the member's path in it.

    The object has the whole path or its first part as a key, or the field is missing.
    """
    if name not in _FIELDS[event_type]:
        for prefix, get in _OBJECTS[event_type].items():
            if name.startswith(prefix):
                return get, name.removeprefix(prefix)
    return None
