"""Builders: what they make and refuse, and that every value of a training program becomes a sample or nothing."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hookline import events, values
from hookline.errors import InvalidEvent
from hookline.events import Artifact, Collection, Event, Run

ARTIFACT = Artifact("a1", version="v3", aliases=["v3"], tags=("ok",), metadata={"acc": 0.9})


@pytest.fixture(autouse=True)
def _entity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKLINE_ENTITY", "acme")


def every() -> list[Event]:
    of_artifact: dict[str, Any] = {"project": "m", "collection": Collection("llm", "model"), "artifact": ARTIFACT}
    return [
        events.artifact_created(**of_artifact),
        events.artifact_linked(**of_artifact),
        events.artifact_unlinked(**of_artifact),
        events.alias_added(**of_artifact, alias="production"),
        events.alias_removed(**of_artifact, alias="production"),
        events.artifact_tag_added(**of_artifact, tag="ok"),
        events.artifact_tag_removed(**of_artifact, tag="ok"),
        events.collection_tag_added(project="m", collection="llm", tag="ok"),
        events.collection_tag_removed(project="m", collection="llm", tag="ok"),
        events.run_metrics(
            project="m", run=Run("r1", "first", config={"lr": 1}, group="a"), step=3, metrics={"l": 0.5}
        ),
        events.run_state(project="m", run="r1", state="running", heartbeat_seconds=120),
        events.run_alert(project="m", run="r1", title="low accuracy", text="0.4\nof 0.9", level="WARN"),
    ]


def test_there_is_a_builder_for_every_type() -> None:
    assert [event.type for event in every()] == list(events.TYPES)


def test_events_have_distinct_ids_the_entity_and_a_time_with_its_zone() -> None:
    made = every()
    assert len({event.id for event in made}) == len(made)
    for event in made:
        value = json.loads(event.to_json())
        assert value["specversion"] == "1.0"
        assert value["data"]["entity"] == "acme"
        assert value["source"].startswith("/python/")
        assert datetime.fromisoformat(value["time"].replace("Z", "+00:00")).tzinfo is not None
        assert b"\n" not in event.to_json()


def test_an_alias_event_is_what_the_documentation_shows() -> None:
    event = events.alias_added(
        project="wandb-registry-model",
        collection=Collection("llm-models", "model"),
        artifact=Artifact("QXJ0", version="v3", aliases=["v3"]),
        alias="production",
        entity="corp",
        author="alice",
        id="promote-1",
        source="/platform/eu-1",
        time=datetime(2026, 11, 23, 9, tzinfo=timezone.utc),
    )
    assert event.to_dict() == {
        "specversion": "1.0",
        "id": "promote-1",
        "source": "/platform/eu-1",
        "type": "ADD_ARTIFACT_ALIAS",
        "time": "2026-11-23T09:00:00.000Z",
        "data": {
            "entity": "corp",
            "project": "wandb-registry-model",
            "author": "alice",
            "collection": {"name": "llm-models", "type": "model"},
            "artifact": {"id": "QXJ0", "version": "v3", "aliases": ["v3"], "tags": [], "metadata": {}},
            "alias": "production",
        },
    }


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("data.project", {"project": ""}),
        ("data.project", {"project": "a\nb"}),
        ("data.project", {"project": "x" * 513}),
        ("data.entity", {"entity": "\x00"}),
        ("data.run.id", {"run": ""}),
        ("data.run", {"run": 7}),
        ("data.step", {"step": -1}),
        ("data.step", {"step": 1.5}),
        ("data.step", {"step": True}),
        ("data.step", {"step": 2**63}),
        ("data.metrics", {"metrics": {}}),
        ("data.metrics", {"metrics": dict.fromkeys(map(str, range(1001)), 1)}),
        ("data.metrics.acc", {"metrics": {"acc": "good"}}),
        ("data.metrics.acc", {"metrics": {"acc": True}}),
        ("data.metrics", {"metrics": {"": 1}}),
        ("id", {"id": ""}),
        ("source", {"source": "a\x7f"}),
        ("time", {"time": datetime(2026, 1, 1)}),  # noqa: DTZ001
        ("time", {"time": "yesterday"}),
    ],
)
def test_what_hookline_would_refuse_is_refused_by_the_name_of_its_field(field: str, given: dict[str, Any]) -> None:
    of: dict[str, Any] = {"project": "m", "run": "r1", "step": 1, "metrics": {"acc": 1}}
    with pytest.raises(InvalidEvent, match=rf"^{field}\b"):
        events.run_metrics(**{**of, **given})


def test_without_an_entity_there_is_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOKLINE_ENTITY")
    with pytest.raises(InvalidEvent, match="HOOKLINE_ENTITY"):
        events.run_state(project="m", run="r", state="finished")


def test_alerts_are_checked() -> None:
    plain = events.run_alert(project="m", run="r", title="t")
    assert (plain.data["text"], plain.data["level"]) == ("", "INFO")
    of: dict[str, Any] = {"project": "m", "run": "r"}
    for field, wrong in {"title": "", "text": "a\x00", "level": "warn"}.items():
        with pytest.raises(InvalidEvent, match=rf"^data\.{field}:"):
            events.run_alert(**{**of, "title": "t", field: wrong})
    with pytest.raises(InvalidEvent, match=r"data\.text: must be text of at most 4096"):
        events.run_alert(project="m", run="r", title="t", text="x" * 4097)


def test_states_and_heartbeats_are_checked() -> None:
    with pytest.raises(InvalidEvent, match=r"data\.state"):
        events.run_state(project="m", run="r", state="done")  # type: ignore[arg-type]
    for wrong in (0, 0.5, -1, 2_592_001, math.inf, math.nan):
        with pytest.raises(InvalidEvent, match="heartbeat_seconds"):
            events.run_state(project="m", run="r", state="running", heartbeat_seconds=wrong)
    with pytest.raises(InvalidEvent, match="heartbeat_seconds"):
        events.run_state(project="m", run="r", state="finished", heartbeat_seconds=60)


def test_an_event_above_a_mebibyte_is_refused() -> None:
    huge = events.artifact_created(
        project="m", collection="c", artifact=Artifact("a", metadata={str(n): "x" * 16_000 for n in range(80)})
    )
    with pytest.raises(InvalidEvent, match="1048576 bytes"):
        huge.to_json()


def test_numbers_of_every_kind_become_samples() -> None:
    numpy = pytest.importorskip("numpy")
    for value, expected in [
        (3, 3),
        (0.5, 0.5),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (10**400, "Infinity"),
        (-(10**400), "-Infinity"),
        (Decimal("0.25"), 0.25),
        (numpy.float32(0.5), 0.5),
        (numpy.float64("nan"), "NaN"),
        (numpy.int64(7), 7),
        (numpy.array(0.5), 0.5),
        (numpy.array([0.5]), 0.5),
        (numpy.float16("inf"), "Infinity"),
    ]:
        found = values.sample(value)
        assert found == expected and type(found) is type(expected), value
    for value in (True, numpy.bool_(True), "0.5", b"1", None, numpy.array([1, 2]), [1], object(), 1j, float):
        assert values.sample(value) is None, value


def test_a_value_that_raises_is_no_sample() -> None:
    class Hostile:
        def item(self) -> float:
            raise RuntimeError("the tensor lies on a device that is gone")

        def __float__(self) -> float:
            raise RuntimeError

        def __str__(self) -> str:
            raise RuntimeError

    assert values.sample(Hostile()) is None
    assert values.json_value({"a": Hostile()}) == {"a": "Hostile"}


def test_logged_metrics_are_flattened_and_cleaned() -> None:
    found = values.samples({"a": {"b": {"c": 1}}, "bad\nname": 2, 7: 3, "x" * 600: 4, "text": "no", "": 5, "n": None})
    assert found == {"a.b.c": 1, "bad name": 2, "7": 3, "x" * 512: 4}


def test_a_configuration_of_any_shape_becomes_json_without_secrets() -> None:
    @dataclass
    class Optimizer:
        name: str = "sgd"
        password: str = "hunter2"

    config = argparse.Namespace(
        lr=0.1,
        out=Path("/tmp/x"),  # noqa: S108
        optimizer=Optimizer(),
        api_key="sk-1",
        HF_TOKEN="hf-1",
        max_tokens=128,
        tokenizer="bpe",
        nan=math.nan,
        tags={"b", "a"},
        call=print,
    )
    assert values.config_value(config) == {
        "lr": 0.1,
        "out": "/tmp/x",  # noqa: S108
        "optimizer": {"name": "sgd"},
        "max_tokens": 128,
        "tokenizer": "bpe",
        "nan": "NaN",
        "tags": ["a", "b"],
        "call": "print",
    }


def test_patterns_choose_the_keys_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"lr": 1, "model": {"path": "/x", "size": 3}, "data": {"path": "/y"}}
    monkeypatch.setenv("HOOKLINE_CONFIG_KEYS", "lr, model.*, -model.path")
    assert values.config_value(config) == {"lr": 1, "model": {"size": 3}}
    monkeypatch.setenv("HOOKLINE_CONFIG_KEYS", "-*.path")
    assert values.config_value(config) == {"lr": 1, "model": {"size": 3}, "data": {}}


def test_a_configuration_that_contains_itself_ends() -> None:
    config: dict[str, Any] = {"lr": 1}
    config["self"] = config
    json.dumps(values.config_value(config), allow_nan=False)


def test_a_huge_configuration_loses_its_largest_members() -> None:
    kept = values.config_value({"lr": 0.1, "vocabulary": [f"word{n}" for n in range(9_000)]})
    assert kept == {"lr": 0.1}


def test_the_current_trace_is_part_of_the_event() -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    context = trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        event = events.run_state(project="m", run="r", state="finished")
    assert event.to_dict()["traceparent"] == f"00-{0xABC:032x}-{0xDEF:016x}-01"
    assert "traceparent" not in events.run_state(project="m", run="r", state="finished").to_dict()
