"""Events: one fact each, published by a platform backend as a CloudEvents 1.0 JSON object.

The models are the one definition of an event: intake and evaluation both decode JSON text with them, and the JSON
Schemas are derived from them. Unknown members are accepted, as CloudEvents asks of a consumer. Must not accept at
intake what evaluation would set aside.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    PrivateAttr,
    ValidationInfo,
)

from shared.domain.events.types import AlertLevel, EventType, RunPhase
from shared.domain.events.values import Heartbeat, Label, Labels, Samples, Step, Text, Time
from shared.domain.events.values import Name as Name


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Collection(_Model):
    """A named line of artifact versions."""

    name: Name
    type: Label = ""


class Artifact(_Model):
    """One version in a collection, as it was when the event happened."""

    id: Name
    version: Label = ""
    aliases: Labels = ()
    tags: Labels = ()
    metadata: dict[str, Any] = {}


class Run(BaseModel):
    """A run; members beyond these are kept for `run.<key>` in filters."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: Name
    name: Label = ""
    display_name: Label | None = None
    config: dict[str, Any] = {}


class Destination(_Model):
    """The webhook, Slack integration or automation that a notice is about."""

    id: Name
    name: Name


class DeadDelivery(_Model):
    """The dead letter that a notice is about, with its automation and event."""

    id: Name
    status: Literal["dead", "refused"]
    attempts: Step = 0
    automation: Label = ""
    event_type: Label = ""
    event_source: Label = ""
    event_id: Label = ""


class _Data(_Model):
    entity: Name
    project: Name
    author: Label = ""


class ArtifactData(_Data):
    collection: Collection
    artifact: Artifact


class AliasData(ArtifactData):
    alias: Name


class ArtifactTagData(ArtifactData):
    tag: Name


class CollectionTagData(_Data):
    collection: Collection
    tag: Name


def _only_of_running(value: float | None, info: ValidationInfo) -> float | None:
    if value is not None and info.data.get("state", RunPhase.RUNNING) != RunPhase.RUNNING:
        raise ValueError("is only for the state running")
    return value


def _only_of_silent(value: float | None, info: ValidationInfo) -> float | None:
    if value is not None and info.data.get("state", RunPhase.SILENT) != RunPhase.SILENT:
        raise ValueError("is only for the state silent")
    return value


class RunMetricData(_Data):
    run: Run
    step: Step | None = None
    metrics: Samples


class RunStateData(_Data):
    run: Run
    state: RunPhase
    heartbeat_seconds: Annotated[Heartbeat | None, AfterValidator(_only_of_running)] = None
    silent_seconds: Annotated[Heartbeat | None, AfterValidator(_only_of_silent)] = None


class RunAlertData(_Data):
    run: Run
    title: Name
    text: Text = ""
    level: AlertLevel = AlertLevel.INFO


class OwnData(_Model):
    """The data of every notice. It is about something of an entity's, so it has no project."""

    entity: Name
    author: Label = ""
    reason: Label = ""


class NoticeData(OwnData):
    """A notice about a webhook."""

    webhook: Destination


class UnmatchedData(OwnData):
    """A notice about an automation that could not be matched."""

    automation: Destination


class DisabledData(NoticeData):
    failing_since: Time | None = None


class DeadLetterData(NoticeData):
    delivery: DeadDelivery


class Envelope(_Model):
    specversion: Literal["1.0"]
    id: Name
    source: Name
    time: Time | None = None
    _time_sent: str | None = PrivateAttr(default=None)

    def note_time(self, sent: str) -> None:
        """Keep how the time was written, besides the moment that it means."""
        self._time_sent = sent

    @property
    def time_text(self) -> str:
        """The event's time as it was sent; blank without one."""
        if self.time is None:
            return ""
        return self._time_sent or self.time.isoformat().replace("+00:00", "Z")


class ArtifactEvent(Envelope):
    type: Literal[EventType.CREATE_ARTIFACT, EventType.LINK_ARTIFACT, EventType.UNLINK_ARTIFACT]
    data: ArtifactData


class AliasEvent(Envelope):
    type: Literal[EventType.ADD_ARTIFACT_ALIAS, EventType.REMOVE_ARTIFACT_ALIAS]
    data: AliasData


class ArtifactTagEvent(Envelope):
    type: Literal[EventType.ADD_ARTIFACT_TAG, EventType.REMOVE_ARTIFACT_TAG]
    data: ArtifactTagData


class CollectionTagEvent(Envelope):
    type: Literal[EventType.ADD_COLLECTION_TAG, EventType.REMOVE_COLLECTION_TAG]
    data: CollectionTagData


class RunMetricEvent(Envelope):
    type: Literal[EventType.RUN_METRIC]
    data: RunMetricData


class RunStateEvent(Envelope):
    type: Literal[EventType.RUN_STATE]
    data: RunStateData


class RunAlertEvent(Envelope):
    type: Literal[EventType.RUN_ALERT]
    data: RunAlertData


class CircuitEvent(Envelope):
    type: Literal[EventType.WEBHOOK_CIRCUIT_OPENED, EventType.WEBHOOK_CIRCUIT_CLOSED]
    data: NoticeData


class DisabledEvent(Envelope):
    type: Literal[EventType.WEBHOOK_DISABLED]
    data: DisabledData


class DeadLetterEvent(Envelope):
    type: Literal[EventType.DEAD_LETTER]
    data: DeadLetterData


class UnmatchedEvent(Envelope):
    type: Literal[EventType.AUTOMATION_UNMATCHED]
    data: UnmatchedData


NoticeEvent = CircuitEvent | DisabledEvent | DeadLetterEvent | UnmatchedEvent
Event = Annotated[
    ArtifactEvent
    | AliasEvent
    | ArtifactTagEvent
    | CollectionTagEvent
    | RunMetricEvent
    | RunStateEvent
    | RunAlertEvent
    | CircuitEvent
    | DisabledEvent
    | DeadLetterEvent
    | UnmatchedEvent,
    Discriminator("type"),
]
