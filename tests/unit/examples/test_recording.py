"""The committed recording is what the demo needs, and the recorder says what it lacks."""

from __future__ import annotations

import importlib.util
import json
import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from examples import record_training
from examples.demo import RECORDING
from examples.record_training import RUNS, Story, Version, run_events
from shared.domain.events.decoding import check_event
from shared.domain.events.types import PUBLISHED_TYPES

if TYPE_CHECKING:
    from examples.digits import Step


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RECORDING.read_text(encoding="utf-8").splitlines()]


def test_is_small_and_has_every_event_type(events: list[dict[str, Any]]) -> None:
    assert 400 <= len(events) <= 700
    assert RECORDING.stat().st_size < 600_000
    assert {event["type"] for event in events} == set(PUBLISHED_TYPES)


def test_every_event_is_accepted(events: list[dict[str, Any]]) -> None:
    for event in events:
        assert check_event(event).id == event["id"]


def test_ids_are_unique_but_for_one_repeated_event(events: list[dict[str, Any]]) -> None:
    counts = Counter((event["source"], event["id"]) for event in events)
    repeated = [key for key, count in counts.items() if count > 1]
    assert len(repeated) == 1
    first, second = (event for event in events if (event["source"], event["id"]) == repeated[0])
    assert first == second
    assert first["data"]["alias"] == "production"


def test_steps_and_times_rise(events: list[dict[str, Any]]) -> None:
    steps = defaultdict(list)
    for event in events:
        if event["type"] == "RUN_METRIC":
            steps[event["data"]["run"]["id"]].append(event["data"]["step"])
    assert [numbers == list(range(len(numbers))) for numbers in steps.values()] == [True] * len(RUNS)
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)


def test_curves_are_those_of_a_good_a_spiking_and_a_diverging_run(events: list[dict[str, Any]]) -> None:
    curves = defaultdict(list)
    for event in events:
        if event["type"] == "RUN_METRIC":
            curves[event["data"]["run"]["name"]].append(event["data"]["metrics"])
    good, spiking, diverging = (curves[plan.name] for plan in RUNS)
    assert good[-1]["val_accuracy"] > 0.95
    spike = max(range(30, len(spiking)), key=lambda step: spiking[step]["val_loss"])
    assert spiking[spike]["val_loss"] > 3 * spiking[spike - 5]["val_loss"]
    assert len(diverging) < len(good)
    assert min(metrics["val_loss"] for metrics in diverging) > 5


def test_each_run_starts_and_ends_once(events: list[dict[str, Any]]) -> None:
    states = defaultdict(list)
    for event in events:
        if event["type"] == "RUN_STATE":
            states[event["data"]["run"]["name"]].append(event["data"]["state"])
    ends = ("finished", "finished", "failed")
    assert dict(states) == {plan.name: ["running", end] for plan, end in zip(RUNS, ends, strict=True)}


def test_a_run_that_stopped_early_is_recorded_as_failed() -> None:
    step = _step(0, train_loss=math.nan, val_loss=7.00000049)
    recorded = [event for event, _ in run_events(RUNS[2], [step], planned_steps=2)]
    assert [event["data"].get("state") for event in recorded] == ["running", None, None, "failed"]
    assert (recorded[2]["type"], recorded[2]["data"]["level"]) == ("RUN_ALERT", "ERROR")
    assert recorded[1]["data"]["metrics"] == {"train_loss": "NaN", "val_loss": 7.0}


def test_a_version_keeps_its_artifact_id_and_shows_its_state() -> None:
    story = Story(record_training.BASE_TIME)
    version = Version("models", 3, aliases=("latest",), tags=("vision",))
    created = story.version_event("CREATE_ARTIFACT", version, author="mira")["data"]
    aliased = story.version_event("ADD_ARTIFACT_ALIAS", version, author="mira", alias="prod")["data"]
    assert created["artifact"] == aliased["artifact"]
    assert created["artifact"]["aliases"] == ["latest", "v3"]
    assert aliased["alias"] == "prod"


def test_without_scikit_learn_the_recorder_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"pip install .*requirements/examples\.txt"):
        record_training.main()


def _step(number: int, **metrics: float) -> Step:
    class Measured:
        pass

    step: Any = Measured()
    step.number, step.metrics, step.recall = number, metrics, {}
    measured: Step = step
    return measured
