"""Which payload variables have a value on events of a type; on all others they render blank.

Variables that are named nowhere here may have a value on events of every type.
"""

from __future__ import annotations

from shared.domain.events.types import (
    ALIAS_TYPES,
    ARTIFACT_TYPES,
    COLLECTION_TAG_TYPES,
    RUN_TYPES,
    TAG_TYPES,
    EventType,
)

_ARTIFACT = frozenset({"artifact_version", "artifact_version_string"})
_METRIC = frozenset({"metric_name", "metric_value", "metric_threshold"})
_WEBHOOK = frozenset({"webhook_name", "webhook_id", "reason"})
_UNMATCHED = frozenset({"automation_name", "automation_id", "reason"})
_DEAD = frozenset({"dead_letter_id", "dead_letter_automation", "dead_letter_event_type", "dead_letter_event_id"})
_OF_WEBHOOKS = frozenset(
    {
        EventType.WEBHOOK_DISABLED,
        EventType.WEBHOOK_CIRCUIT_OPENED,
        EventType.WEBHOOK_CIRCUIT_CLOSED,
        EventType.DEAD_LETTER,
    }
)
_OF: tuple[tuple[frozenset[str], frozenset[EventType]], ...] = (
    (frozenset({"project_name"}), ARTIFACT_TYPES | COLLECTION_TAG_TYPES | RUN_TYPES),
    (frozenset({"artifact_collection_name"}), ARTIFACT_TYPES | COLLECTION_TAG_TYPES),
    (_ARTIFACT, ARTIFACT_TYPES),
    (frozenset({"alias"}), ALIAS_TYPES),
    (frozenset({"tag"}), TAG_TYPES),
    (frozenset({"run_id", "run_name"}), RUN_TYPES),
    (frozenset({"run_state"}), frozenset({EventType.RUN_STATE})),
    (_METRIC, frozenset({EventType.RUN_METRIC})),
    (_WEBHOOK, _OF_WEBHOOKS),
    (_DEAD, frozenset({EventType.DEAD_LETTER})),
    (_UNMATCHED, frozenset({EventType.AUTOMATION_UNMATCHED})),
)


def blank_on(event_type: EventType) -> frozenset[str]:
    """The variables that are blank on every event of a type."""
    named = frozenset(name for names, _ in _OF for name in names)
    return named - frozenset(name for names, types in _OF if event_type in types for name in names)
