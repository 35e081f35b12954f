"""Events: what each type accepts, how each fault is named, and that intake, evaluation and schemas agree."""

from __future__ import annotations

import json
import math
import zlib
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.events.decoding import check_event, check_events, check_published, decode_event
from shared.domain.events.fast_decoding import read_event
from shared.domain.events.limits import MAX_EVENT_BYTES
from shared.domain.events.models import Event, RunMetricData
from shared.domain.events.partitioning import partition_of, subject_key
from shared.domain.events.types import (
    ARTIFACT_TYPES,
    COLLECTION_TAG_TYPES,
    NOTICE_TYPES,
    PUBLISHED_TYPES,
    RUN_TYPES,
    EventType,
)
from shared.domain.json_text import read_event_json
from tests.unit.domain.samples import OWN_MEMBERS, Raw, event

CONTROL = "must not hold control characters"
EMPTY = "String should have at least 1 character"
LONG = "String should have at most 512 characters"
TEXT = "Input should be a valid string"
OBJECT = "must be an object"
NUMBER = 'must be a number, null, or one of the strings "NaN", "Infinity", "-Infinity"'
TIME = "must be a time with its zone as RFC 3339 writes it, such as 2026-11-23T09:00:00Z"
WHOLE = "Input should be a valid integer"
TYPES = f"must be one of {', '.join(EventType)}"


def faults(candidate: object) -> list[tuple[tuple[str | int, ...], str]]:
    """The faults of a candidate: the same at intake and, where JSON can hold it, at evaluation."""
    with pytest.raises(InvalidDefinition) as at_intake:
        check_event(candidate)
    with pytest.raises(InvalidDefinition) as at_evaluation:
        decode_event(json.dumps(candidate).encode())
    assert at_intake.value.errors == at_evaluation.value.errors
    return [(error.loc, error.msg) for error in at_intake.value.errors]


def accepted(candidate: object) -> Event:
    """The event, the same at intake and at evaluation."""
    checked = check_event(candidate)
    assert decode_event(orjson.dumps(candidate)) == checked
    return checked


def metrics_of(checked: Event) -> dict[str, float]:
    assert isinstance(checked.data, RunMetricData)
    return checked.data.metrics


@pytest.mark.parametrize("event_type", EventType)
def test_every_type_accepts_its_example(event_type: EventType) -> None:
    checked = accepted(event(event_type))
    assert checked.type is event_type
    assert (checked.id, checked.source, checked.data.entity) == ("event-1", "/platform/eu-1", "acme")
    assert checked.time is not None
    assert checked.time.isoformat() == "2026-11-23T09:00:00+00:00"


def test_every_type_is_of_one_kind() -> None:
    kinds = (ARTIFACT_TYPES, COLLECTION_TAG_TYPES, RUN_TYPES, NOTICE_TYPES)
    assert sum(map(len, kinds)) == len(frozenset().union(*kinds)) == len(EventType)


def test_publishers_may_not_tell_what_only_hookline_knows() -> None:
    told = [event(event_type) for event_type in EventType]
    assert [one.type for one in check_events(told)] == list(EventType)
    with pytest.raises(InvalidDefinition) as refused:
        check_published(told)
    kept = f"is Hookline's own and can't be published; must be one of {', '.join(PUBLISHED_TYPES)}"
    assert [(error.loc, error.msg) for error in refused.value.errors] == [
        ((index, "type"), kept) for index, event_type in enumerate(EventType) if event_type in NOTICE_TYPES
    ]
    assert len(check_published([one for one in told if one["type"] in PUBLISHED_TYPES])) == len(PUBLISHED_TYPES)


@pytest.mark.parametrize("event_type", EventType)
def test_members_that_are_not_known_are_tolerated(event_type: EventType) -> None:
    raw = event(event_type, surplus={"a": [None]})
    raw |= {"datacontenttype": "application/json", "traceparent": "00-1-2-03", "subject": None}
    for name in ("collection", "artifact", "run", "webhook", "automation", "delivery"):
        if name in raw["data"]:
            raw["data"][name] = raw["data"][name] | {"surplus": 1}
    assert accepted(raw).type is event_type


@pytest.mark.parametrize("event_type", EventType)
def test_every_member_that_a_type_needs_is_asked_for_at_its_place(event_type: EventType) -> None:
    needed = {"entity", *OWN_MEMBERS.get(event_type, {})}
    of_notices = "automation" if event_type is EventType.AUTOMATION_UNMATCHED else "webhook"
    needed |= {of_notices} if event_type in NOTICE_TYPES else {"project"}
    needed = (needed | {"run"}) - {"step", "text", "level"} if event_type in RUN_TYPES else needed
    needed |= {"collection"} if event_type in ARTIFACT_TYPES | COLLECTION_TAG_TYPES else set()
    needed |= {"artifact"} if event_type in ARTIFACT_TYPES else set()
    raw = event(event_type)
    assert faults({**raw, "data": {}}) == [
        (("data", name), "is required") for name in [*_declared(event_type)] if name in needed
    ]
    for name in ("specversion", "id", "source", "data"):
        assert faults({key: value for key, value in raw.items() if key != name}) == [((name,), "is required")]


def _declared(event_type: EventType) -> list[str]:
    model = check_event(event(event_type)).data
    return list(type(model).model_fields)


def test_what_may_be_left_out() -> None:
    raw = event("ADD_ARTIFACT_ALIAS", author=..., collection={"name": "c"}, artifact={"id": "a"})
    del raw["time"]
    checked: Any = accepted(raw)
    assert checked.time is None
    assert (checked.data.author, checked.data.collection.type, checked.data.artifact.version) == ("", "", "")
    assert (checked.data.artifact.aliases, checked.data.artifact.metadata) == ((), {})


def in_envelope(**members: Any) -> Raw:
    return event() | members


def in_run(**members: Any) -> Raw:
    return event("RUN_STATE", run={"id": "r1", **members})


def in_metric(**members: Any) -> Raw:
    return event("RUN_METRIC", **members)


ALIAS = ("data", "alias")
STEP = ("data", "step")


@pytest.mark.parametrize(
    ("candidate", "loc", "message"),
    [
        (in_envelope(specversion="0.3"), ("specversion",), "Input should be '1.0'"),
        (in_envelope(specversion=1.0), ("specversion",), "Input should be '1.0'"),
        (in_envelope(id=""), ("id",), EMPTY),
        (in_envelope(id=5), ("id",), TEXT),
        (in_envelope(id=None), ("id",), TEXT),
        (in_envelope(id="x" * 513), ("id",), LONG),
        (in_envelope(id="a\0b"), ("id",), CONTROL),
        (in_envelope(source="a\n"), ("source",), CONTROL),
        (in_envelope(source="\x7f"), ("source",), CONTROL),
        (in_envelope(type="SOMETHING"), ("type",), TYPES),
        (in_envelope(type="add_artifact_alias"), ("type",), TYPES),
        (in_envelope(type=None), ("type",), TYPES),
        (in_envelope(type=["RUN_STATE"]), ("type",), TYPES),
        ({}, ("type",), TYPES),
        (in_envelope(time="yesterday"), ("time",), TIME),
        (in_envelope(time="2026-11-23"), ("time",), TIME),
        (in_envelope(time="2026-11-23T09:00:00"), ("time",), TIME),
        (in_envelope(time="2026-11-23T09:00Z"), ("time",), TIME),
        (in_envelope(time=" 2026-11-23T09:00:00Z"), ("time",), TIME),
        (in_envelope(time="1700000000"), ("time",), TIME),
        (in_envelope(time=1700000000), ("time",), TIME),
        (in_envelope(time=1e300), ("time",), TIME),
        (in_envelope(time=True), ("time",), TIME),
        (in_envelope(time="٢٠٢٦-11-23T09:00:00Z"), ("time",), TIME),
        (in_envelope(data=None), ("data",), OBJECT),
        (in_envelope(data=[1]), ("data",), OBJECT),
        (event(entity="a\x1bc"), ("data", "entity"), CONTROL),
        (event(project=""), ("data", "project"), EMPTY),
        (event(author=None), ("data", "author"), TEXT),
        (event(author="a\tb"), ("data", "author"), CONTROL),
        (event(collection="llm"), ("data", "collection"), OBJECT),
        (event(collection={"type": "model"}), ("data", "collection", "name"), "is required"),
        (
            event(artifact={"id": "a", "aliases": "v1"}),
            ("data", "artifact", "aliases"),
            "Input should be a valid array",
        ),
        (event(artifact={"id": "a", "aliases": ["v1", 2]}), ("data", "artifact", "aliases", 1), TEXT),
        (event(artifact={"id": "a", "tags": ["\n"]}), ("data", "artifact", "tags", 0), CONTROL),
        (event(artifact={"id": "a", "metadata": []}), ("data", "artifact", "metadata"), OBJECT),
        (event(alias=""), ALIAS, EMPTY),
        (event(alias=["prod"]), ALIAS, TEXT),
        (event("ADD_COLLECTION_TAG", tag=..., alias="x"), ("data", "tag"), "is required"),
        (in_run(id=""), ("data", "run", "id"), EMPTY),
        (in_run(config=5), ("data", "run", "config"), OBJECT),
        (in_run(display_name=5), ("data", "run", "display_name"), TEXT),
        (
            event("RUN_STATE", state="exploded"),
            ("data", "state"),
            "Input should be 'running', 'finished', 'failed', 'crashed', 'killed', 'preempted' or 'silent'",
        ),
        (in_metric(step=-1), STEP, "Input should be greater than or equal to 0"),
        (in_metric(step=2**63), STEP, "Input should be less than 9223372036854775808"),
        (in_metric(step=1.5), STEP, WHOLE),
        (in_metric(step="1"), STEP, WHOLE),
        (in_metric(step=True), STEP, WHOLE),
        (in_metric(metrics=[]), ("data", "metrics"), OBJECT),
        (in_metric(metrics={"a": "0.5"}), ("data", "metrics", "a"), NUMBER),
        (in_metric(metrics={"a": "nan"}), ("data", "metrics", "a"), NUMBER),
        (in_metric(metrics={"a": True}), ("data", "metrics", "a"), "must be a number, not true or false"),
        (in_metric(metrics={"a": [1]}), ("data", "metrics", "a"), "Input should be a valid number"),
        (in_metric(metrics={"": 1}), ("data", "metrics", ""), f"the metric's name: {EMPTY}"),
        (in_metric(metrics={"a\nb": 1}), ("data", "metrics", "a\nb"), f"the metric's name: {CONTROL}"),
        (in_metric(metrics={"m" * 513: 1}), ("data", "metrics", "m" * 513), f"the metric's name: {LONG}"),
        # Names that look like what pydantic puts into places.
        (in_metric(metrics={"[key]": "x"}), ("data", "metrics", "[key]"), NUMBER),
        (in_metric(metrics={"RUN_METRIC": "x"}), ("data", "metrics", "RUN_METRIC"), NUMBER),
        ([], (), OBJECT),
        ("event", (), OBJECT),
        (None, (), OBJECT),
    ],
)
def test_a_wrong_member_is_named_with_what_is_accepted(
    candidate: object, loc: tuple[str | int, ...], message: str
) -> None:
    assert faults(candidate) == [(loc, message)]


def test_the_number_of_metrics_is_bounded() -> None:
    assert len(metrics_of(accepted(in_metric(metrics={f"m{n}": n for n in range(1000)})))) == 1000
    for metrics in ({}, {f"m{n}": n for n in range(1001)}):
        ((loc, message),) = faults(in_metric(metrics=metrics))
        assert loc == ("data", "metrics")
        assert "at least 1 item" in message or "at most 1000 metrics" in message


def test_every_fault_is_named_at_once() -> None:
    raw = event("RUN_METRIC", entity="", step="x", metrics={"a": "x", "b\0": 1}, run={})
    raw["id"] = 4
    assert [loc for loc, _ in faults(raw)] == [
        ("id",),
        ("data", "entity"),
        ("data", "run", "id"),
        ("data", "step"),
        ("data", "metrics", "a"),
        ("data", "metrics", "b\0"),
    ]


def test_numbers_and_the_names_of_those_that_are_not_finite() -> None:
    samples = {"i": 3, "f": -0.25, "big": 10**300, "nan": "NaN", "up": "Infinity", "down": "-Infinity", "e": 1e-7}
    metrics = metrics_of(decode_event(json.dumps(in_metric(metrics=samples)).encode()))
    assert math.isnan(metrics.pop("nan"))
    assert metrics == {"i": 3, "f": -0.25, "big": 1e300, "up": math.inf, "down": -math.inf, "e": 1e-7}
    assert {name for name, value in metrics.items() if type(value) is not float} == {"i"}, "5 is told as 5"


def test_an_integer_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(InvalidDefinition) as caught:
        decode_event(json.dumps(in_metric(metrics={"a": 10**400})).encode())
    assert caught.value.errors == (FieldError(("data", "metrics", "a"), "Input should be a valid number"),)


def test_bare_non_finite_numbers_of_other_json_writers_are_read_from_a_stream() -> None:
    body = json.dumps(in_metric(metrics={"a": math.nan, "b": math.inf})).encode()
    assert b"NaN" in body
    metrics = metrics_of(decode_event(body))
    assert math.isnan(metrics["a"])
    assert metrics["b"] == math.inf


@pytest.mark.parametrize(("step", "read"), [(0, 0), (2**63 - 1, 2**63 - 1), (7.0, 7), (1e3, 1000), (-0.0, 0)])
def test_a_step_is_a_whole_number_however_it_is_written(step: float, read: int) -> None:
    data: Any = accepted(in_metric(step=step)).data
    assert data.step == read
    assert type(data.step) is int


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-11-23T09:00:00.5Z", "2026-11-23T09:00:00.500000+00:00"),
        ("2026-11-23T09:00:00.123456789Z", "2026-11-23T09:00:00.123456+00:00"),
        ("2026-11-23t09:00:00z", "2026-11-23T09:00:00+00:00"),
        ("2026-11-23T09:00:00+05:30", "2026-11-23T09:00:00+05:30"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
    ],
)
def test_times_are_as_rfc_3339_writes_them(written: str, read: str) -> None:
    time = accepted(in_envelope(time=written)).time
    assert time is not None
    assert time.isoformat() == read


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"{", b"\xef\xbb\xbf{}", b"[" * 100_000, b'{"a": 01}', json.dumps("\ud800").encode()]
)
def test_what_is_no_json_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        decode_event(body)
    (error,) = caught.value.errors
    assert error.loc == ()
    assert error.msg.startswith("is not JSON: ")


def _nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("levels", [180, *range(194, 202), 252, 300, 3000])
@pytest.mark.parametrize("place", ["metadata", "surplus"])
def test_intake_takes_no_nesting_that_evaluation_would_set_aside(levels: int, place: str) -> None:
    nested = {"deep": _nested(levels)}
    raw = event(artifact={"id": "a", "metadata": nested}) if place == "metadata" else in_envelope(surplus=nested)
    try:
        check_event(raw)
    except InvalidDefinition as refusal:
        assert [error.loc for error in refusal.errors] == [()]
        assert levels > 190
    else:
        decode_event(orjson.dumps(raw))
        assert levels < 210


@pytest.mark.parametrize(
    "unfit",
    ["\ud800", {"\udfff": 1}, {1: 2}, {1, 2}, b"bytes", 10**4300, object()],
    ids=["surrogate", "surrogate as a name", "number as a name", "set", "bytes", "large integer", "object"],
)
def test_what_json_cannot_hold_is_refused_at_intake_wherever_it_is(unfit: object) -> None:
    for candidate in (unfit, in_envelope(id=unfit), event(artifact={"id": "a", "metadata": {"deep": [unfit]}})):
        with pytest.raises(InvalidDefinition) as caught:
            check_event(candidate)
        (error,) = caught.value.errors
        assert error.msg.startswith("can't be written as JSON: ")


def test_an_endless_structure_is_refused_at_intake() -> None:
    endless: Raw = {}
    endless["self"] = endless
    with pytest.raises(InvalidDefinition):
        check_event(event("RUN_STATE", run={"id": "r1", "config": endless}))


@pytest.mark.parametrize(
    ("written", "read"),
    [("null", math.nan), ("NaN", math.nan), ("-Infinity", -math.inf), ("1e400", math.inf), ("-2.5E+308", -math.inf)],
)
def test_a_sample_that_is_no_number_is_taken_however_it_is_written(written: str, read: float) -> None:
    text = json.dumps(in_metric(metrics={"a": 0.25, "b": "NaN"})).replace("0.25", written)
    for body in (text, text.replace('": ', '":\n ')):
        data: Any = decode_event(body.encode()).data
        assert repr(data.metrics["a"]) == repr(read)
        assert read_event_json(body.encode())["data"]["metrics"]["a"] in (None, "NaN", "Infinity", "-Infinity")
    checked: Any = check_event(in_metric(metrics={"a": math.nan})).data
    assert math.isnan(checked.metrics["a"])


def test_a_number_beyond_floats_is_kept_wherever_it_stands() -> None:
    text = json.dumps(event(artifact={"id": "a", "metadata": {"a": ["@"], "b": "1e400,"}})).replace('"@"', "1e400")
    data: Any = decode_event(text.encode()).data
    assert data.artifact.metadata == {"a": ["Infinity"], "b": "1e400,"}
    assert read_event_json(text.encode())["data"]["artifact"]["metadata"] == data.artifact.metadata


def test_only_values_may_stand_without_quotes() -> None:
    text = json.dumps(event(artifact={"id": "a", "metadata": {"NaN": "a NaN, b", "q": '\\"NaN', "n": math.nan}}))
    data: Any = decode_event(text.encode()).data
    assert data.artifact.metadata == {"NaN": "a NaN, b", "q": '\\"NaN', "n": "NaN"}
    for broken in (text.replace('"n": NaN', "NaN: 1"), text.replace("NaN}", "NaN 1}"), text.replace("NaN}", "+NaN}")):
        with pytest.raises(InvalidDefinition):
            decode_event(broken.encode())


SECONDS = "must be a number of seconds, from 1 to 2,592,000"


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"heartbeat_seconds": 0.5}, "Input should be greater than or equal to 1"),
        ({"heartbeat_seconds": 10**9}, "Input should be less than or equal to 2592000"),
        ({"heartbeat_seconds": "60"}, SECONDS),
        ({"heartbeat_seconds": True}, SECONDS),
        ({"heartbeat_seconds": 60, "state": "finished"}, "is only for the state running"),
    ],
)
def test_a_heartbeat_is_a_number_of_seconds_and_of_runs_that_run(sent: Raw, message: str) -> None:
    candidate = event("RUN_STATE", **{"state": "running", **sent})
    assert faults(candidate) == [(("data", "heartbeat_seconds"), message)]
    for seconds in (None, 1, 90.5):
        raw = event("RUN_STATE", state="running", heartbeat_seconds=seconds)
        checked: Any = accepted(raw).data
        read: Any = read_event(json.dumps(raw).encode()).data
        assert checked.heartbeat_seconds == read.heartbeat_seconds == seconds


def test_a_step_may_be_left_out() -> None:
    for candidate in (in_metric(step=None), event("RUN_METRIC", step=...)):
        data: Any = accepted(candidate).data
        assert data.step is None


def test_an_event_has_at_most_a_mebibyte() -> None:
    room = MAX_EVENT_BYTES - len(orjson.dumps(event(note="")))
    accepted(event(note="x" * room))
    too_large = event(note="x" * (room + 1))
    assert faults(too_large) == [((), "must be at most 1048576 bytes")]


@pytest.mark.parametrize("name", ["model_dump", "model_extra", "model_fields_set", "__dict__", "config ", "copy"])
def test_a_run_may_have_members_of_any_name(name: str) -> None:
    data: Any = accepted(in_run(**{name: "x"})).data
    assert data.run.model_extra == {name: "x"}
    assert data.run.id == "r1"


def test_events_cannot_be_changed() -> None:
    checked = accepted(event())
    with pytest.raises(ValueError, match="frozen"):
        checked.id = "other"  # type: ignore[misc]
    assert accepted(event(artifact={"id": "a"})).data.artifact.metadata is not (  # type: ignore[union-attr]
        accepted(event(artifact={"id": "a"})).data.artifact.metadata  # type: ignore[union-attr]
    )


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (event(), "acme/wandb-registry-model/collection:llm-models"),
        (event("REMOVE_COLLECTION_TAG"), "acme/wandb-registry-model/collection:llm-models"),
        (event("RUN_STATE"), "acme/wandb-registry-model/run:r1"),
        (event("RUN_METRIC", run={"id": "größe/1"}), "acme/wandb-registry-model/run:größe/1"),
        (event("WEBHOOK_DISABLED"), "acme/webhook:wh_1"),
        (event("AUTOMATION_UNMATCHED"), "acme/automation:aut_1"),
        (event("DEAD_LETTER", webhook={"id": "slk_7", "name": "s"}), "acme/webhook:slk_7"),
    ],
)
def test_what_an_event_is_about(raw: Raw, key: str) -> None:
    assert subject_key(check_event(raw)) == key


def test_partitions_that_other_implementations_can_check_themselves_against() -> None:
    assert partition_of(check_event(event()), 16) == 7
    assert partition_of(check_event(event("RUN_STATE", entity="größe", project="模型", run={"id": "ü"})), 16) == 14


@settings(max_examples=60)
@given(names, names, names, st.integers(1, 1024), st.sampled_from(["RUN_STATE", "RUN_METRIC", "CREATE_ARTIFACT"]))
def test_the_partition_follows_the_rule_of_the_contract(
    entity: str, project: str, name: str, partitions: int, event_type: str
) -> None:
    of_run = event_type in RUN_TYPES
    about = {"run": {"id": name}} if of_run else {"collection": {"name": name}}
    checked = check_event(event(event_type, entity=entity, project=project, **about))
    key = f"{entity}/{project}/{'run' if of_run else 'collection'}:{name}"
    assert partition_of(checked, partitions) == zlib.crc32(key.encode("utf-8")) % partitions


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150)
@given(
    st.sampled_from(EventType),
    st.sampled_from(["", "data", "run", "collection", "artifact", "webhook", "delivery"]),
    json_values,
    st.data(),
)
def test_garbage_anywhere_is_accepted_or_refused_but_never_an_accident(
    event_type: EventType, place: str, garbage: object, data: st.DataObject
) -> None:
    raw = event(event_type)
    target = raw if not place else raw["data"] if place == "data" else raw["data"].get(place)
    if target is None:
        return
    target[data.draw(st.sampled_from(sorted(target)))] = garbage
    try:
        checked = check_event(raw)
    except InvalidDefinition as refusal:
        assert refusal.errors
        assert all(error.msg and "^[" not in error.msg for error in refusal.errors)
    else:
        assert decode_event(orjson.dumps(raw)) == checked or "nan" in repr(checked)
