"""Events from JSON lines, definitions from YAML."""

from __future__ import annotations

import io
import json
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.client import input_files
from dispatcher.client.input_files import (
    MAX_DOCUMENT_BYTES,
    Document,
    Entities,
    UnreadableInput,
    read_batches,
    read_documents,
)
from dispatcher.client.yaml_documents import read_values, write_documents


@settings(max_examples=50)
@given(
    lines=st.lists(st.sampled_from([b'{"id": 1}\n', b"\n", b'  {"id": 22} \r\n', b"[]"]), max_size=40),
    max_events=st.integers(1, 7),
)
def test_batches_keep_every_event_in_order_with_its_line(lines: list[bytes], max_events: int) -> None:
    batches = list(read_batches("f", lines, max_events=max_events))
    found = [pair for batch in batches for pair in zip(batch.line_numbers, batch.events, strict=True)]
    assert found == [(n, line.strip()) for n, line in enumerate(lines, start=1) if line.strip()]
    assert all(len(batch.events) == max_events for batch in batches[:-1])
    assert all(1 <= len(batch.events) <= max_events for batch in batches)


def test_batches_stay_below_the_size_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_files, "MAX_BATCH_BYTES", 20)
    lines = [b'"12345678"', b'"12345678"', b'"1"', b'"a line longer than any batch"', b'"2"']
    sizes = [len(batch.events) for batch in read_batches("f", lines, max_events=100)]
    assert sizes == [2, 1, 1, 1]


def test_a_line_that_is_not_json_is_named() -> None:
    batches = read_batches("events.jsonl", [b"{}", b"{}", b"", b"{'id': 1}"], max_events=2)
    assert len(next(batches).events) == 2
    with pytest.raises(UnreadableInput, match=r"^events\.jsonl:4: is not JSON: "):
        next(batches)


def read(text: str) -> list[Document]:
    documents = read_documents("defs.yaml", io.BytesIO(text.encode()))
    return [one for one in documents if isinstance(one, Document)]


def test_entities_are_a_document_of_their_own() -> None:
    text = b"entities:\n- {name: org, kind: organization}\n- {name: team, parent: org, quotas: {webhooks: 5}}\n"
    (listed,) = read_documents("defs.yaml", io.BytesIO(text))
    assert isinstance(listed, Entities)
    assert listed.members == {"org": {"kind": "organization"}, "team": {"parent": "org", "quotas": {"webhooks": 5}}}


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("entities: 5", "entities: must be a list of objects"),
        ("entities: [{kind: team}]", "entities.0: name: is required"),
        (
            "entities: [{name: a, color: red}]",
            "entities.0.color: is not known here; accepted: name, kind, parent, quotas",
        ),
        ("entities: [{name: a}, {name: a}]", "entities.1.name: comes twice"),
        ("entities: []\nentity: a", "entity: a document with entities has nothing else"),
    ],
)
def test_what_is_wrong_with_entities_is_named(text: str, refusal: str) -> None:
    with pytest.raises(UnreadableInput, match="document 1: " + re.escape(refusal)):
        read_documents("defs.yaml", io.BytesIO(text.encode()))


def test_documents_are_json_without_their_entity() -> None:
    text = "entity: a\nwebhooks: [{name: w, since: 2026-01-01}]\n---\n---\nentity: b\non-call: {'on': yes}\n"
    documents = read(text)
    assert [document.entity for document in documents] == ["a", "b"]
    assert json.loads(documents[0].json) == {"webhooks": [{"name": "w", "since": "2026-01-01"}]}
    assert json.loads(documents[1].json) == {"on-call": {"on": "yes"}}


def test_merge_keys_work() -> None:
    text = "base: &base {a: 1, b: 2}\nentity: e\nmore: {<<: *base, b: 3}\n"
    (document,) = read(text)
    assert json.loads(document.json)["more"] == {"a": 1, "b": 3}


def test_a_merge_into_what_is_merged_elsewhere_works() -> None:
    text = "entity: e\nb: &b {k: 1}\ndeep: {a: &a {<<: *b, k: 2}}\nc: {<<: *a}\n"
    (document,) = read(text)
    assert json.loads(document.json) == {"b": {"k": 1}, "deep": {"a": {"k": 2}}, "c": {"k": 2}}


def test_of_merged_mappings_the_first_holds_and_a_member_of_the_mapping_itself_before_all() -> None:
    text = "entity: e\nx: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {c: 3, <<: [*x, *y], d: 3}\n'<<': text\n"
    (document,) = read(text)
    value = json.loads(document.json)
    assert value["z"] == {"a": 1, "b": 1, "c": 3, "d": 3}
    assert value["<<"] == "text"


def bomb(line: str, lines: int) -> str:
    """A document of some lines, each of which names twice what the one before stands for."""
    return "entity: a\nx0: &x0 {a: y}\n" + "".join(f"x{n + 1}: &x{n + 1} {line.format(n)}\n" for n in range(lines))


ALIASES, MERGES = "[*x{0}, *x{0}]", "{{<<: [*x{0}, *x{0}]}}"
WRITTEN_OUT = "with its aliases written out the document is more than 8388608 bytes"


@pytest.mark.parametrize("line", [ALIASES, MERGES])
def test_aliases_and_merges_within_bounds_are_written_out(line: str) -> None:
    (document,) = read(bomb(line, 8))
    assert json.loads(document.json)["x0"] == {"a": "y"}


@pytest.mark.parametrize("line", ["{{<<: *x{0}}}", "{{<<: [*x{0}]}}", "{{a: *x0}}"])
def test_what_is_merged_or_named_again_nests_no_deeper(line: str) -> None:
    (document,) = read(bomb(line, 500))
    assert str(json.loads(document.json)["x500"]).count("{") <= 2


@pytest.mark.parametrize("line", [ALIASES, MERGES])
@pytest.mark.parametrize("lines", [21, 28, 1000])
def test_what_doubles_with_each_line_is_refused_where_it_gets_too_large(line: str, lines: int) -> None:
    """Before anything is copied: each line more would take twice as long."""
    with pytest.raises(UnreadableInput, match=rf"^defs\.yaml:2[123]:[0-9]+: {WRITTEN_OUT}$"):
        read(bomb(line, lines))


def test_merges_that_are_wide_are_refused() -> None:
    wide = "{" + ", ".join(f"k{n}: 1" for n in range(1000)) + "}"
    text = f"entity: a\nx: &x {wide}\ny: &y [{', '.join(['*x'] * 100)}]\nz:\n" + "- {<<: *y}\n" * 100
    with pytest.raises(UnreadableInput, match=rf"^defs\.yaml:[0-9]+:[0-9]+: {WRITTEN_OUT}$"):
        read(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("Off", "Off"),
        ("true", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        ("~", None),
        ("", None),
        ("NULL", None),
        ("nULL", "nULL"),
        ("12:30", "12:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("2026-01-01", "2026-01-01"),
        ("2026-01-01T12:00:00Z", "2026-01-01T12:00:00Z"),
        ("0123", "0123"),
        ("-007", "-007"),
        ("00.5", "00.5"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("0x_", "0x_"),
        ("1.2.3", "1.2.3"),
        ("=", "="),
        (".", "."),
        ("0", 0),
        ("+12", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("18446744073709551616", 18446744073709551616),
        ("1.10", 1.1),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1e3", -1000.0),
        ("!!str no", "no"),
        ("!!str 5", "5"),
        ("!!int '5'", 5),
        ("!!float 5", 5.0),
        ("!!bool true", True),
        ("!!null ''", None),
        ("! '5'", "5"),
        ("!!map {}", {}),
        ("!!seq []", []),
    ],
)
def test_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    (document,) = read(f"entity: a\nx: {text}\ny:\n- {text}\n")
    found = json.loads(document.json)
    assert found == {"x": value, "y": [value]}
    assert type(found["x"]) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"^defs\.yaml: is empty"),
        ("entity: a\n---\nwebhooks: []\n", r"^defs\.yaml, document 2: entity: is required"),
        ("entity: 5\n", r"document 1: entity: is required"),
        ("- entity: a\n", r"document 1: entity: is required"),
        ("entity: a\nfilter: {\n", r"^defs\.yaml:3:1: "),
        ("entity: a\nname: x\nname: y\n", r"^defs\.yaml:3:1: the key 'name' comes twice$"),
        ("entity: a\nx: {<<: {}, <<: {}}\n", r"^defs\.yaml:2:13: the key '<<' comes twice$"),
        ("entity: a\nx: {<<: 5}\n", r"^defs\.yaml:2:9: '<<' takes a mapping or a list of mappings$"),
        ("entity: a\nx: {<<: [{}, y]}\n", r"^defs\.yaml:2:9: '<<' takes a mapping or a list of mappings$"),
        ("entity: a\npayload: {1: 1}\n", r"^defs\.yaml:2:11: a key must be text; put it in quotes$"),
        ("entity: a\npayload: {true: 1}\n", r"^defs\.yaml:2:11: a key must be text"),
        ("entity: a\n{[1]: 2}: 3\n", r"^defs\.yaml:2:1: a key must be text"),
        ("entity: a\nx: &x 1\n*x : 2\n", r"^defs\.yaml:3:1: a key must be text"),
        ("entity: a\nx: .nan\n", r"^defs\.yaml:2:4: holds a value that JSON does not have: \.nan is no finite"),
        ("entity: a\nx: [-.Inf]\n", r"^defs\.yaml:2:5: holds a value that JSON does not have: -\.Inf is no finite"),
        ("entity: a\nx: 12e4567\n", r"^defs\.yaml:2:4: holds .*: 12e4567 is too large for a number; text needs quot"),
        ("entity: a\nx: !!binary aGk=\n", r"^defs\.yaml:2:4: holds a value that JSON does not have: the tag '!!bin"),
        ("entity: a\nx: &x [*x]\n", r"^defs\.yaml:2:8: the alias 'x' stands within what it names$"),
        ("entity: a\nx: &x {<<: *x}\n", r"^defs\.yaml:2:12: the alias 'x' stands within what it names$"),
        ("entity: a\nx: *y\n", r"^defs\.yaml:2:4: the alias 'y' names no anchor before it$"),
        ("x: &x 1\nentity: a\n---\nentity: a\ny: *x\n", r"^defs\.yaml:5:4: the alias 'x' names no anchor before it$"),
        (
            "entity: !!python/object:os.system {}\n",
            r"^defs\.yaml:1:9: holds .* the tag '!!python/object:os\.system'; acc",
        ),
        ("entity: a\nx: !<%0Ay> z\n", r"^defs\.yaml:2:4: holds .* the tag "),
        ("entity: \x00\n", r"^defs\.yaml: "),
        ("entity: a\nx: !!int\n", r"^defs\.yaml:2:4: this value is not what its form or tag says$"),
        ("entity: a\nx: !!int 1.5\n", r"^defs\.yaml:2:4: this value is not what its form or tag says$"),
        ("entity: a\nx: !!bool yes\n", r"^defs\.yaml:2:4: this value is not what its form or tag says$"),
        ("entity: a\nx: !!map []\n", r"^defs\.yaml:2:4: this value is not what its form or tag says$"),
        ("entity: a\nx: !!seq 5\n", r"^defs\.yaml:2:4: this value is not what its form or tag says$"),
        ("entity: a\nx: !!timestamp 2026-01-01\n", r"^defs\.yaml:2:4: holds a value that JSON does not have: the tag"),
        ("entity: a\nx: " + "9" * 5000, r"^defs\.yaml:2:4: this value is not what"),
        ("entity: a\nx: 0x" + "f" * 5000, r"^defs\.yaml, document 1: holds a value that JSON does not have"),
        ("entity: a\nx: " + "[" * 300, r"^defs\.yaml:2:203: nests too deeply, more than 200 levels$"),
        ("entity: a\nx: " + "{a: " * 480 + "}" * 480, r"^defs\.yaml:2:800: nests too deeply"),
        (bomb("[*x{0}]", 2000), r"^defs\.yaml:201:14: nests too deeply, more than 200 levels$"),
        (bomb("{{a: {{b: *x{0}}}}}", 200), r"^defs\.yaml:102:21: nests too deeply, more than 200 levels$"),
    ],
)
def test_unusable_yaml_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(UnreadableInput, match=message):
        read(text)


PLAIN = (
    "no",
    "on",
    "1e3",
    "12e4567",
    "0o17",
    "0123",
    "0899",
    "1_000",
    "12:30",
    "=",
    "<<",
    "~",
    ".inf",
    "2026-01-01",
    "",
)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.sampled_from(PLAIN),
    st.text("+-0123456789.oxeE_:", max_size=6),
)


@given(st.dictionaries(st.text() | st.sampled_from(PLAIN), scalars | st.lists(scalars, max_size=3), max_size=3))
def test_what_is_written_means_the_same_to_readers_of_yaml_1_1_and_1_2(value: object) -> None:
    documents = [{"entity": "a", "value": value}]
    text = write_documents(documents)
    assert list(read_values(text.encode(), max_bytes=MAX_DOCUMENT_BYTES)) == documents
    assert list(yaml.safe_load_all(text)) == documents
