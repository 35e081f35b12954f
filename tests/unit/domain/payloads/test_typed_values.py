"""Values that keep their type, defaults, literal words in keys, and payloads that are no object."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import check_event
from shared.domain.payloads.content_types import PayloadTypes
from shared.domain.payloads.cutting import parse_payload
from shared.domain.payloads.sealed import mask_payload, open_payload, sealed_secrets
from shared.domain.payloads.templates import JsonText, PayloadTooLarge, Template
from shared.domain.payloads.variables import payload_values
from tests.unit.domain.samples import event

SECRETS = {"TOKEN": 's3cr3t "$$" ${alias}', "schema_token": "x"}
METADATA: dict[str, Any] = {
    "accuracy": 0.9312,
    "epochs": 5,
    "scores": {"f1": 0.8, "n": 12},
    "classes": ["cat", "dog", "$TOKEN"],
    "quantized": True,
    "parent": None,
    "note": "plain ${TOKEN}",
    "blank": "",
    "zero": 0,
    "params": {"lr": 0.001},
}


def parse(payload: object, types: PayloadTypes = PayloadTypes.JSON) -> Template:
    return parse_payload(payload, secrets=tuple(SECRETS), has_access_token=True, types=types)


def body(payload: object, types: PayloadTypes = PayloadTypes.JSON, metadata: dict[str, Any] | None = None) -> Any:
    """What the receiver reads."""
    raw = event("ADD_ARTIFACT_ALIAS", artifact={"id": "a", "version": "v3", "metadata": metadata or METADATA})
    template = parse(payload, types)
    values = payload_values(check_event(raw), delivery_id="d", asked=template.asked)
    sealed = template.render(values)
    json.loads(mask_payload(sealed))
    assert sealed_secrets(sealed) == template.secrets
    # Not by orjson, which reads an integer beyond 64 bits as a fraction.
    return json.loads(open_payload(sealed, {**SECRETS, "ACCESS_TOKEN": "token"}))


@pytest.mark.parametrize("key", METADATA)
def test_a_string_that_is_one_variable_becomes_its_value(key: str) -> None:
    place = f"${{artifact_metadata.{key}}}"
    assert body({"v": place, "list": [place], "deep": {"er": place}}) == {
        "v": METADATA[key],
        "list": [METADATA[key]],
        "deep": {"er": METADATA[key]},
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${artifact_metadata.params.lr}", 0.001),
        ("$alias", "production"),
        ("${alias}", "production"),
        ("${artifact_metadata.accuracy} ", "0.9312 "),
        ("${artifact_metadata.accuracy}${artifact_metadata.epochs}", "0.93125"),
        ("is ${artifact_metadata.scores}", 'is {"f1":0.8,"n":12}'),
        ("is ${artifact_metadata.parent}", "is "),
        ("${artifact_metadata.absent}", None),
        ("${run_id}", None),
        ("${version_index}", 3),
        ("${aliases}", []),
        ("${TOKEN}", SECRETS["TOKEN"]),
        ("$TOKEN", SECRETS["TOKEN"]),
        ("${ACCESS_TOKEN}", "token"),
        ("$$", "$"),
        ("$$alias", "$alias"),
    ],
)
def test_a_string_that_is_more_than_a_variable_stays_text(text: str, value: object) -> None:
    assert body({"v": text}) == {"v": value}


@pytest.mark.parametrize("key", METADATA)
def test_with_values_as_text_everything_stays_text_as_in_wandb(key: str) -> None:
    value = METADATA[key]
    as_text = value if isinstance(value, str) else "" if value is None else orjson.dumps(value).decode()
    assert body({"v": f"${{artifact_metadata.{key}}}"}, PayloadTypes.TEXT) == {"v": as_text}


def test_a_key_stays_text() -> None:
    assert body({"${artifact_metadata.epochs}": 1}) == {"5": 1}


@pytest.mark.parametrize("types", PayloadTypes)
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${artifact_metadata.absent:-none}", "none"),
        ("${artifact_metadata.parent:-none}", "none"),
        ("${artifact_metadata.blank:-none}", "none"),
        ("${artifact_metadata.params.absent:-0.1}", "0.1"),
        ("${artifact_metadata.absent:-}", ""),
        ('${run_id:-no run: "quoted" :- \\ }', 'no run: "quoted" :- \\ '),
        ("${tag:-a}/${alias:-b}", "a/production"),
        ("at ${artifact_metadata.zero:-none}", "at 0"),
        ("${artifact_metadata.note:-x}", "plain ${TOKEN}"),
    ],
)
def test_a_default_stands_where_there_is_no_value(text: str, value: object, types: PayloadTypes) -> None:
    assert body({"v": text}, types) == {"v": value}


def test_falsehood_zero_and_empty_lists_are_values() -> None:
    metadata = {"no": False, "zero": 0, "list": [], "object": {}}
    payload = {key: f"${{artifact_metadata.{key}:-default}}" for key in metadata}
    assert body(payload, metadata=metadata) == metadata


@pytest.mark.parametrize("types", PayloadTypes)
def test_a_word_in_a_key_that_means_nothing_is_literal(types: PayloadTypes) -> None:
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "$ref": {"$id": 1, "$UPPER_CASE": 2, "a $word b": 3},
        "by $alias": "$alias",
        "$schema_token": 1,
    }
    assert body(card, types) == {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "$ref": {"$id": 1, "$UPPER_CASE": 2, "a $word b": 3},
        "by production": "production",
        "x": 1,
    }


@pytest.mark.parametrize("payload", [{"${schema}": 1}, {"a": "$schema"}, {"a": "$UNKNOWN"}, ["$schema"], "$schema"])
def test_an_unknown_name_in_braces_or_in_a_value_is_refused(payload: object) -> None:
    with pytest.raises(InvalidDefinition, match="is not available"):
        parse(payload)


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (["${alias}", 1, {"n": "${artifact_metadata.epochs}"}], ["production", 1, {"n": 5}]),
        ([], []),
        ("by ${event_author}", "by alice"),
        ("${artifact_metadata.scores}", {"f1": 0.8, "n": 12}),
        ("${artifact_metadata.absent}", None),
        ("", ""),
        (0, 0),
        (1.5, 1.5),
        (True, True),
    ],
)
def test_a_payload_may_be_any_json_value(payload: object, value: object) -> None:
    assert body(payload) == value


def test_what_has_no_value_and_no_default_is_told() -> None:
    template = parse({"a": "${run_id} ${tag:-x} $alias", "b": "${artifact_metadata.absent}", "c": "${run_id}"})
    assert template.unfilled({"alias": ""}) == ("run_id", "artifact_metadata.absent")


def test_large_values_are_counted_whatever_their_type() -> None:
    large = JsonText(orjson.dumps(["x" * 1000] * 600).decode())
    template = parse({"a": "${artifact_metadata.k}", "b": "${artifact_metadata.k}"})
    assert template.large_places == 2
    assert template.least_bytes({"artifact_metadata.k": large}) == 2 * len(large)
    with pytest.raises(PayloadTooLarge):
        template.render({"artifact_metadata.k": large})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text('a$"{}T\\'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("a${T}"), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150)
@example(value=-(2**63) - 1)
@given(value=JSON)
def test_any_value_arrives_as_it_was_sent_and_forges_no_slot(value: Any) -> None:
    payload = {"v": "${artifact_metadata.k}", "in": "<${artifact_metadata.k}>", "s": "${TOKEN}"}
    found = body(payload, metadata={"k": value})
    assert found["v"] == value
    assert found["s"] == SECRETS["TOKEN"]
