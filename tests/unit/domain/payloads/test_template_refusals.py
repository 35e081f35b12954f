"""Payload templates that are refused: where the fault is, and what is accepted there."""

from __future__ import annotations

import json

import pytest

from shared.domain.errors import InvalidDefinition
from shared.domain.payloads.sealed import MAX_INSERTED_BYTES
from shared.domain.payloads.templates import (
    MAX_DEPTH,
    MAX_FAULTS,
    MAX_SECRET_SLOTS,
    MAX_TEMPLATE_BYTES,
    PayloadTooLarge,
    Template,
    parse_payload,
)


def parse(payload: object, *, has_access_token: bool = True) -> Template:
    return parse_payload(payload, secrets=("DEPLOY_TOKEN", "db_password"), has_access_token=has_access_token)


@pytest.mark.parametrize(
    ("payload", "loc"),
    [
        ({"client_payload": {"token": "${OTHER}"}}, ("client_payload", "token")),
        ({"a": [0, {"b": "$nope"}]}, ("a", 1, "b")),
        ({"a": {"${nope}": 1}}, ("a", "${nope}")),
        ({"a": "$aliases"}, ("a",)),
        ({"a": "$artifact_metadata.k"}, ("a",)),
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


def test_the_access_token_needs_a_webhook_that_has_one() -> None:
    with pytest.raises(InvalidDefinition, match="ACCESS_TOKEN"):
        parse({"a": "$ACCESS_TOKEN"}, has_access_token=False)


@pytest.mark.parametrize("payload", [None, [], ["${alias}"], "{}", "${alias}", 1, True])
def test_only_an_object_is_a_payload(payload: object) -> None:
    with pytest.raises(InvalidDefinition, match="must be a JSON object") as refusal:
        parse(payload)
    assert refusal.value.errors[0].loc == ()


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
        with pytest.raises(InvalidDefinition, match="bytes of JSON text"):
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
