"""Events: one fact each, published by a platform backend as a CloudEvents 1.0 JSON object.

The models are the one definition of an event: intake and evaluation both decode JSON text with them, and the JSON
Schemas are derived from them. Unknown members are accepted, as CloudEvents asks of a consumer. Must not accept at
intake what evaluation would set aside.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal, Protocol

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    TypeAdapter,
    ValidationError,
)

from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.events.values import Label, Labels, Samples, Step, Time
from shared.domain.events.values import Name as Name

MAX_EVENT_BYTES = 1 << 20
MAX_BATCH_EVENTS = 1000
MAX_NAMED_FAULTS = 100
MAX_BATCH_BYTES = 8 << 20


class EventType(StrEnum):
    """What happened. The names are those of W&B's automation events; the last four are notices of Hookline's own."""

    CREATE_ARTIFACT = "CREATE_ARTIFACT"
    LINK_ARTIFACT = "LINK_ARTIFACT"
    UNLINK_ARTIFACT = "UNLINK_ARTIFACT"
    ADD_ARTIFACT_ALIAS = "ADD_ARTIFACT_ALIAS"
    ADD_ARTIFACT_TAG = "ADD_ARTIFACT_TAG"
    REMOVE_ARTIFACT_TAG = "REMOVE_ARTIFACT_TAG"
    ADD_COLLECTION_TAG = "ADD_COLLECTION_TAG"
    REMOVE_COLLECTION_TAG = "REMOVE_COLLECTION_TAG"
    RUN_METRIC = "RUN_METRIC"
    RUN_STATE = "RUN_STATE"
    WEBHOOK_DISABLED = "WEBHOOK_DISABLED"
    WEBHOOK_CIRCUIT_OPENED = "WEBHOOK_CIRCUIT_OPENED"
    WEBHOOK_CIRCUIT_CLOSED = "WEBHOOK_CIRCUIT_CLOSED"
    DEAD_LETTER = "DEAD_LETTER"


ARTIFACT_TYPES = frozenset(
    {
        EventType.CREATE_ARTIFACT,
        EventType.LINK_ARTIFACT,
        EventType.UNLINK_ARTIFACT,
        EventType.ADD_ARTIFACT_ALIAS,
        EventType.ADD_ARTIFACT_TAG,
        EventType.REMOVE_ARTIFACT_TAG,
    }
)
COLLECTION_TAG_TYPES = frozenset({EventType.ADD_COLLECTION_TAG, EventType.REMOVE_COLLECTION_TAG})
RUN_TYPES = frozenset({EventType.RUN_METRIC, EventType.RUN_STATE})
NOTICE_TYPES = frozenset(
    {
        EventType.WEBHOOK_DISABLED,
        EventType.WEBHOOK_CIRCUIT_OPENED,
        EventType.WEBHOOK_CIRCUIT_CLOSED,
        EventType.DEAD_LETTER,
    }
)
"""What Hookline tells about itself: nobody else may publish these."""
PUBLISHED_TYPES = tuple(event_type for event_type in EventType if event_type not in NOTICE_TYPES)


class RunPhase(StrEnum):
    """The states of a run that a RUN_STATE event may report."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CRASHED = "crashed"
    KILLED = "killed"
    PREEMPTED = "preempted"


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
    """The webhook or Slack integration that a notice is about."""

    id: Name
    name: Name


class DeadDelivery(_Model):
    """The dead letter that a notice is about: what it was to send, and on which event."""

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


class RunMetricData(_Data):
    run: Run
    step: Step
    metrics: Samples


class RunStateData(_Data):
    run: Run
    state: RunPhase


class NoticeData(_Model):
    """What a notice says: it is about an entity's webhook, and so in no project."""

    entity: Name
    author: Label = ""
    webhook: Destination
    reason: Label = ""


class DisabledData(NoticeData):
    failing_since: Time | None = None


class DeadLetterData(NoticeData):
    delivery: DeadDelivery


class _Envelope(_Model):
    specversion: Literal["1.0"]
    id: Name
    source: Name
    time: Time | None = None


class ArtifactEvent(_Envelope):
    type: Literal[EventType.CREATE_ARTIFACT, EventType.LINK_ARTIFACT, EventType.UNLINK_ARTIFACT]
    data: ArtifactData


class AliasEvent(_Envelope):
    type: Literal[EventType.ADD_ARTIFACT_ALIAS]
    data: AliasData


class ArtifactTagEvent(_Envelope):
    type: Literal[EventType.ADD_ARTIFACT_TAG, EventType.REMOVE_ARTIFACT_TAG]
    data: ArtifactTagData


class CollectionTagEvent(_Envelope):
    type: Literal[EventType.ADD_COLLECTION_TAG, EventType.REMOVE_COLLECTION_TAG]
    data: CollectionTagData


class RunMetricEvent(_Envelope):
    type: Literal[EventType.RUN_METRIC]
    data: RunMetricData


class RunStateEvent(_Envelope):
    type: Literal[EventType.RUN_STATE]
    data: RunStateData


class CircuitEvent(_Envelope):
    type: Literal[EventType.WEBHOOK_CIRCUIT_OPENED, EventType.WEBHOOK_CIRCUIT_CLOSED]
    data: NoticeData


class DisabledEvent(_Envelope):
    type: Literal[EventType.WEBHOOK_DISABLED]
    data: DisabledData


class DeadLetterEvent(_Envelope):
    type: Literal[EventType.DEAD_LETTER]
    data: DeadLetterData


NoticeEvent = CircuitEvent | DisabledEvent | DeadLetterEvent
Event = Annotated[
    ArtifactEvent
    | AliasEvent
    | ArtifactTagEvent
    | CollectionTagEvent
    | RunMetricEvent
    | RunStateEvent
    | CircuitEvent
    | DisabledEvent
    | DeadLetterEvent,
    Discriminator("type"),
]

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)
_MODELS: Mapping[EventType, type[_Envelope]] = {
    **dict.fromkeys((EventType.CREATE_ARTIFACT, EventType.LINK_ARTIFACT, EventType.UNLINK_ARTIFACT), ArtifactEvent),
    EventType.ADD_ARTIFACT_ALIAS: AliasEvent,
    **dict.fromkeys((EventType.ADD_ARTIFACT_TAG, EventType.REMOVE_ARTIFACT_TAG), ArtifactTagEvent),
    **dict.fromkeys((EventType.ADD_COLLECTION_TAG, EventType.REMOVE_COLLECTION_TAG), CollectionTagEvent),
    EventType.RUN_METRIC: RunMetricEvent,
    EventType.RUN_STATE: RunStateEvent,
    **dict.fromkeys((EventType.WEBHOOK_CIRCUIT_OPENED, EventType.WEBHOOK_CIRCUIT_CLOSED), CircuitEvent),
    EventType.WEBHOOK_DISABLED: DisabledEvent,
    EventType.DEAD_LETTER: DeadLetterEvent,
}


def decode_event(body: bytes) -> Event:
    """An event from the JSON on a stream entry.

    `NaN` and `Infinity` without quotes, which Python's json writes, pass for the strings of that name.

    Raises:
        InvalidDefinition: with a fault for each field that is not as the event's type demands, `MAX_NAMED_FAULTS` at
            most, and for more than `MAX_EVENT_BYTES` of JSON.
    """
    if len(body) > MAX_EVENT_BYTES:
        raise InvalidDefinition.at((), f"must be at most {MAX_EVENT_BYTES} bytes")
    try:
        return _EVENT.validate_json(body)
    except ValidationError as exc:
        raise _refusal(exc) from exc


def check_event(candidate: object) -> Event:
    """An event from decoded JSON: `decode_event` of the text that `orjson.dumps` makes of it.

    By way of the text, since that is what evaluation gets: nothing is accepted here that is poison there.

    Raises:
        InvalidDefinition: as `decode_event` does, and for what no JSON text can hold.
    """
    try:
        body = orjson.dumps(candidate)
    except orjson.JSONEncodeError as exc:
        raise InvalidDefinition.at((), f"can't be written as JSON: {exc}") from exc
    return decode_event(body)


def check_events(candidates: Sequence[object]) -> list[Event]:
    """The events of a batch of decoded JSON.

    Raises:
        InvalidDefinition: for an empty batch or more than `MAX_BATCH_EVENTS`, else with the index and field of each
            fault, `MAX_NAMED_FAULTS` at most.
    """
    if not 1 <= len(candidates) <= MAX_BATCH_EVENTS:
        raise InvalidDefinition.at((), f"must be a list of 1 to {MAX_BATCH_EVENTS} events")
    events: list[Event] = []
    faults: list[FieldError] = []
    for index, candidate in enumerate(candidates):
        try:
            events.append(check_event(candidate))
        except InvalidDefinition as exc:
            faults += exc.under(index).errors
    if faults:
        raise InvalidDefinition(*faults[:MAX_NAMED_FAULTS])
    return events


def check_published(candidates: Sequence[object]) -> list[Event]:
    """The events of a publisher's batch, who may not tell what only Hookline knows.

    Raises:
        InvalidDefinition: as `check_events` does; with the index of each event that is a notice (`NOTICE_TYPES`).
    """
    events = check_events(candidates)
    told = [index for index, event in enumerate(events) if event.type in NOTICE_TYPES]
    if told:
        msg = f"is Hookline's own and can't be published; must be one of {', '.join(PUBLISHED_TYPES)}"
        raise InvalidDefinition(*(FieldError((index, "type"), msg) for index in told[:MAX_NAMED_FAULTS]))
    return events


def _refusal(exc: ValidationError) -> InvalidDefinition:
    errors = exc.errors(include_url=False, include_input=False)
    return InvalidDefinition(*(_fault(error) for error in errors[:MAX_NAMED_FAULTS]))


_TYPE_NAMES = frozenset(str(event_type) for event_type in EventType)
_PLAIN_WORDS = {
    "missing": "is required",
    "string_pattern_mismatch": "must not hold control characters",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
}


def _fault(error: Any) -> FieldError:
    """Pydantic's error without the union's branch in its place, and in words for people who don't know pydantic."""
    kind, loc = error["type"], tuple(error["loc"])
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return FieldError(("type",), f"must be one of {', '.join(EventType)}")
    if kind == "json_invalid":
        return FieldError((), f"is not JSON: {error['ctx']['error']}")
    if loc and loc[0] in _TYPE_NAMES:
        loc = loc[1:]
    message = _PLAIN_WORDS.get(kind) or str(error["msg"]).removeprefix("Value error, ")
    if loc[:2] == ("data", "metrics") and len(loc) == 4:  # pydantic marks the name itself by a fourth part, `[key]`
        return FieldError(loc[:3], f"the metric's name: {message}")
    return FieldError(loc, message)


def json_schema(event_type: EventType) -> dict[str, Any]:
    """The JSON Schema (2020-12) of events of one type."""
    schema = _MODELS[event_type].model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = str(event_type)
    schema["properties"]["type"] = {"const": str(event_type)}
    return schema


class _Happening(Protocol):
    """An event, however it was read."""

    @property
    def data(self) -> Any:
        """What happened."""


def subject_key(event: _Happening) -> str:
    """What the event is about, as `entity/project/run:<id>` or `entity/project/collection:<name>`.

    A notice is about `entity/webhook:<id>`.

    All events with one key are in one partition, in order.
    """
    data = event.data
    run = getattr(data, "run", None)
    if run is not None:
        return f"{data.entity}/{data.project}/run:{run.id}"
    collection = getattr(data, "collection", None)
    if collection is not None:
        return f"{data.entity}/{data.project}/collection:{collection.name}"
    return f"{data.entity}/webhook:{data.webhook.id}"


def partition_of(event: _Happening, partitions: int) -> int:
    """The partition of an event: CRC-32 of the UTF-8 bytes of its subject key, modulo the number of partitions."""
    return zlib.crc32(subject_key(event).encode()) % partitions
