"""The quick way to read an event: what it takes, the models take with the same values, whatever the bytes are."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import decode_event
from shared.domain.events.fast_decoding import quick_event, quick_events, read_event
from shared.domain.events.limits import MAX_BATCH_EVENTS
from shared.domain.events.partitioning import partition_of, subject_key
from shared.domain.events.types import PUBLISHED_TYPES, RUN_TYPES, EventType
from shared.domain.filters.fields import field_getter, field_refusal
from shared.domain.matching.compiled import firing_id
from shared.domain.payloads.variables import payload_values
from tests.unit.domain.samples import Raw, event

FIELDS = (
    *("author", "project", "collection", "artifact_type", "version", "aliases", "tags", "alias", "tag", "display_name"),
    *("metadata.k", "metadata.k.k", "metadata.model_type", "config.k", "config.k.k"),
    *("run.id", "run.name", "run.display_name", "run.config", "run.k", "run.k.k"),
)


def same(body: bytes) -> bool:
    """Whether the quick way took the event; asserts that it then agrees with the models."""
    quick = quick_event(body)
    if quick is None:
        return False
    plain = decode_event(body)  # must not raise
    assert quick.type is plain.type
    assert (quick.id, quick.source, subject_key(quick)) == (plain.id, plain.source, subject_key(plain))
    assert partition_of(quick, 16) == partition_of(plain, 16)
    assert firing_id(7, quick) == firing_id(7, plain)
    assert (quick.data.entity, quick.data.project) == (plain.data.entity, getattr(plain.data, "project", None))
    for name in FIELDS:
        if field_refusal(plain.type, name) is None:
            get = field_getter(plain.type, name)
            assert repr(get(quick)) == repr(get(plain)), name
    for name in ("step", "metrics", "state"):
        assert repr(getattr(quick.data, name, None)) == repr(getattr(plain.data, name, None))
    assert payload_values(quick, delivery_id="dlv_x") == payload_values(plain, delivery_id="dlv_x")
    return True


@pytest.mark.parametrize("event_type", PUBLISHED_TYPES)
def test_usual_events_are_read_the_quick_way(event_type: EventType) -> None:
    raw = event(event_type, surplus=[1, {"a": "ü"}])
    for text in (orjson.dumps(raw), orjson.dumps(raw, option=orjson.OPT_INDENT_2), json.dumps(raw).encode()):
        assert same(text)
    assert same(orjson.dumps(event(event_type, author="Jürgen 中")))
    assert same(orjson.dumps({key: value for key, value in raw.items() if key != "time"}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xef\xbb\xbf" + orjson.dumps(event()),
        orjson.dumps(event(author="a\x7fb")),
        json.dumps(event(author="\ud800")).encode(),
        json.dumps(event(author="a\nb")).encode(),
        orjson.dumps(event() | {"time": "2026-11-23"}),
        orjson.dumps(event() | {"time": "2026-02-30T09:00:00Z"}),
        orjson.dumps(event("RUN_METRIC", metrics={"loss": "NaN"})),
        orjson.dumps(event() | {"note": "x" * (1 << 20)}),
        orjson.dumps(event()).replace(b"alice", b"al\xffce"),
        orjson.dumps(event(surplus="ice")).replace(b"ice", b"\xff"),
    ],
)
def test_what_leaves_a_doubt_is_left_to_the_models(body: bytes) -> None:
    assert quick_event(body) is None
    try:
        plain = decode_event(body)
    except InvalidDefinition:
        with pytest.raises(InvalidDefinition):
            read_event(body)
    else:
        assert read_event(body) == plain


texts = st.sampled_from(
    ["", "a", "a\n", "\x7f", "\x00", "é", "😀", "x" * 512, "x" * 513, "1", "NaN", "running", "\\", "\\n", '"', "/", "Z"]
)
numbers = st.sampled_from([0, -0.0, 1, 1.0, 1.5, 1e3, -1, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30, 1e308, 5e-324])
times = st.sampled_from(
    [
        *("2026-11-23T09:00:00Z", "2026-11-23t09:00:00z", "2026-11-23T09:00:00.5Z", "2026-11-23T09:00:00.123456Z"),
        *("2026-11-23T09:00:00+02:00", "2026-11-23T09:00:60Z", "2026-11-23T24:00:00Z", "0000-01-01T00:00:00Z"),
        *("0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999999Z", "2026-02-29T00:00:00Z", "2026-11-23 09:00:00Z"),
    ]
)
leaves = st.one_of(texts, numbers, times, st.none(), st.booleans(), st.text(max_size=3), st.floats(allow_nan=False))
values = st.one_of(
    leaves,
    st.lists(leaves, max_size=3),
    st.dictionaries(st.sampled_from(["k", "id", "name", "", "a\nb"]), st.one_of(leaves, st.just({"k": 1})), max_size=3),
)
ENVELOPE = ("specversion", "id", "source", "time", "type", "k")
MEMBERS = ("entity", "project", "author", "alias", "tag", "step", "metrics", "state", "run", "artifact", "collection")
INSIDE = ("id", "name", "type", "version", "aliases", "tags", "metadata", "display_name", "config", "k")


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Events with members replaced by all kinds of values, written in several ways, sometimes with damaged bytes."""
    event_type = draw(st.sampled_from(EventType))
    raw: Raw = event(event_type)
    about = "run" if event_type in RUN_TYPES else "collection"
    for _ in range(draw(st.integers(0, 3))):
        place: Any = draw(st.sampled_from([raw, raw["data"], raw["data"].get(about), raw["data"].get("artifact")]))
        if isinstance(place, dict):
            names = ENVELOPE if place is raw else MEMBERS if place is raw["data"] else INSIDE
            place[draw(st.sampled_from(names))] = draw(values)
    body = json.dumps(raw, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(body)))
        inserted = draw(
            st.sampled_from([b"", b'"', b"0", b"\\", b"\xff", b",", b"}", b"-", b"e5", b"\x7f", b" ", b"NaN"])
        )
        body = body[:at] + inserted + body[at + draw(st.integers(0, 2)) :]
    return body


@settings(max_examples=500, deadline=None)
@given(bodies())
@example(orjson.dumps(event("RUN_STATE", run={"id": "r", "display_name": None, "config": {}, "name": ""})))
@example(b'{"type":"RUN_STATE",' + orjson.dumps(event("RUN_STATE"))[1:])
def test_what_the_quick_way_takes_the_models_take_with_the_same_values(body: bytes) -> None:
    same(body)


def test_a_batch_is_taken_apart_into_the_texts_of_its_events() -> None:
    batch = [event(event_type, author="Jürgen") for event_type in PUBLISHED_TYPES]
    for option in (None, orjson.OPT_INDENT_2):
        taken = quick_events(orjson.dumps(batch, option=option))
        assert taken is not None
        events, texts = taken
        assert [one.type for one in events] == list(PUBLISHED_TYPES)
        assert [orjson.loads(text) for text in texts] == batch
        assert all(map(same, texts))


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[1]", b"[null]", b"[" + orjson.dumps(event()) + b",]", b"[[]]", b"[" * 5000]
)
def test_a_batch_with_any_doubt_is_left_to_the_models(body: bytes) -> None:
    assert quick_events(body) is None
    assert quick_events(b"[" + orjson.dumps(event()) + b"," + orjson.dumps(event(author="a\x7f")) + b"]") is None


@pytest.mark.parametrize(
    ("twice", "read"),
    [
        (b'"author":"eve",', lambda one: one.data.author),
        (b'"entity":"elsewhere",', lambda one: one.data.entity),
        (b'"entit\\u0079":"elsewhere",', lambda one: one.data.entity),
    ],
)
def test_of_a_name_that_comes_twice_the_last_value_counts_for_both(twice: bytes, read: Any) -> None:
    """Otherwise a key could publish to an entity by one decoder and be evaluated for another by the other."""
    body = orjson.dumps(event(author="alice"))
    for at in (b'"data":{', None):
        odd = body.replace(at, at + twice) if at else body[:-2] + b"," + twice[:-1] + b"}}"
        quick = quick_event(odd)
        slow = decode_event(odd)
        assert quick is None or read(quick) == read(slow)
        assert read(slow) == (read(decode_event(body)) if at else twice.split(b'"')[3].decode())


def test_a_batch_of_too_many_is_not_taken_apart() -> None:
    one = orjson.dumps(event())
    most = b"[" + b",".join([one] * MAX_BATCH_EVENTS) + b"]"
    assert quick_events(most) is not None
    assert quick_events(most[:-1] + b"," + one + b"]") is None


@pytest.mark.parametrize("levels", range(140, 320, 3))
def test_what_nests_too_deeply_in_members_that_are_not_read_is_accepted_by_neither(levels: int) -> None:
    deep = b"[" * levels + b"]" * levels
    least = b'{"specversion":"1.0","id":"e","source":"s","type":"RUN_STATE","data":{"entity":"a","project":"p",'
    for body in (
        least + b'"run":{"id":"r"},"state":"failed"},"x":' + deep + b"}",
        least + b'"run":{"id":"r"},"state":"failed","x":' + deep + b"}}",
        least + b'"run":{"id":"r","x":' + deep + b'},"state":"failed"}}',
    ):
        try:
            decode_event(body)
        except InvalidDefinition:
            assert quick_event(body) is None
            assert quick_events(b"[" + body + b"]") is None
