"""Events: what is accepted can be written and read again, stored and shown; what is refused says where.

Intake (`check_event`), evaluation (`decode_event`) and the published JSON Schema have to agree on what an event is.
"""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import orjson
from hypothesis import strategies as st

from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import MAX_NAMED_FAULTS, check_event, decode_event, json_schema
from shared.domain.events.limits import MAX_EVENT_BYTES
from shared.domain.events.models import Event
from shared.domain.events.partitioning import partition_of, subject_key
from shared.domain.events.types import EventType
from shared.domain.filters.fields import field_getter, field_refusal
from shared.domain.payloads.sealed import mask_payload, open_payload
from shared.domain.payloads.templates import default_payload
from shared.domain.payloads.variables import payload_values
from tests.fuzz.oracles import check_refusal, decoded, in_time
from tests.fuzz.strategies import as_json
from tests.fuzz.target import Target
from tests.unit.domain.samples import event as sample

FIELDS = (
    *("author", "project", "collection", "artifact_type", "version", "aliases", "tags", "alias", "tag", "display_name"),
    *("metadata.k", "metadata.a.b", "run.id", "run.display_name", "run.config.a", "config.a", "config.a.b"),
)
SCHEMAS = {event_type: jsonschema_rs.Draft202012Validator(json_schema(event_type)) for event_type in EventType}


def check(data: bytes) -> None:
    """Decode, and hold the event or the refusal to what is promised of it."""
    with in_time(data):
        event = _decoded(data)
    raw = decoded(data)
    if isinstance(raw, dict) and len(data) <= MAX_EVENT_BYTES:
        _check_intake_agrees(data, event)
    if event is None:
        return
    assert isinstance(raw, dict)
    _check_round_trip(event)
    _check_uses(event)


def _decoded(data: bytes) -> Event | None:
    try:
        return decode_event(data)
    except InvalidDefinition as refusal:
        raw = decoded(data)
        check_refusal(refusal, raw)
        assert len(refusal.errors) <= MAX_NAMED_FAULTS
        assert len(str(refusal).encode()) <= 4 * len(data) + 1000 * MAX_NAMED_FAULTS
        if isinstance(raw, dict) and len(data) <= MAX_EVENT_BYTES and _is_strict_json(data):
            too_deep = "recursion limit" in refusal.errors[0].msg
            assert too_deep or all(error.loc for error in refusal.errors), "an object's fault has a place"
        return None


def _is_strict_json(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True


def _check_round_trip(event: Event) -> None:
    text = _encoded(event)
    again = decode_event(text)
    assert type(again) is type(event)
    assert _encoded(again) == text


def _encoded(event: Event) -> bytes:
    members = event.model_dump(mode="python", exclude_unset=True)
    if members.get("time") is not None:
        members["time"] = event.time.isoformat() if event.time else None
    return json.dumps(members).encode()


def _check_intake_agrees(data: bytes, event: Event | None) -> None:
    """The API reads the text first and checks it as evaluation does: an event for the one is one for the other."""
    try:
        candidate = orjson.loads(data)
    except orjson.JSONDecodeError:
        return
    try:
        taken = check_event(candidate)
    except InvalidDefinition:
        taken = None
    assert (taken is None) == (event is None), "intake and evaluation disagree"
    if taken is not None:
        assert SCHEMAS[taken.type].is_valid(candidate), "the schema refuses what intake takes"
        assert subject_key(taken) == subject_key(event) if event else False


def _check_uses(event: Event) -> None:
    """What evaluation does with every event."""
    assert subject_key(event).encode()
    assert 0 <= partition_of(event, 16) < 16
    for name in FIELDS:
        if field_refusal(event.type, name) is None:
            field_getter(event.type, name)(event)
    values = payload_values(event, delivery_id="dlv_1")
    sealed = default_payload(values)
    opened = json.loads(open_payload(sealed, {}))
    assert opened == json.loads(mask_payload(sealed))
    assert all(opened[name] == values[name] for name in opened)
    assert all("\0" not in name for name in (event.id, event.source, event.data.entity, subject_key(event)))


WORDS = (
    *map(str, EventType),
    *("specversion", "1.0", "id", "source", "type", "time", "data", "entity", "project", "author", "collection"),
    *("artifact", "run", "name", "display_name", "version", "aliases", "tags", "metadata", "alias", "tag", "config"),
    *("step", "metrics", "state", "running", "preempted", "NaN", "-Infinity", "9999-12-31T23:59:59.999999999-23:59"),
    *("0001-01-01T00:00:00+23:59", "2026-02-30T09:00:00Z", "2026-11-23t09:00:60z"),
)
WRONG: tuple[Any, ...] = (1, "", "a\nb", None, {}, {"name": 1})


@st.composite
def _swollen(draw: st.DrawFn) -> bytes:
    """An event with very many faults of one kind, or very many members."""
    body: dict[str, Any] = sample(draw(st.sampled_from(EventType)))
    unit = json.dumps(draw(st.sampled_from(WRONG)))
    listed = "[" + ",".join([unit] * draw(st.integers(1, 2000))) + "]"
    named = "{" + ",".join(f'"{draw(st.sampled_from(["", "x", "", chr(10)]))!s}{n}": {unit}'.replace("\n", "\\n")
                           for n in range(draw(st.integers(1, 60)))) + "}"  # fmt: skip
    place = draw(st.sampled_from(["aliases", "tags", "metadata", "metrics", "config"]))
    holder = body["data"].get("artifact") or body["data"].get("run") or body["data"]
    (body["data"] if place == "metrics" else holder)[place] = "@"
    return json.dumps(body).replace('"@"', named if draw(st.booleans()) else listed).encode()


TARGET = Target(
    check,
    inputs=as_json(st.sampled_from(EventType).map(sample), WORDS) | _swollen() | st.binary(max_size=20),
    words=WORDS,
)
