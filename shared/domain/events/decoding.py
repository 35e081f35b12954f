"""Reading events: from JSON to checked models, with every fault named by its place. Knows no source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import (
    TypeAdapter,
    ValidationError,
)
from pydantic_core import from_json

from shared.domain.errors import FieldError, InvalidDefinition, Loc
from shared.domain.events.limits import MAX_BATCH_EVENTS, MAX_EVENT_BYTES
from shared.domain.events.models import (
    AliasEvent,
    ArtifactEvent,
    ArtifactTagEvent,
    CircuitEvent,
    CollectionTagEvent,
    DeadLetterEvent,
    DisabledEvent,
    Envelope,
    Event,
    RunAlertEvent,
    RunMetricEvent,
    RunStateEvent,
    UnmatchedEvent,
)
from shared.domain.events.own_sources import is_own_source
from shared.domain.events.types import NOTICE_TYPES, PUBLISHED_TYPES, EventType
from shared.domain.events.values import Name as Name
from shared.domain.json_text import quote_bare_numbers, write_json

MAX_NAMED_FAULTS = 100
"""The faults that one answer names: a producer with a mistake has it in each event of a batch."""

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


_MODELS: Mapping[EventType, type[Envelope]] = {
    **dict.fromkeys((EventType.CREATE_ARTIFACT, EventType.LINK_ARTIFACT, EventType.UNLINK_ARTIFACT), ArtifactEvent),
    **dict.fromkeys((EventType.ADD_ARTIFACT_ALIAS, EventType.REMOVE_ARTIFACT_ALIAS), AliasEvent),
    **dict.fromkeys((EventType.ADD_ARTIFACT_TAG, EventType.REMOVE_ARTIFACT_TAG), ArtifactTagEvent),
    **dict.fromkeys((EventType.ADD_COLLECTION_TAG, EventType.REMOVE_COLLECTION_TAG), CollectionTagEvent),
    EventType.RUN_METRIC: RunMetricEvent,
    EventType.RUN_STATE: RunStateEvent,
    EventType.RUN_ALERT: RunAlertEvent,
    **dict.fromkeys((EventType.WEBHOOK_CIRCUIT_OPENED, EventType.WEBHOOK_CIRCUIT_CLOSED), CircuitEvent),
    EventType.WEBHOOK_DISABLED: DisabledEvent,
    EventType.DEAD_LETTER: DeadLetterEvent,
    EventType.AUTOMATION_UNMATCHED: UnmatchedEvent,
}


def decode_event(body: bytes) -> Event:
    """An event from the JSON on a stream entry.

    `NaN` and `Infinity` without quotes, which Python's json writes, stand for the strings of that name everywhere.

    Raises:
        InvalidDefinition: with a fault for each field that is not as the event's type demands, `MAX_NAMED_FAULTS` at
            most, and for more than `MAX_EVENT_BYTES` of JSON.
    """
    if len(body) > MAX_EVENT_BYTES:
        raise InvalidDefinition.at((), f"must be at most {MAX_EVENT_BYTES} bytes")
    try:
        event = _EVENT.validate_json(quote_bare_numbers(body))
    except ValidationError as exc:
        raise _refusal(exc) from exc
    if event.time is not None:
        event.note_time(from_json(body)["time"])
    return event


def check_event(candidate: object) -> Event:
    """An event from decoded JSON, by way of the text that `write_json` makes of it.

    Evaluation gets the text, so nothing is accepted here that would be a poison entry there.

    Raises:
        InvalidDefinition: as `decode_event` does, and for what no JSON text can hold.
    """
    try:
        body = write_json(candidate)
    except TypeError as exc:
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
    """The events of a publisher's batch, in which notices of Hookline's own are refused.

    Raises:
        InvalidDefinition: as `check_events` does; with the index of each event that is a notice (`NOTICE_TYPES`).
    """
    events = check_events(candidates)
    told = [index for index, event in enumerate(events) if event.type in NOTICE_TYPES]
    if told:
        msg = f"is Hookline's own and can't be published; must be one of {', '.join(PUBLISHED_TYPES)}"
        raise InvalidDefinition(*(FieldError((index, "type"), msg) for index in told[:MAX_NAMED_FAULTS]))
    return events


def refuse_own_sources(sources: Sequence[str], *, single: bool) -> None:
    """Refuse what somebody publishes in the name of Hookline's own ways in (`is_own_source`).

    Args:
        sources: those of the events of a request, in order.
        single: whether the request is one event and no batch, so that faults carry no index.

    Raises:
        InvalidDefinition: with the index of each such event, `MAX_NAMED_FAULTS` at most.
    """
    taken = [index for index, source in enumerate(sources) if is_own_source(source)]
    if taken:
        msg = "is Hookline's own and can't be published with; must name the publisher, such as /platform/eu-1"
        locs: list[Loc] = [("source",) if single else (index, "source") for index in taken[:MAX_NAMED_FAULTS]]
        raise InvalidDefinition(*(FieldError(loc, msg) for loc in locs))


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
