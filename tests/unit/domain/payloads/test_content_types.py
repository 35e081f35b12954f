"""Bodies that are no JSON: forms and plain text, in which no value begins a field or a line of its own."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.errors import InvalidDefinition
from shared.domain.payloads.content_types import FORM, JSON, PLAIN, PayloadTypes, header_of, parse_content_type
from shared.domain.payloads.cutting import parse_payload
from shared.domain.payloads.sealed import (
    content_type_of,
    mask_payload,
    open_payload,
    sealed_secrets,
    shown_payload,
)
from shared.domain.payloads.templates import JsonText, Template, default_payload

HOSTILE = 'a&admin=1\r\nX: 1\u2028é+%26 ${TOKEN} $$ "q" \\ ~*'
SECRET = 'k&y="1"+%\\é'
VALUES = {"alias": HOSTILE, "event_author": "alice", "artifact_metadata.n": JsonText('{"a":1}')}


def parse(payload: object, content_type: str) -> Template:
    return parse_payload(
        payload, secrets=["TOKEN"], has_access_token=True, types=PayloadTypes.JSON, content_type=content_type
    )


def sent(payload: object, content_type: str, values: dict[str, str] | None = None, secret: str = SECRET) -> str:
    template = parse(payload, content_type)
    sealed = template.render(VALUES if values is None else values)
    assert content_type_of(sealed) == content_type
    assert sealed_secrets(sealed) == template.secrets
    assert shown_payload(sealed) == mask_payload(sealed)
    return open_payload(sealed, {"TOKEN": secret}).decode()


def fields(body: str) -> list[tuple[str, str]]:
    """A form as receivers read it."""
    return parse_qsl(body, keep_blank_values=True, strict_parsing=bool(body))


def test_a_form_has_a_field_for_each_member() -> None:
    payload = {
        "text": "by ${event_author}: ${alias}",
        "key ${event_author}": "$TOKEN",
        "number": 5,
        "fraction": 0.5,
        "yes": True,
        "nothing": None,
        "meta": "${artifact_metadata.n}",
        "absent": "${run_id}",
        "many": ["a", 1, "$alias"],
        "none": [],
    }
    assert fields(sent(payload, FORM)) == [
        ("text", f"by alice: {HOSTILE}"),
        ("key alice", SECRET),
        ("number", "5"),
        ("fraction", "0.5"),
        ("yes", "true"),
        ("nothing", ""),
        ("meta", '{"a":1}'),
        ("absent", ""),
        ("many", "a"),
        ("many", "1"),
        ("many", HOSTILE),
    ]


def test_an_object_in_a_field_of_a_form_is_json_there() -> None:
    payload = {"payload": {"text": "<$alias>", "n": "${artifact_metadata.n}", "token": "$TOKEN", "$ref": [1]}, "a": 1}
    (name, text), other = fields(sent(payload, FORM))
    assert (name, other) == ("payload", ("a", "1"))
    assert json.loads(text) == {"text": f"<{HOSTILE}>", "n": {"a": 1}, "token": SECRET, "$ref": [1]}


def test_an_empty_form_is_empty() -> None:
    assert sent({}, FORM) == ""


@settings(max_examples=150)
@given(value=st.text(), secret=st.text())
def test_no_value_begins_a_field_of_a_form(value: str, secret: str) -> None:
    body = sent({"a": "$alias", "b": {"in": "$alias", "s": "$TOKEN"}, "c": "$TOKEN"}, FORM, {"alias": value}, secret)
    (_, first), (_, second), (_, third) = fields(body)
    assert (first, third) == (value, secret)
    assert json.loads(second) == {"in": value, "s": secret}
    assert body.isascii()


def test_plain_text_is_sent_as_it_stands_with_each_value_on_one_line() -> None:
    text = 'level=info "by" $event_author\nalias=${alias} $$5 n=${artifact_metadata.n} ${run_id:-no run}'
    flat = HOSTILE.replace("\r", " ").replace("\n", " ").replace("\u2028", " ")
    assert sent(text, PLAIN) == f'level=info "by" alice\nalias={flat} $5 n={{"a":1}} no run'
    assert sent("key: $TOKEN", PLAIN, secret="a\nb") == "key: a\nb"
    assert sent(5, PLAIN) == "5"
    assert sent("", PLAIN) == ""


@settings(max_examples=150)
@given(value=st.text())
def test_no_value_begins_a_line_of_plain_text(value: str) -> None:
    body = sent("a $alias b\nc $TOKEN", PLAIN, {"alias": value}, "s")
    assert len(body.splitlines()) == 2
    assert body.endswith(" b\nc s")


@pytest.mark.parametrize(
    ("payload", "content_type", "said"),
    [
        ([], FORM, "must be an object"),
        ("a=1", FORM, "must be an object"),
        (5, FORM, "must be an object"),
        ({}, PLAIN, "must be text"),
        (["a"], PLAIN, "must be text"),
        (None, PLAIN, "must be text"),
        ({"a": "$nope"}, FORM, "is not available"),
        ({"a": {"b": ["$nope"]}}, FORM, "is not available"),
        ("$nope", PLAIN, "is not available"),
        ({1: "a"}, FORM, "keys must be strings"),
        ({"a": float("nan")}, FORM, "finite number"),
    ],
)
def test_what_the_content_type_cannot_hold_is_refused(payload: object, content_type: str, said: str) -> None:
    with pytest.raises(InvalidDefinition, match=said):
        parse(payload, content_type)


def test_the_default_payload_as_a_form() -> None:
    sealed = default_payload({"alias": "a&b $x", "event_id": ""}, content_type=FORM, types=PayloadTypes.JSON)
    assert open_payload(sealed, {}) == b"alias=a%26b+%24x"


def test_another_json_type_is_json() -> None:
    sealed = parse({"a": "$TOKEN"}, "application/cloudevents+json").render({})
    assert content_type_of(sealed) == "application/cloudevents+json"
    assert shown_payload(sealed) == {"a": "***TOKEN***"}
    assert open_payload(sealed, {"TOKEN": '"'}) == b'{"a":"\\""}'


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("application/json", JSON),
        ("text/plain", PLAIN),
        ("application/x-www-form-urlencoded", FORM),
        ("application/vnd.example.v2+json", "application/vnd.example.v2+json"),
    ],
)
def test_content_types_that_are_accepted(raw: object, name: str) -> None:
    assert parse_content_type(raw) == name


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "text/html",
        "Application/JSON",
        " text/plain",
        "application/json; charset=utf-8",
        "text/plain\r\nX: 1",
        "application/+json",
        "a+json",
        5,
        [],
    ],
)
def test_content_types_that_are_refused(raw: Any) -> None:
    with pytest.raises(InvalidDefinition, match="application/x-www-form-urlencoded or text/plain"):
        parse_content_type(raw)


def test_plain_text_names_its_encoding() -> None:
    assert [header_of(name) for name in (JSON, FORM, PLAIN)] == [JSON, FORM, "text/plain; charset=utf-8"]
