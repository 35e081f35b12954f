"""What needs no database: values, names, settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from hookline_mlflow.facts import metric_facts, sample_value, state_fact, typed
from hookline_mlflow.settings import Settings
from hookline_mlflow.tags import artifact_id, tag_name

LARGEST = 1.7976931348623157e308


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("0.1", 0.1),
        ("1e-05", 1e-05),
        ("True", True),
        ("False", False),
        # What is written in another way than Python writes it stays text, so that no version becomes a number.
        ("1.50", "1.50"),
        ("007", "007"),
        ("1_000", "1_000"),
        ("1e3", "1e3"),
        ("true", "true"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("None", "None"),
        ("9" * 5000, "9" * 5000),
        ("", ""),
        (None, None),
    ],
)
def test_a_parameter_becomes_what_it_was_made_of(param: str | None, value: Any) -> None:
    assert typed(param) == value and type(typed(param)) is type(value)


def test_what_mlflow_stores_for_numbers_that_databases_do_not_have() -> None:
    assert [sample_value(0, True), sample_value(LARGEST, False), sample_value(-LARGEST, False)] == [
        "NaN",
        "Infinity",
        "-Infinity",
    ]
    assert sample_value(float("inf"), False) == "Infinity" and sample_value(0.5, False) == 0.5


@dataclass
class Sample:
    """As a row of MLflow's table."""

    key: str
    run_uuid: str = "r1"
    value: float = 1.0
    is_nan: bool = False
    step: int = 0
    timestamp: int = 5


def test_facts_hold_at_most_a_thousand_metrics_and_only_names() -> None:
    samples = [Sample(f"m{number}") for number in range(1500)]
    facts = metric_facts([*samples, Sample(" \x00")], "alice")
    assert [len(fact["metrics"]) for fact in facts] == [1000, 500]
    assert len({fact["id"] for fact in facts}) == 2 and {fact["author"] for fact in facts} == {"alice"}


def test_states_that_are_no_events() -> None:
    assert state_fact("r1", "SCHEDULED", 1, "") is None
    assert state_fact("r1", "SOMETHING_NEW", 1, "") is None


def test_tags_and_ids() -> None:
    assert [tag_name("gate", "open"), tag_name("gate", ""), tag_name("gate", None)] == ["gate:open", "gate", "gate"]
    assert len(tag_name("gate", "x" * 5000)) == 512 and tag_name("a", "b\nc") == "a:b c"
    assert artifact_id("llm", 3) == "models:/llm/3"


def test_entities_of_workspaces() -> None:
    settings = Settings(source="/s", entity="acme", entities={"team-b": "beta"})
    found = [settings.entity_of(one) for one in (None, "", "default", "team-a", "team-b")]
    assert found == ["acme", "acme", "acme", "team-a", "beta"]
