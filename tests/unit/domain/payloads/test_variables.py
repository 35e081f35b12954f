"""Payload variables: what each stands for on each type of event, and what is blank."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from shared.domain.events.decoding import check_event, decode_event
from shared.domain.events.types import ARTIFACT_TYPES, COLLECTION_TAG_TYPES, NOTICE_TYPES, RUN_TYPES, EventType
from shared.domain.payloads.availability import blank_on
from shared.domain.payloads.sealed import open_payload
from shared.domain.payloads.templates import VARIABLES, default_payload, parse_payload
from shared.domain.payloads.variables import MetricFacts, payload_values
from tests.unit.domain.samples import Raw, event

IN_A_PROJECT = {"project_name": "wandb-registry-model"}
EVERYWHERE = {
    "entity_name": "acme",
    "event_author": "alice",
    "event_id": "event-1",
    "event_time": "2026-11-23T09:00:00Z",
    "delivery_id": "dlv_x",
}
OF_ARTIFACTS = {
    **IN_A_PROJECT,
    "artifact_collection_name": "llm-models",
    "artifact_version": "wandb-artifact://_id/QXJ0aWZhY3Q6NTE3ODg5ODg3",
    "artifact_version_string": "acme/wandb-registry-model/llm-models:v3",
}
TAGGED_ARTIFACT = {**OF_ARTIFACTS, "tag": "approved"}
TAGGED_COLLECTION = {**IN_A_PROJECT, "artifact_collection_name": "llm-models", "tag": "approved"}
OF_RUNS = {**IN_A_PROJECT, "run_id": "r1", "run_name": "run one"}
OF_NOTICES = {"webhook_name": "deploy-hook", "webhook_id": "wh_1", "reason": "the endpoint answered 404"}
OWN: dict[EventType, dict[str, str]] = {
    **dict.fromkeys(ARTIFACT_TYPES, OF_ARTIFACTS),
    EventType.ADD_ARTIFACT_ALIAS: {
        **OF_ARTIFACTS,
        "alias": "production",
        "artifact_version_string": "acme/wandb-registry-model/llm-models:production",
    },
    EventType.REMOVE_ARTIFACT_ALIAS: {**OF_ARTIFACTS, "alias": "production"},
    **dict.fromkeys((EventType.ADD_ARTIFACT_TAG, EventType.REMOVE_ARTIFACT_TAG), TAGGED_ARTIFACT),
    **dict.fromkeys(COLLECTION_TAG_TYPES, TAGGED_COLLECTION),
    **dict.fromkeys(RUN_TYPES, OF_RUNS),
    EventType.RUN_STATE: {**OF_RUNS, "run_state": "finished"},
    **dict.fromkeys(NOTICE_TYPES, OF_NOTICES),
    EventType.AUTOMATION_UNMATCHED: {
        "automation_name": "deploy",
        "automation_id": "aut_1",
        "reason": "its filter would take too much",
    },
    EventType.DEAD_LETTER: {
        **OF_NOTICES,
        "dead_letter_id": "dlv_old",
        "dead_letter_automation": "deploy",
        "dead_letter_event_type": "ADD_ARTIFACT_ALIAS",
        "dead_letter_event_id": "event-0",
    },
}


def values(raw: Raw, metric: MetricFacts | None = None) -> dict[str, str]:
    return payload_values(check_event(raw), delivery_id="dlv_x", metric=metric)


@pytest.mark.parametrize("event_type", EventType)
def test_the_default_payload_has_every_variable_with_a_value_and_nothing_else(event_type: EventType) -> None:
    expected = {**EVERYWHERE, **OWN[event_type], "event_type": str(event_type)}
    assert json.loads(open_payload(default_payload(values(event(event_type))), {})) == expected


@pytest.mark.parametrize("event_type", EventType)
def test_every_variable_may_be_named_on_every_event_and_is_blank_where_it_has_no_value(event_type: EventType) -> None:
    payload = {name: f"${{{name}}}" for name in [*VARIABLES, "artifact_metadata.absent"]}
    template = parse_payload(payload, secrets=(), has_access_token=False)
    rendered = json.loads(open_payload(template.render(values(event(event_type))), {}))
    expected = {**EVERYWHERE, **OWN[event_type], "event_type": str(event_type)}
    assert rendered == {name: expected.get(name, "") for name in payload}


@pytest.mark.parametrize("event_type", EventType)
def test_what_is_called_blank_on_a_type_is_blank_there_and_nothing_else(event_type: EventType) -> None:
    named = frozenset[str]().union(*(blank_on(one) for one in EventType))
    found = values(event(event_type), MetricFacts("m", 1.0, 2.0) if event_type is EventType.RUN_METRIC else None)
    assert blank_on(event_type) == {name for name in named if not found.get(name)}
    assert named <= VARIABLES.keys()


def test_no_variable_is_made_up() -> None:
    for event_type in EventType:
        names = values(event(event_type), MetricFacts("m", 1.0, 2.0)).keys()
        assert {name for name in names if not name.startswith("artifact_metadata.")} <= VARIABLES.keys()


def test_the_version_string_ends_in_the_alias_that_was_added_and_else_in_the_version() -> None:
    for event_type in ARTIFACT_TYPES:
        raw = event(event_type, artifact={"id": "a", "version": "v7", "aliases": ["best"]}, project="p")
        ending = "production" if event_type is EventType.ADD_ARTIFACT_ALIAS else "v7"
        assert values(raw)["artifact_version_string"] == f"acme/p/llm-models:{ending}"


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ('"plain"', "plain"),
        ('""', ""),
        ('"with \\"quotes\\" and ${alias}"', 'with "quotes" and ${alias}'),
        ("null", ""),
        ("true", "true"),
        ("false", "false"),
        ("0", "0"),
        ("-7", "-7"),
        ("0.5", "0.5"),
        ("1e-7", "1e-7"),
        ("1.0", "1.0"),
        ("[]", "[]"),
        ('[1, "two", null]', '[1,"two",null]'),
        ('{"b": {"c": true}, "a": "é"}', '{"b":{"c":true},"a":"é"}'),
        ("18446744073709551615", "18446744073709551615"),
        # Integers beyond 64 bits are JSON, and a backend may write them to a stream.
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ('{"a": [-123456789012345678901234567890, "é"]}', '{"a":[-123456789012345678901234567890,"é"]}'),
    ],
)
def test_metadata_of_every_json_type_becomes_text(written: str, text: str) -> None:
    raw = event("CREATE_ARTIFACT", artifact={"id": "a", "metadata": {"key": "?"}})
    body = orjson.dumps(raw).replace(b'"?"', written.encode())
    found = payload_values(decode_event(body), delivery_id="dlv_x")
    assert found["artifact_metadata.key"] == text


def test_the_longest_number_that_an_event_can_hold_becomes_text() -> None:
    digits = "9" * 4300
    raw = event("CREATE_ARTIFACT", artifact={"id": "a", "metadata": {"n": 0}})
    body = orjson.dumps(raw).replace(b'"n":0', b'"n":' + digits.encode())
    assert payload_values(decode_event(body), delivery_id="d")["artifact_metadata.n"] == digits


def test_metadata_keys_of_any_form_are_kept_apart_from_other_variables() -> None:
    metadata = {"event_id": "mine", "a.b": 1, "": "blank", "größe": "xl", "entity_name": {"deep": [1]}}
    found = values(event("CREATE_ARTIFACT", artifact={"id": "a", "metadata": metadata}))
    assert found["event_id"] == "event-1"
    assert found["artifact_metadata.event_id"] == "mine"
    assert found["artifact_metadata.a.b"] == "1"
    assert found["artifact_metadata.größe"] == "xl"
    assert found["artifact_metadata.entity_name"] == '{"deep":[1]}'


def test_only_the_metadata_that_is_asked_for_becomes_text() -> None:
    raw = event("CREATE_ARTIFACT", artifact={"id": "a", "metadata": {"f1": 0.5, "f2": [1], "other": {"deep": 1}}})
    template = parse_payload(
        {"f": "${artifact_metadata.f1} ${artifact_metadata.absent}"}, secrets=(), has_access_token=False
    )
    assert template.metadata == ("absent", "f1")
    found = payload_values(check_event(raw), delivery_id="d", metadata=template.metadata)
    assert {name for name in found if name.startswith("artifact_metadata.")} == {"artifact_metadata.f1"}
    assert json.loads(template.render(found)) == {"f": "0.5 "}


def test_deep_metadata_becomes_text() -> None:
    deep: Any = 1
    for _ in range(150):
        deep = [deep]
    found = values(event("CREATE_ARTIFACT", artifact={"id": "a", "metadata": {"deep": deep}}))
    assert found["artifact_metadata.deep"] == "[" * 150 + "1" + "]" * 150


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (None, ""),
        ("2026-11-23T09:00:00Z", "2026-11-23T09:00:00Z"),
        ("2026-11-23T09:00:00+00:00", "2026-11-23T09:00:00Z"),
        ("2026-11-23T09:00:00.25+05:30", "2026-11-23T09:00:00.250000+05:30"),
    ],
)
def test_the_time_is_written_as_rfc_3339(time: str | None, text: str) -> None:
    assert values({**event(), "time": time})["event_time"] == text


@pytest.mark.parametrize(
    ("run", "name"),
    [({"id": "r"}, ""), ({"id": "r", "name": "n"}, "n"), ({"id": "r", "name": "n", "display_name": "d"}, "d")],
)
def test_a_run_is_named_as_people_see_it(run: Raw, name: str) -> None:
    assert values(event("RUN_METRIC", run=run))["run_name"] == name


def test_the_metric_that_fired() -> None:
    found = values(event("RUN_METRIC"), MetricFacts("val/accuracy", 0.97, 0.95))
    assert {name: text for name, text in found.items() if name.startswith("metric_")} == {
        "metric_name": "val/accuracy",
        "metric_value": "0.97",
        "metric_threshold": "0.95",
    }
    assert not any(name.startswith("metric_") for name in values(event("RUN_METRIC")))
