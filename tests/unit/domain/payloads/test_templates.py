"""Payload templates: what is accepted, what is refused and where, and that no value escapes its string."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.domain.errors import HooklineError, InvalidDefinition
from shared.domain.payloads.content_types import PayloadTypes
from shared.domain.payloads.cutting import parse_payload
from shared.domain.payloads.names import OBJECTS, VARIABLES, available_names, granted_names
from shared.domain.payloads.sealed import (
    ACCESS_TOKEN,
    SecretsTooLarge,
    SecretUnavailable,
    mask_payload,
    open_payload,
    sealed_secrets,
)
from shared.domain.payloads.templates import Template, default_payload

GRANTED = ("DEPLOY_TOKEN", "db_password")
KEPT = {"DEPLOY_TOKEN": 's3cr3t-"deploy"-$$-${alias}\n', "db_password": "hünter2\\", ACCESS_TOKEN: "bearer-token"}
VALUES = {
    "alias": "production",
    "event_author": "alice",
    "project_name": "wandb-registry-model",
    "artifact_metadata.model_type": "llm",
    "artifact_metadata.eval acc/top-1": "0.97",
}
HOSTILE = [
    "${DEPLOY_TOKEN}",
    "$DEPLOY_TOKEN",
    "$$",
    "$${DEPLOY_TOKEN}",
    "$",
    '"',
    '","admin":true,"x":"',
    "\\",
    '\\"',
    'a\\",\n  "b',
    "\n\r\t\b\x00\x1f\x7f",
    "\u2028\u2029",
    '",\n  "',
    "\U0001f600",
    "",
]
TEXT = st.one_of(st.text(), st.sampled_from(HOSTILE), st.lists(st.sampled_from(HOSTILE)).map("".join))
SURROGATES = st.text(st.one_of(st.characters(categories=["Cs"]), st.sampled_from('a"$')))


def parse(payload: object, *, has_access_token: bool = True) -> Template:
    return parse_payload(payload, secrets=GRANTED, has_access_token=has_access_token)


def body(payload: object, values: dict[str, str] | None = None, secrets: dict[str, str] = KEPT) -> Any:
    """What the receiver reads."""
    return json.loads(open_payload(parse(payload).render(VALUES if values is None else values), secrets))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${alias}", "production"),
        ("$alias", "production"),
        ("$alias.", "production."),
        ("$alias-$event_author", "production-alice"),
        ("a ${alias} b ${alias} c", "a production b production c"),
        ("${alias}${event_author}$alias", "productionaliceproduction"),
        ("${tag}", ""),
        ("[${run_id}]", "[]"),
        ("${artifact_metadata.model_type}", "llm"),
        ("${artifact_metadata.absent}", ""),
        ("${artifact_metadata.eval acc/top-1}", "0.97"),
        ("$$", "$"),
        ("$$alias", "$alias"),
        ("$${alias}", "${alias}"),
        ("$$$alias", "$production"),
        ("$$$$", "$$"),
        ("costs $5", "costs $5"),
        ("100 $", "100 $"),
        ("$ {alias}", "$ {alias}"),
        ("$-", "$-"),
        ("{alias}", "{alias}"),
        ("${DEPLOY_TOKEN}", KEPT["DEPLOY_TOKEN"]),
        ("$DEPLOY_TOKEN", KEPT["DEPLOY_TOKEN"]),
        ("Bearer ${ACCESS_TOKEN}", "Bearer bearer-token"),
        ("$$${db_password}$$", "$hünter2\\$"),
        ('quo"te \\ \u2028 \x00 ${alias}', 'quo"te \\ \u2028 \x00 production'),
    ],
)
def test_a_string_is_rendered(text: str, expected: str) -> None:
    assert body({"v": text}) == {"v": expected}


def test_every_string_at_any_depth_is_rendered_and_everything_else_stays() -> None:
    payload = {
        "${alias}": [{"by $event_author": "${alias}"}, "$alias", 1, 2.5, True, None, [], {}],
        "big": 12345678901234567890123,
    }
    assert body(payload) == {
        "production": [{"by alice": "production"}, "production", 1, 2.5, True, None, [], {}],
        "big": 12345678901234567890123,
    }
    assert body({}) == {}


def test_the_template_says_what_it_names() -> None:
    template = parse({"a": "$alias ${artifact_metadata.k} $$tag", "${DEPLOY_TOKEN}": "${ACCESS_TOKEN}"})
    assert template.variables == {"alias", "artifact_metadata.k"}
    assert template.secrets == {"DEPLOY_TOKEN", ACCESS_TOKEN}
    assert sealed_secrets(template.render({})) == template.secrets


def test_every_variable_is_accepted_and_filled() -> None:
    values = {name: f"value of {name}" for name in (*VARIABLES, *(f"{name}.k" for name in OBJECTS))}
    assert body({name: f"${{{name}}}" for name in values}, values) == values


def test_what_is_available() -> None:
    granted = granted_names(["B", "A", "not-a-name", "alias"], has_access_token=True)
    of_objects = (f"{name}.<KEY>" for name in OBJECTS)
    assert available_names(None, granted) == (*VARIABLES, *of_objects, "A", ACCESS_TOKEN, "B")
    assert ACCESS_TOKEN not in granted_names([], has_access_token=False)


def test_a_variable_hides_a_secret_of_the_same_name() -> None:
    template = parse_payload({"a": "$alias"}, secrets=["alias"], has_access_token=False)
    assert template.render(VALUES) == '{"a":"production"}'
    assert template.secrets == frozenset()


def test_a_secret_that_had_the_name_of_a_later_variable_stays_what_is_meant() -> None:
    template = parse_payload({"a": "${version}"}, secrets=["version"], has_access_token=False, types=PayloadTypes.JSON)
    assert template.secrets == {"version"}
    assert open_payload(template.render({"version": "v3"}), {"version": "the secret"}) == b'{"a":"the secret"}'


def test_without_an_access_token_a_secret_may_have_that_name() -> None:
    template = parse_payload({"a": "$ACCESS_TOKEN"}, secrets=[ACCESS_TOKEN], has_access_token=False)
    assert template.secrets == {ACCESS_TOKEN}


def test_keys_that_render_equal_stay_two_members() -> None:
    assert parse({"$alias": 1, "production": 2}).render(VALUES) == '{"production":1,"production":2}'


@settings(max_examples=150)
@given(value=TEXT, other=TEXT)
@example(value="${DEPLOY_TOKEN}", other="$$")
@example(value="$", other="{DEPLOY_TOKEN}")
@example(value='",\n  "', other='",\n  "')
def test_a_value_stays_inside_its_string_and_forges_no_slot(value: str, other: str) -> None:
    template = parse({"a": "$alias$tag", "$alias": "x$alias", "s": "$DEPLOY_TOKEN", "$$": "${tag}"})
    sealed = template.render({"alias": value, "tag": other})
    assert sealed_secrets(sealed) == {"DEPLOY_TOKEN"}
    members = json.loads(open_payload(sealed, KEPT), object_pairs_hook=tuple)
    assert members == (("a", value + other), (value, "x" + value), ("s", KEPT["DEPLOY_TOKEN"]), ("$", other))


@settings(max_examples=100)
@given(literal=TEXT, value=TEXT, secret=TEXT)
def test_literals_values_and_secrets_survive_the_round_trip(literal: str, value: str, secret: str) -> None:
    written = literal.replace("$", "$$")
    payload = {"v": f"{written}${{alias}}{written}${{DEPLOY_TOKEN}}", "keys": {written: "$alias"}}
    sealed = parse(payload).render({"alias": value})
    opened, masked = json.loads(open_payload(sealed, {"DEPLOY_TOKEN": secret})), json.loads(mask_payload(sealed))
    assert opened == {"v": literal + value + literal + secret, "keys": {literal: value}}
    assert masked == {"v": literal + value + literal + "***DEPLOY_TOKEN***", "keys": {literal: value}}


@settings(max_examples=60)
@given(text=SURROGATES)
def test_lone_surrogates_are_replaced(text: str) -> None:
    clean = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert body({"v": "$alias"}, {"alias": text}) == {"v": clean}
    assert body({"v": "$DEPLOY_TOKEN"}, {}, {"DEPLOY_TOKEN": text}) == {"v": clean}
    assert body({text.replace("$", "$$"): 1}) == {clean: 1}
    assert json.loads(open_payload(default_payload({"alias": text}), {})) == ({"alias": clean} if text else {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def doubled(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, list):
        return [doubled(item) for item in value]
    if isinstance(value, dict):
        return {doubled(key): doubled(item) for key, item in value.items()}
    return value


@settings(max_examples=80)
@given(payload=st.dictionaries(TEXT, JSON, max_size=4))
def test_a_payload_without_variables_arrives_as_it_was_written(payload: dict[str, Any]) -> None:
    assert body(doubled(payload)) == payload


@settings(max_examples=200)
@given(text=st.text("$${}aA_9.é alias", max_size=30))
def test_any_text_is_either_refused_or_renders_to_json(text: str) -> None:
    try:
        template = parse({"v": text})
    except InvalidDefinition as refusal:
        assert {fault.loc for fault in refusal.errors} == {("v",)}
    else:
        json.loads(open_payload(template.render(VALUES), KEPT))


def test_a_secret_is_in_the_body_alone() -> None:
    template = parse({"a": "$DEPLOY_TOKEN", "b": "$db_password", "c": "$ACCESS_TOKEN"})
    sealed = template.render({**VALUES, **KEPT})
    assert sealed == '{"a":"${DEPLOY_TOKEN}","b":"${db_password}","c":"${ACCESS_TOKEN}"}'
    assert json.loads(mask_payload(sealed)) == {
        "a": "***DEPLOY_TOKEN***",
        "b": "***db_password***",
        "c": "***ACCESS_TOKEN***",
    }
    assert json.loads(open_payload(sealed, KEPT)) == {
        "a": KEPT["DEPLOY_TOKEN"],
        "b": KEPT["db_password"],
        "c": KEPT[ACCESS_TOKEN],
    }


def test_an_absent_secret_is_named_and_no_other_is_shown() -> None:
    sealed = parse({"a": "$DEPLOY_TOKEN $db_password"}).render({})
    with pytest.raises(SecretUnavailable, match="'db_password' is not available: store it again") as refusal:
        open_payload(sealed, {"DEPLOY_TOKEN": "hidden-value"})
    assert refusal.value.name == "db_password"
    assert isinstance(refusal.value, HooklineError)
    assert "hidden-value" not in str(refusal.value)


def test_the_default_payload_has_each_variable_that_has_a_value() -> None:
    values = {**VALUES, "tag": "", "unknown": "x", "event_id": "${DEPLOY_TOKEN} $$"}
    opened = json.loads(open_payload(default_payload(values), {}))
    assert opened == {
        "project_name": "wandb-registry-model",
        "event_author": "alice",
        "alias": "production",
        "event_id": "${DEPLOY_TOKEN} $$",
    }
    assert default_payload({}) == "{}"


def test_the_body_is_utf_8() -> None:
    assert open_payload(parse({"ü": "$alias"}).render({"alias": "\u2028é"}), {}) == '{"ü":"\u2028é"}'.encode()


def test_secrets_fill_no_more_than_a_part_of_a_workers_memory() -> None:
    template = parse_payload({str(n): "${LARGE}" for n in range(16)}, secrets={"LARGE"}, has_access_token=False)
    sealed = template.render({})
    assert len(open_payload(sealed, {"LARGE": "x" * 65_536})) > 16 * 65_536
    for value in ("x" * 65_537, '"' * 32_769, "\0" * 10_923):
        with pytest.raises(SecretsTooLarge, match="more than 1048576 characters"):
            open_payload(sealed, {"LARGE": value})
