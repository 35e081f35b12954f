"""Events from JSON lines, definitions from YAML."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.client import input_files
from dispatcher.client.input_files import Document, UnreadableInput, read_batches, read_documents


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
    return read_documents("defs.yaml", io.BytesIO(text.encode()))


def test_documents_are_json_without_their_entity() -> None:
    text = "entity: a\nwebhooks: [{name: w, since: 2026-01-01}]\n---\n---\nentity: b\non-call: {'on': yes}\n"
    documents = read(text)
    assert [document.entity for document in documents] == ["a", "b"]
    assert json.loads(documents[0].json) == {"webhooks": [{"name": "w", "since": "2026-01-01"}]}
    assert json.loads(documents[1].json) == {"on-call": {"on": True}}


def test_merge_keys_work() -> None:
    text = "base: &base {a: 1, b: 2}\nentity: e\nmore: {<<: *base, b: 3}\n"
    (document,) = read(text)
    assert json.loads(document.json)["more"] == {"a": 1, "b": 3}


def test_a_merge_into_what_is_merged_elsewhere_works() -> None:
    text = "entity: e\nb: &b {k: 1}\ndeep: {a: &a {<<: *b, k: 2}}\nc: {<<: *a}\n"
    (document,) = read(text)
    assert json.loads(document.json) == {"b": {"k": 1}, "deep": {"a": {"k": 2}}, "c": {"k": 2}}


BOMB = "entity: a\nx0: &x0 [y, y]\n" + "".join(f"x{n + 1}: &x{n + 1} [*x{n}, *x{n}]\n" for n in range(30))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"defs\.yaml: is empty"),
        ("entity: a\n---\nwebhooks: []\n", r"defs\.yaml, document 2: entity: is required"),
        ("entity: 5\n", r"document 1: entity: is required"),
        ("- entity: a\n", r"document 1: entity: is required"),
        ("entity: a\nfilter: {\n", r"defs\.yaml:3:1: "),
        ("entity: a\nname: x\nname: y\n", r"defs\.yaml:3:1: the key 'name' comes twice"),
        ("entity: a\npayload: {on: 1}\n", r"defs\.yaml:2:11: a key must be text; put it in quotes"),
        ("entity: a\n{[1]: 2}: 3\n", r"defs\.yaml:2:2: a key must be text"),
        ("entity: a\nx: .nan\n", r"document 1: holds a value that JSON does not have"),
        ("entity: a\nx: !!binary aGk=\n", r"document 1: holds a value that JSON does not have"),
        ("entity: a\nx: &x [*x]\n", r"document 1: holds a value that JSON does not have"),
        ("entity: !!python/object:os.system {}\n", r"defs\.yaml:1:9: could not determine a constructor"),
        ("entity: \x00\n", r"defs\.yaml: "),
        ("entity: a\nx: !!int\n", r"defs\.yaml:2:4: this value is not what its form or tag says"),
        ("entity: a\nx: [0x_]\n", r"defs\.yaml:2:5: this value is not what"),
        ("entity: a\nx: !!timestamp y\n", r"defs\.yaml:2:4: this value is not what"),
        ("entity: a\nx: " + "9" * 5000, r"defs\.yaml:2:4: this value is not what"),
        (BOMB, r"document 1: holds a value that JSON does not have: with its aliases written out"),
        ("entity: a\nx: " + "[" * 1000, r"defs\.yaml: nests too deeply"),
        ("entity: a\nx: " + "[" * 480 + "]" * 480, r"nests too deeply"),
    ],
)
def test_unusable_yaml_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(UnreadableInput, match=message):
        read(text)
