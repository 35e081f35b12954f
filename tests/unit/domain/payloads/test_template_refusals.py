"""Payload templates that are refused: where the fault is, and what is accepted there."""

from __future__ import annotations

import json

import pytest

from shared.domain.errors import InvalidDefinition
from shared.domain.events.types import EventType
from shared.domain.payloads.cutting import (
    MAX_DEPTH,
    MAX_FAULTS,
    MAX_SECRET_SLOTS,
    MAX_TEMPLATE_BYTES,
    parse_payload,
)
from shared.domain.payloads.sealed import MAX_INSERTED_BYTES
from shared.domain.payloads.templates import PayloadTooLarge, Template


def parse(payload: object, *, has_access_token: bool = True) -> Template:
    return parse_payload(payload, secrets=("DEPLOY_TOKEN", "db_password"), has_access_token=has_access_token)


@pytest.mark.parametrize(
    ("payload", "loc"),
    [
        ({"client_payload": {"token": "${OTHER}"}}, ("client_payload", "token")),
        ({"a": [0, {"b": "$nope"}]}, ("a", 1, "b")),
        ({"a": {"${nope}": 1}}, ("a", "${nope}")),
        ({"a": "$aliasses"}, ("a",)),
        ({"a": "$metadata.k"}, ("a",)),
        ({"a": "${metadata.k}"}, ("a",)),
        ({"a": "${alias:default}"}, ("a",)),
        ({"a": "${alias-default}"}, ("a",)),
        ({"a": "${alias:?text}"}, ("a",)),
        ({"a": "${alias|upper}"}, ("a",)),
        ({"a": "${artifact_metadata[0]}"}, ("a",)),
        ({"a": "${:-text}"}, ("a",)),
        ({"a": "${artifact_metadata.}"}, ("a",)),
        ({"a": "${}"}, ("a",)),
        ({"a": "${ alias }"}, ("a",)),
        ({"a": "${Alias}"}, ("a",)),
    ],
)
def test_a_name_that_is_not_available_is_refused(payload: object, loc: tuple[str | int, ...]) -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        parse(payload)
    (fault,) = refusal.value.errors
    assert fault.loc == loc
    for part in ("is not available", "${alias}", "${artifact_metadata.<KEY>}", "${DEPLOY_TOKEN}", "`$$` writes"):
        assert part in fault.msg


@pytest.mark.parametrize("text", ["${", "${alias", "${alias ${tag}", "a ${artifact_metadata.$x}", "${a{b}"])
def test_an_unclosed_variable_is_refused(text: str) -> None:
    with pytest.raises(InvalidDefinition, match="must be closed") as refusal:
        parse({"a": {"b": text}})
    assert refusal.value.errors[0].loc == ("a", "b")


@pytest.mark.parametrize(
    "text", ["${alias:-${tag}}", "${alias:-$tag}", "a ${alias:-b{c}", "${alias:-x${", "${tag}${alias:-{}"]
)
def test_a_default_with_a_brace_or_a_variable_is_refused_in_words_of_its_own(text: str) -> None:
    with pytest.raises(InvalidDefinition, match="the text after `:-` takes no") as refusal:
        parse({"a": text})
    assert refusal.value.errors[0].loc == ("a",)


def test_the_access_token_needs_a_webhook_that_has_one() -> None:
    with pytest.raises(InvalidDefinition, match="ACCESS_TOKEN"):
        parse({"a": "$ACCESS_TOKEN"}, has_access_token=False)


@pytest.mark.parametrize(
    ("payload", "loc"),
    [
        ({"a": float("nan")}, ("a",)),
        ({"a": [float("-inf")]}, ("a", 0)),
        ({"a": 1 << 100_000}, ("a",)),
        ({"a": {1, 2}}, ("a",)),
        ({"a": b"x"}, ("a",)),
        ({"a": {True: "on"}}, ("a",)),
    ],
)
def test_what_is_not_json_is_refused(payload: object, loc: tuple[str | int, ...]) -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        parse(payload)
    assert [fault.loc for fault in refusal.value.errors] == [loc]


def test_all_faults_are_told_at_once_up_to_a_limit() -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        parse({"a": "$x $y", "b": {"c": float("inf")}})
    assert [fault.loc for fault in refusal.value.errors] == [("a",), ("a",), ("b", "c")]
    with pytest.raises(InvalidDefinition) as refusal:
        parse({"a": ["$x"] * 1000})
    assert len(refusal.value.errors) == MAX_FAULTS


def nested(levels: int) -> dict[str, object]:
    payload: dict[str, object] = {}
    for _ in range(levels - 1):
        payload = {"a": payload}
    return payload


def test_depth_is_limited() -> None:
    assert json.loads(parse(nested(MAX_DEPTH)).render({})) == nested(MAX_DEPTH)
    with pytest.raises(InvalidDefinition, match="too deep") as refusal:
        parse(nested(MAX_DEPTH + 1))
    assert refusal.value.errors[0].loc == ("a",) * MAX_DEPTH


def test_size_is_limited_in_bytes_of_json() -> None:
    fitting = MAX_TEMPLATE_BYTES - len('{"a":"$ "}')
    assert json.loads(parse({"a": "$ " + "x" * fitting}).render({})) == {"a": "$$ " + "x" * fitting}
    for payload in ({"a": "$ x" + "x" * fitting}, {"a": "ü" * (fitting // 2 + 2)}, {"a": "\x00" * (fitting // 6 + 2)}):
        with pytest.raises(InvalidDefinition, match="bytes as text"):
            parse(payload)


def test_shared_structures_do_not_explode() -> None:
    shared: list[object] = []
    for _ in range(MAX_DEPTH - 2):
        shared = [shared] * 10
    with pytest.raises(InvalidDefinition, match="at most 10,000 values"):
        parse({"a": shared})


def test_large_values_cannot_be_multiplied() -> None:
    template = parse({"a": "${artifact_metadata.blob}" * 10})
    with pytest.raises(PayloadTooLarge):
        template.render({"artifact_metadata.blob": "x" * (MAX_INSERTED_BYTES // 10 + 1)})
    assert parse({"a": "$db_password" * MAX_SECRET_SLOTS})
    with pytest.raises(InvalidDefinition, match="secrets at most"):
        parse({"a": "$db_password" * (MAX_SECRET_SLOTS + 1)})


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("${artifact_versoin}", "${artifact_version}"),
        ("$event_auther", "${event_author}"),
        ("${metadata.lr}", "${artifact_metadata.<KEY>}"),
        ("${config.lr}", "${run_config.<KEY>}"),
        ("${deploy_token}", "${DEPLOY_TOKEN}"),
        ("$DB_PASSWORD", "${db_password}"),
    ],
)
def test_a_refused_name_has_its_nearest_beside_it(text: str, meant: str) -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        parse({"a": text})
    nearest = refusal.value.errors[0].msg.partition("did you mean ")[2].partition("?")[0]
    assert meant in nearest.split(", ")


def test_a_word_that_is_like_nothing_has_no_nearest() -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        parse({"a": "$PATH_OF_SOMETHING"})
    assert "did you mean" not in refusal.value.errors[0].msg


@pytest.mark.parametrize("text", ["$artifact_metadata.lr", "$run_config.lr", "$artifact_metadata"])
def test_an_object_without_braces_is_refused_since_the_key_would_be_left_beside_it(text: str) -> None:
    with pytest.raises(InvalidDefinition, match=r"is an object: write `\$\{"):
        parse({"a": text})


def test_a_form_of_default_that_is_not_known_is_told_which_is() -> None:
    with pytest.raises(InvalidDefinition, match=r"`\$\{name:-text\}` gives a default"):
        parse({"a": "${alias:default}"})


def test_a_secret_has_no_default() -> None:
    with pytest.raises(InvalidDefinition, match="DEPLOY_TOKEN is a secret"):
        parse({"a": "${DEPLOY_TOKEN:-none}"})


def of_event(payload: object, event: EventType) -> Template:
    return parse_payload(payload, secrets=("DEPLOY_TOKEN",), has_access_token=True, event=event)


def test_a_refusal_lists_what_the_automations_events_can_have() -> None:
    with pytest.raises(InvalidDefinition) as refusal:
        of_event({"a": "${nothing_of_it}"}, EventType.RUN_METRIC)
    (fault,) = refusal.value.errors
    for name in ("${metric_value}", "${run_config.<KEY>}", "${DEPLOY_TOKEN}", "${ACCESS_TOKEN}"):
        assert name in fault.msg
    for name in ("artifact", "${alias}", "webhook_name", "run_state"):
        assert name not in fault.msg


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("version", EventType.RUN_METRIC),
        ("run_config.lr", EventType.ADD_ARTIFACT_ALIAS),
        ("metric_previous", EventType.RUN_STATE),
        ("run_url", EventType.DEAD_LETTER),
        ("aliases", EventType.ADD_COLLECTION_TAG),
    ],
)
def test_a_later_variable_that_the_event_cannot_have_is_refused(name: str, event: EventType) -> None:
    with pytest.raises(InvalidDefinition, match=f"{event} events have no"):
        of_event({"a": f"${{{name}}}"}, event)


def test_the_first_variables_may_be_named_on_every_event_as_ever() -> None:
    assert of_event({"a": "$alias ${artifact_metadata.k} $run_id"}, EventType.RUN_METRIC).render({}) == '{"a":"  "}'
