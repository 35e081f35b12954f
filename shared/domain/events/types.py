"""The types of events, and which of them publishers may send."""

from __future__ import annotations

from enum import StrEnum

from shared.domain.events.values import Name as Name


class EventType(StrEnum):
    """The types of events, by W&B's names where it has such events; the last five are notices of Hookline's own."""

    CREATE_ARTIFACT = "CREATE_ARTIFACT"
    LINK_ARTIFACT = "LINK_ARTIFACT"
    UNLINK_ARTIFACT = "UNLINK_ARTIFACT"
    ADD_ARTIFACT_ALIAS = "ADD_ARTIFACT_ALIAS"
    REMOVE_ARTIFACT_ALIAS = "REMOVE_ARTIFACT_ALIAS"
    ADD_ARTIFACT_TAG = "ADD_ARTIFACT_TAG"
    REMOVE_ARTIFACT_TAG = "REMOVE_ARTIFACT_TAG"
    ADD_COLLECTION_TAG = "ADD_COLLECTION_TAG"
    REMOVE_COLLECTION_TAG = "REMOVE_COLLECTION_TAG"
    RUN_METRIC = "RUN_METRIC"
    RUN_STATE = "RUN_STATE"
    RUN_ALERT = "RUN_ALERT"
    WEBHOOK_DISABLED = "WEBHOOK_DISABLED"
    WEBHOOK_CIRCUIT_OPENED = "WEBHOOK_CIRCUIT_OPENED"
    WEBHOOK_CIRCUIT_CLOSED = "WEBHOOK_CIRCUIT_CLOSED"
    DEAD_LETTER = "DEAD_LETTER"
    AUTOMATION_UNMATCHED = "AUTOMATION_UNMATCHED"


ARTIFACT_TYPES = frozenset(
    {
        EventType.CREATE_ARTIFACT,
        EventType.LINK_ARTIFACT,
        EventType.UNLINK_ARTIFACT,
        EventType.ADD_ARTIFACT_ALIAS,
        EventType.REMOVE_ARTIFACT_ALIAS,
        EventType.ADD_ARTIFACT_TAG,
        EventType.REMOVE_ARTIFACT_TAG,
    }
)


ALIAS_TYPES = frozenset({EventType.ADD_ARTIFACT_ALIAS, EventType.REMOVE_ARTIFACT_ALIAS})


COLLECTION_TAG_TYPES = frozenset({EventType.ADD_COLLECTION_TAG, EventType.REMOVE_COLLECTION_TAG})


TAG_TYPES = COLLECTION_TAG_TYPES | {EventType.ADD_ARTIFACT_TAG, EventType.REMOVE_ARTIFACT_TAG}


RUN_TYPES = frozenset({EventType.RUN_METRIC, EventType.RUN_STATE, EventType.RUN_ALERT})


NOTICE_TYPES = frozenset(
    {
        EventType.WEBHOOK_DISABLED,
        EventType.WEBHOOK_CIRCUIT_OPENED,
        EventType.WEBHOOK_CIRCUIT_CLOSED,
        EventType.DEAD_LETTER,
        EventType.AUTOMATION_UNMATCHED,
    }
)
"""The types of events about Hookline itself, which only Hookline may publish."""


PUBLISHED_TYPES = tuple(event_type for event_type in EventType if event_type not in NOTICE_TYPES)


class RunPhase(StrEnum):
    """The states of a run that a RUN_STATE event may report; `silent` is Hookline's own, and no end."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CRASHED = "crashed"
    KILLED = "killed"
    PREEMPTED = "preempted"
    SILENT = "silent"


class AlertLevel(StrEnum):
    """How grave an alert is, as the `wandb` client has it (`wandb.AlertLevel`)."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"
