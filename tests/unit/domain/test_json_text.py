"""JSON text keeps whole numbers exactly, in every way in and out of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from io import BytesIO
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher.client.input_files import Document, read_documents
from shared.domain import json_text
from shared.domain.automations.model import Grants
from shared.domain.automations.parsing import parse_automation
from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import check_event, decode_event
from shared.domain.events.fast_decoding import quick_event
from shared.domain.events.limits import MAX_EVENT_BYTES
from shared.domain.filters.filters import Predicate, parse_filter
from shared.domain.json_text import (
    MAX_DIGITS,
    MAX_LEVELS,
    quote_bare_numbers,
    read_event_json,
    read_json,
    read_json_in_steps,
    write_indented_json,
    write_json,
)
from shared.domain.json_values import refuse_unfit
from shared.domain.payloads.variables import payload_values

NINES = 10**MAX_DIGITS - 1
whole = st.one_of(
    st.integers(),
    st.integers(2**62, 2**66),
    st.integers(-(2**66), -(2**62)),
    st.builds(lambda digits, rest: 10**digits + rest, st.integers(18, 400), st.integers(-3, 3)),
)
scalars = st.none() | st.booleans() | whole | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


def same(one: object, other: object) -> bool:
    """Whether two values are written alike: 1 is neither 1.0 nor true."""
    return json.dumps(one) == json.dumps(other)


@given(values)
@example([NINES, -NINES])
@example({"x": 2**64, "y": [-(2**63) - 1, "123456789012345678901234567890", 0.12345678901234567890]})
def test_what_is_written_is_read_as_the_same(value: Any) -> None:
    for text in (write_json(value), write_indented_json(value), json.dumps(value), json.dumps(value).encode()):
        assert same(read_json(text), value)
    assert same(json.loads(write_json(value)), value), "others read the same"


@given(values)
def test_small_numbers_are_written_as_ever(value: Any) -> None:
    try:
        expected = orjson.dumps(value)
    except TypeError:
        return
    assert write_json(value) == expected


@pytest.mark.parametrize("text", ["9" * 4301, f'{{"a": [-{"9" * 5000}]}}'])
def test_more_digits_than_python_handles_are_refused(text: str) -> None:
    with pytest.raises(orjson.JSONDecodeError, match=f"a whole number has more than {MAX_DIGITS} digits"):
        read_json(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"n": 12345678901234567890',
        '[12345678901234567890, "\\ud800"]',
        "[12345678901234567890, NaN]",
        "[12345678901234567890, 1e400]",
        "[0123456789012345678901]",
        b'[12345678901234567890, "\xff"]',
        "\ud800 12345678901234567890",
        "[" * 5000 + "12345678901234567890" + "]" * 5000,
    ],
)
def test_what_is_no_json_is_refused_with_and_without_long_numbers(text: bytes | str) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        read_json(text)


@pytest.mark.parametrize("number", ["1", "12345678901234567890"])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_the_depth_is_bounded_with_and_without_long_numbers(opening: str, closing: str, number: str) -> None:
    times = MAX_LEVELS // len(closing)
    few = times // 2  # before Python 3.12 what calls counts too
    assert read_json(opening * few + number + closing * few)
    with pytest.raises(orjson.JSONDecodeError):
        read_json("[" + opening * times + number + closing * times + "]")
    assert read_json(f'["{"[" * 2000}", {number}]')


@pytest.mark.parametrize("value", [object(), ["\ud800", 2**70], [2**70, "\ud800"], {(): 1}, [10**5000]])
def test_what_json_cannot_hold_is_not_written(value: object) -> None:
    with pytest.raises(TypeError):
        write_json(value)


def test_what_is_no_number_is_written_as_null() -> None:
    assert write_json([2**70, math.nan]) == b"[1180591620717411303424,null]"


def _event(number: int) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "e",
        "source": "/s",
        "type": "CREATE_ARTIFACT",
        "data": {
            "entity": "acme",
            "project": "p",
            "collection": {"name": "c"},
            "artifact": {"id": "a", "metadata": {"n": number, "deep": [{"n": number}]}},
        },
    }


@given(whole)
@example(NINES)
@example(-NINES)
def test_every_reader_of_events_gives_the_number_that_was_sent(number: int) -> None:
    body = json.dumps(_event(number)).encode()
    quick = quick_event(body)
    assert quick is not None
    for read in (quick, decode_event(body), check_event(read_json(body))):
        metadata = read.data.artifact.metadata  # type: ignore[union-attr]
        assert metadata == {"n": number, "deep": [{"n": number}]}
        found = payload_values(read, delivery_id="dlv_x", asked=["artifact_metadata.n", "artifact_metadata.deep"])
        assert found["artifact_metadata.n"] == str(number)
        assert found["artifact_metadata.deep"] == f'[{{"n":{number}}}]'


@given(whole)
def test_filters_compare_numbers_exactly(number: int) -> None:
    def holds(expression: object, value: object) -> bool:
        parsed = parse_filter(expression, lambda _name: None)
        again = parse_filter(read_json(write_json(parsed.to_json())), lambda _name: None)
        assert again == parsed
        predicate: Predicate[object] = parsed.compile(lambda _name: lambda subject: subject)
        return predicate(value)

    for expression, expected in (
        ({"n": number}, [False, True, False]),
        ({"n": {"$ne": number}}, [True, False, True]),
        ({"n": {"$in": [number, "x"]}}, [False, True, False]),
        ({"n": {"$gt": number}}, [False, False, True]),
        ({"n": {"$gte": number}}, [False, True, True]),
        ({"n": {"$lt": number}}, [True, False, False]),
        ({"n": {"$lte": number}}, [True, True, False]),
    ):
        assert [holds(expression, number + more) for more in (-1, 0, 1)] == expected


@given(whole)
@example(NINES)
def test_definitions_keep_the_number_in_json_and_yaml(number: int) -> None:
    raw = {
        "name": "a",
        "event": "CREATE_ARTIFACT",
        "filter": {"metadata.n": number},
        "action": {"webhook": "hook", "payload": {"n": number}},
    }
    refuse_unfit(raw)
    yaml_text = f"entity: acme\nn: {number}\nlist: [{number}]\ntext: '{number}'\n"
    (document,) = read_documents("file", BytesIO(yaml_text.encode()))
    assert isinstance(document, Document)
    assert read_json(document.json) == {"n": number, "list": [number], "text": str(number)}
    parsed = parse_automation(raw, lambda _name: Grants(frozenset(), has_access_token=False), lambda _name: True)
    stored = read_json(write_json(parsed.to_json()))
    assert (stored["filter"], stored["action"]["payload"]) == ({"metadata.n": {"$eq": number}}, {"n": number})


def test_definitions_refuse_longer_numbers() -> None:
    with pytest.raises(InvalidDefinition, match="must be a whole number of at most 4000 digits, or a fraction"):
        refuse_unfit({"n": NINES + 1})


def test_a_string_without_an_end_is_read_in_a_time_that_is_its_length() -> None:
    # Each of its quotes was tried as a beginning: a megabyte took hours, in which its process did nothing else.
    unended = b'"' + b'\\"' * (512 << 10)
    assert quote_bare_numbers(b"NaN," + unended) == b'"NaN",' + unended
    with pytest.raises(orjson.JSONDecodeError):
        read_event_json(b'{"a":NaN,"b":' + unended)
    nests = b"[]" * 100 + b'"' + b'\\"' * (MAX_EVENT_BYTES // 2 - 200)
    assert quick_event(nests) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"a":NaN,"b":[-Infinity, Infinity ]}', b'{"a":"NaN","b":["-Infinity", "Infinity" ]}'),
        (b'{"NaN":"NaN, \\"NaN]","b":NaN}', b'{"NaN":"NaN, \\"NaN]","b":"NaN"}'),
        (b'"\\\\",NaN', b'"\\\\","NaN"'),
        (b'"NaN', b'"NaN'),
        (b'NaN,"\\', b'"NaN","\\'),
        (b"NaNs", b"NaNs"),
        (b'{"a":1e400,"b":[-1.5E+999 ,1e308]}', b'{"a":"Infinity","b":["-Infinity" ,1e308]}'),
        (b'["1e400","a 1e400,"]', b'["1e400","a 1e400,"]'),
        (b"0e999,1e-999", b"0e999,1e-999"),
        (b"1" * 500 + b"e400", b"1" * 500 + b"e400"),
        (b"[01e400,-00e999,007.5e400]", b"[01e400,-00e999,007.5e400]"),
    ],
)
def test_bare_numbers_are_quoted_outside_of_strings(text: bytes, expected: bytes) -> None:
    assert quote_bare_numbers(text) == expected


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=60,
    ),
    st.integers(1, 40),
    st.booleans(),
)
def test_a_text_that_is_read_in_steps_has_the_same_value(value: Any, step_bytes: int, indented: bool) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=1 if indented else None).encode("utf-8", "surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "STEP_BYTES", step_bytes)
        assert _read(read_json_in_steps, text) == _read(read_json, text)


@given(st.integers(1, 40), st.integers(0, 200), st.sampled_from([b"", b"x", b'"', b"]", b"nul", b"\xff", b"NaN"]))
def test_a_text_that_is_no_json_is_none_in_steps_either(step_bytes: int, at: int, wrong: bytes) -> None:
    good = json.dumps({"a": [1, {"b": "c"}, [], "d\u00e4"] * 4, "e": {"f": None}}).encode()
    text = good[:at] + wrong + good[at + 1 :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "STEP_BYTES", step_bytes)
        assert _read(read_json_in_steps, text) == _read(read_json, text)


@pytest.mark.parametrize(("begin", "end"), [(b"[", b"]"), (b'{"a": [', b"]}"), (b'[{"b": {"c": [', b"]}}]")])
def test_where_a_large_text_is_no_json_is_told(begin: bytes, end: bytes) -> None:
    text = begin + b'{"c": 1},\n' * 40_000 + b'{"c": nul}' + end
    with pytest.raises(orjson.JSONDecodeError) as found:
        read_json_in_steps(text)
    assert found.value.lineno == 40_001
    assert 6 < found.value.colno < 11


def test_a_large_manifest_is_read_in_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other thread runs during a step."""
    automation = {"name": "a", "filter": {"alias": {"$regex": "^prod"}}, "description": "x" * 7000}
    text = json.dumps(
        {"entity": "acme", "automations": [automation] * 1000, "webhooks": [{"name": "w"}] * 200}
    ).encode()
    steps: list[int] = []

    def counted(piece: bytes) -> Any:
        steps.append(len(piece))
        return read_json(piece)

    monkeypatch.setattr(json_text, "read_json", counted)
    assert read_json_in_steps(text) == read_json(text)
    assert max(steps) <= 2 * json_text.STEP_BYTES
    assert len(steps) < 4 * len(text) / json_text.STEP_BYTES, "small pieces are read together"


def _read(read: Callable[[bytes], Any], text: bytes) -> Any:
    try:
        return read(text)
    except orjson.JSONDecodeError:
        return "no JSON"
