"""Payload variables: what each stands for on each type of event, and what is blank."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from shared.domain.events.decoding import check_event, decode_event
from shared.domain.events.fast_decoding import read_event
from shared.domain.events.types import ARTIFACT_TYPES, COLLECTION_TAG_TYPES, NOTICE_TYPES, RUN_TYPES, EventType
from shared.domain.payloads.content_types import PayloadTypes
from shared.domain.payloads.cutting import parse_payload
from shared.domain.payloads.links import FiringLinks
from shared.domain.payloads.names import ADDED, VARIABLES, is_of, variables_of
from shared.domain.payloads.sealed import open_payload
from shared.domain.payloads.templates import DEFAULT_ASKED, JsonText, default_payload
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
OF_FIRINGS = {"automation_url", "delivery_url"}
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


LINKS = FiringLinks("https://hooks.example.com/console", "acme", 7, "dlv_x")


def values(
    raw: Raw, metric: MetricFacts | None = None, *, asked: Iterable[str] = (), links: FiringLinks | None = None
) -> dict[str, str]:
    return payload_values(check_event(raw), delivery_id="dlv_x", metric=metric, asked=asked, links=links)


@pytest.mark.parametrize("event_type", EventType)
def test_the_default_payload_has_every_variable_with_a_value_and_nothing_else(event_type: EventType) -> None:
    expected = {**EVERYWHERE, **OWN[event_type], "event_type": str(event_type)}
    assert json.loads(open_payload(default_payload(values(event(event_type))), {})) == expected


@pytest.mark.parametrize("event_type", EventType)
def test_every_variable_may_be_named_on_every_event_and_is_blank_where_it_has_no_value(event_type: EventType) -> None:
    payload = {name: f"${{{name}}}" for name in [*(VARIABLES.keys() - ADDED), "artifact_metadata.absent"]}
    template = parse_payload(payload, secrets=(), has_access_token=False)
    rendered = json.loads(open_payload(template.render(values(event(event_type))), {}))
    expected = {**EVERYWHERE, **OWN[event_type], "event_type": str(event_type)}
    assert rendered == {name: expected.get(name, "") for name in payload}


@pytest.mark.parametrize("event_type", EventType)
def test_what_a_type_can_have_is_found_and_nothing_else(event_type: EventType) -> None:
    metric = MetricFacts("m", 1.0, 2.0, step=1, previous=0.5, aggregate=1.0, condition="m > 2", summarize=lambda: "m 1")
    run = {"id": "r1", "name": "run one", "url": "https://p/r1", "config": {"a": 1}, "summary": {"b": 2}}
    raw = event(event_type, run=run) if event_type in RUN_TYPES else event(event_type)
    found = values(raw, metric if event_type is EventType.RUN_METRIC else None, asked=ADDED, links=LINKS)
    assert set(variables_of(event_type)) == found.keys()


def test_no_variable_is_made_up() -> None:
    for event_type in EventType:
        metric = MetricFacts(
            "m", 1.0, 2.0, step=1, previous=0.5, aggregate=1.0, condition="m > 2", summarize=lambda: "m 1"
        )
        found = values(event(event_type), metric if event_type is EventType.RUN_METRIC else None, asked=ADDED)
        assert {name for name in found if not is_of(event_type, name)} == set()


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
    found = payload_values(decode_event(body), delivery_id="dlv_x", asked=["artifact_metadata.key"])
    assert found.get("artifact_metadata.key", "") == text
    assert isinstance(found.get("artifact_metadata.key", ""), JsonText) is (written[0] not in '"n')


def test_the_longest_number_that_an_event_can_hold_becomes_text() -> None:
    digits = "9" * 4300
    raw = event("CREATE_ARTIFACT", artifact={"id": "a", "metadata": {"n": 0}})
    body = orjson.dumps(raw).replace(b'"n":0', b'"n":' + digits.encode())
    asked = ["artifact_metadata.n"]
    assert payload_values(decode_event(body), delivery_id="d", asked=asked)["artifact_metadata.n"] == digits


def test_metadata_keys_of_any_form_are_kept_apart_from_other_variables() -> None:
    metadata = {"event_id": "mine", "a.b": 1, "": "blank", "größe": "xl", "entity_name": {"deep": [1]}}
    asked = [f"artifact_metadata.{key}" for key in metadata if key]
    found = values(event("CREATE_ARTIFACT", artifact={"id": "a", "metadata": metadata}), asked=asked)
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
    assert template.asked == ("artifact_metadata.absent", "artifact_metadata.f1")
    found = payload_values(check_event(raw), delivery_id="d", asked=template.asked)
    assert {name for name in found if name.startswith("artifact_metadata.")} == {"artifact_metadata.f1"}
    assert json.loads(template.render(found)) == {"f": "0.5 "}


def test_deep_metadata_becomes_text() -> None:
    deep: Any = 1
    for _ in range(150):
        deep = [deep]
    raw = event("CREATE_ARTIFACT", artifact={"id": "a", "metadata": {"deep": deep}})
    found = values(raw, asked=["artifact_metadata.deep"])
    assert found["artifact_metadata.deep"] == "[" * 150 + "1" + "]" * 150


@pytest.mark.parametrize(
    "time",
    [
        None,
        "2026-11-23T09:00:00Z",
        "2026-11-23T09:00:00+00:00",
        "2026-11-23T09:00:00.5Z",
        "2026-11-23T09:00:00.500Z",
        "2026-11-23t09:00:00.123456789z",
        "2026-11-23T09:00:00.25+05:30",
    ],
)
def test_the_time_is_what_was_sent(time: str | None) -> None:
    raw = {**event(), "time": time}
    assert values(raw).get("event_time") == time
    assert payload_values(read_event(orjson.dumps(raw)), delivery_id="d").get("event_time") == time


@pytest.mark.parametrize(
    ("run", "name"),
    [({"id": "r"}, ""), ({"id": "r", "name": "n"}, "n"), ({"id": "r", "name": "n", "display_name": "d"}, "d")],
)
def test_a_run_is_named_as_people_see_it(run: Raw, name: str) -> None:
    assert values(event("RUN_METRIC", run=run)).get("run_name", "") == name


def test_what_was_not_sent_is_null_where_types_are_kept_and_is_told() -> None:
    names = ("event_author", "artifact_type", "version", "run_name", "run_url")
    of_artifacts = {"collection": {"name": "m"}, "artifact": {"id": "a"}, "author": ""}
    for raw in (
        event("CREATE_ARTIFACT", **of_artifacts),
        event("RUN_STATE", author="", run={"id": "r", "name": "", "url": ""}),
    ):
        named = [name for name in names if is_of(EventType(raw["type"]), name)]
        template = parse_payload(
            [f"${{{name}}}" for name in named], secrets=(), has_access_token=False, types=PayloadTypes.JSON
        )
        found = values(raw, asked=template.asked)
        assert json.loads(open_payload(template.render(found), {})) == [None] * len(named)
        assert template.unfilled(found) == tuple(named)


def test_the_metric_that_fired() -> None:
    found = values(event("RUN_METRIC"), MetricFacts("val/accuracy", 0.97, 0.95))
    assert {name: text for name, text in found.items() if name.startswith("metric_")} == {
        "metric_name": "val/accuracy",
        "metric_value": "0.97",
        "metric_threshold": "0.95",
    }
    assert not any(name.startswith("metric_") for name in values(event("RUN_METRIC")))


@pytest.mark.parametrize(
    ("written", "text"),
    [("5", "5"), ("5.0", "5.0"), ("-3", "-3"), ("0.97", "0.97"), ("9007199254740993", "9007199254740993"), ("0", "0")],
)
def test_a_metric_is_written_as_it_was_logged(written: str, text: str) -> None:
    body = orjson.dumps(event("RUN_METRIC", metrics={"loss": 0})).replace(b'"loss":0', b'"loss":' + written.encode())
    for read in (read_event, decode_event):
        data: Any = read(body).data
        found = values(event("RUN_METRIC"), MetricFacts("loss", data.metrics["loss"], 3.0))
        assert (found["metric_value"], found["metric_threshold"]) == (text, "3")
        assert isinstance(found["metric_value"], JsonText)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_no_json_number_can_be_has_the_name_that_events_give_it(value: float) -> None:
    found = values(event("RUN_METRIC"), MetricFacts("loss", value, 3.0))["metric_value"]
    assert found in ("NaN", "Infinity", "-Infinity")
    assert not isinstance(found, JsonText)


def test_a_whole_key_is_found_before_a_path() -> None:
    metadata = {"params.lr": 1, "params": {"lr": 2, "opt.name": "adam", "opt": {"name": "sgd"}, "list": [3]}}
    raw = event("CREATE_ARTIFACT", artifact={"id": "a", "metadata": metadata})
    paths = {
        "params.lr": "1",
        "params.opt.name": "adam",
        "params.list": "[3]",
        "params": '{"lr":2,"opt.name":"adam","opt":{"name":"sgd"},"list":[3]}',
        "params.absent": None,
        "params.lr.deeper": None,
        "params.list.0": None,
    }
    found = values(raw, asked=[f"artifact_metadata.{path}" for path in paths])
    assert {path: found.get(f"artifact_metadata.{path}") for path in paths} == paths


def test_what_artifacts_have_besides() -> None:
    artifact = {"id": "a", "version": "v12", "aliases": ["v12", "best"], "tags": [], "metadata": {"k": 1}}
    found = values(event("LINK_ARTIFACT", artifact=artifact), asked=ADDED)
    assert {name: found.get(name) for name in ADDED - OF_FIRINGS if is_of(EventType.LINK_ARTIFACT, name)} == {
        "event_source": event()["source"],
        "artifact_type": "model",
        "version": "v12",
        "version_index": "12",
        "aliases": '["v12","best"]',
        "tags": "[]",
        "artifact_metadata": '{"k":1}',
    }
    assert "version_index" not in values(event("LINK_ARTIFACT", artifact={"id": "a", "version": "final"}), asked=ADDED)


def test_what_runs_have_besides() -> None:
    run = {"id": "r", "config": {"lr": 0.1, "opt": {"name": "adam"}}, "summary": {"acc": 1}, "url": "https://p/r"}
    asked = [*ADDED, "run_config.opt.name", "run_summary.acc", "run_summary.none"]
    for read in (read_event, decode_event):
        raw = orjson.dumps(event("RUN_STATE", run=run))
        found = payload_values(read(raw), delivery_id="d", asked=asked)
        assert {name: found.get(name) for name in asked if name.startswith("run_")} == {
            "run_url": "https://p/r",
            "run_config": '{"lr":0.1,"opt":{"name":"adam"}}',
            "run_summary": '{"acc":1}',
            "run_config.opt.name": "adam",
            "run_summary.acc": "1",
            "run_summary.none": None,
        }
    bare = values(event("RUN_STATE", run={"id": "r", "summary": "text", "url": {"no": "text"}}), asked=asked)
    assert "run_url" not in bare
    assert "run_summary.acc" not in bare


def test_the_facts_of_the_metric_that_was_compared() -> None:
    metric = MetricFacts("loss", 5, 3.0, step=7, previous=2, aggregate=4.5, condition="AVERAGE of loss over 2 > 3")
    found = values(event("RUN_METRIC"), metric, asked=ADDED)
    assert {name: text for name, text in found.items() if name.startswith("metric_")} == {
        "metric_name": "loss",
        "metric_value": "5",
        "metric_threshold": "3",
        "metric_step": "7",
        "metric_previous": "2",
        "metric_change": "3",
        "metric_aggregate": "4.5",
        "metric_condition": "AVERAGE of loss over 2 > 3",
    }
    first = values(event("RUN_METRIC"), MetricFacts("loss", 5, 3.0, step=1), asked=ADDED)
    assert not {"metric_previous", "metric_change"} & first.keys()


def test_the_default_payload_of_typed_values_has_the_short_ones_with_their_types() -> None:
    artifact = {"id": "a", "version": "v3", "aliases": ["v3"], "metadata": {"large": "x"}}
    found = values(event("ADD_ARTIFACT_ALIAS", artifact=artifact), asked=DEFAULT_ASKED)
    opened = json.loads(open_payload(default_payload(found, types=PayloadTypes.JSON), {}))
    assert opened["version_index"] == 3
    assert opened["version"] == "v3"
    assert not {"aliases", "tags", "artifact_metadata"} & opened.keys()
    assert "version" not in json.loads(default_payload(found))


def test_links_lead_to_the_automation_that_fired_and_to_its_delivery_and_tell_nothing_else() -> None:
    evil = {"author": "a/b|<c>", "alias": "../../x"}
    found = values(event(**evil), asked=ADDED, links=FiringLinks("https://h.example/x/console", "a b/ü", 7, "dlv_y"))
    assert {name: found[name] for name in OF_FIRINGS} == {
        "automation_url": "https://h.example/x/console/e/a%20b%2F%C3%BC/automations/aut_7",
        "delivery_url": "https://h.example/x/console/e/a%20b%2F%C3%BC/deliveries/dlv_y",
    }
    notice = values(event("AUTOMATION_UNMATCHED"), asked=ADDED, links=LINKS)
    assert (notice["automation_id"], notice["automation_url"].rpartition("/")[2]) == ("aut_1", "aut_7")


def test_links_have_no_value_where_nobody_knows_the_console_s_address_and_none_where_there_is_no_delivery() -> None:
    assert not OF_FIRINGS & values(event(), asked=ADDED).keys()
    tried = values(event(), asked=ADDED, links=FiringLinks("https://h.example/console", "acme", 7, None))
    assert OF_FIRINGS & tried.keys() == {"automation_url"}
