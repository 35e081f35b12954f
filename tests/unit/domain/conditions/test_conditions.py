"""Definitions of metric conditions: what is read, what is refused and with which words, and the way back to JSON."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.conditions.conditions import (
    MAX_KEPT_VALUES,
    Aggregate,
    Change,
    ChangeCondition,
    ChangeType,
    Direction,
    Op,
    ThresholdCondition,
    ZScore,
    ZScoreCondition,
    condition_to_json,
    needed_values,
    parse_conditions,
)
from shared.domain.errors import FieldError, InvalidDefinition

Raw = dict[str, Any]

THRESHOLD: Raw = {"metric": "acc", "op": "$gt", "threshold": 0.5}
CHANGE: Raw = {"metric": "loss", "change": {"amount": 0.2}}
Z_SCORE: Raw = {"metric": "grad_norm", "zscore": {}}
WINDOW = "expected a whole number from 1 to 1000"
FINITE = "expected a finite number"
POSITIVE = "expected a finite number above 0"
METRIC = "expected a metric name of 1 to 512 characters without control characters"
KINDS = "expected an object of exactly one kind: with op and threshold, with change, with zscore, or with finite"


def with_change(**keys: object) -> Raw:
    return CHANGE | {"change": {"amount": 0.2} | keys}


def refusal(raw: object) -> tuple[FieldError, ...]:
    with pytest.raises(InvalidDefinition) as caught:
        parse_conditions(raw)
    return caught.value.errors


def test_the_example_of_the_contract_is_read_whole() -> None:
    assert parse_conditions(
        [
            {"metric": "val_accuracy", "aggregate": "AVERAGE", "window": 5, "op": "$gt", "threshold": 0.95},
            {
                "metric": "val_loss",
                "change": {"type": "RELATIVE", "direction": "DECREASE", "amount": 0.2},
                "aggregate": "AVERAGE",
                "window": 5,
                "prior_window": 5,
            },
            {"metric": "grad_norm", "zscore": {"direction": "ANY", "threshold": 3}, "window": 30},
        ]
    ) == (
        ThresholdCondition(metric="val_accuracy", aggregate=Aggregate.AVERAGE, window=5, op=Op.GT, threshold=0.95),
        ChangeCondition(
            metric="val_loss",
            change=Change(type=ChangeType.RELATIVE, direction=Direction.DECREASE, amount=0.2),
            aggregate=Aggregate.AVERAGE,
            window=5,
            prior_window=5,
        ),
        ZScoreCondition(metric="grad_norm", zscore=ZScore(direction=Direction.ANY, threshold=3), window=30),
    )


@pytest.mark.parametrize(
    ("raw", "written"),
    [
        (THRESHOLD, THRESHOLD),
        (THRESHOLD | {"aggregate": "MAX"}, THRESHOLD | {"aggregate": "MAX", "window": 5}),
        (CHANGE, with_change(type="RELATIVE", direction="ANY")),
        (
            CHANGE | {"aggregate": "MIN"},
            with_change(type="RELATIVE", direction="ANY") | {"aggregate": "MIN", "window": 10, "prior_window": 50},
        ),
        (Z_SCORE, Z_SCORE | {"zscore": {"direction": "ANY", "threshold": 3.0}, "window": 30}),
        # A window without an aggregate means nothing and is not written back.
        (THRESHOLD | {"window": 7}, THRESHOLD),
        (CHANGE | {"window": 7, "prior_window": 9}, with_change(type="RELATIVE", direction="ANY")),
        (THRESHOLD | {"aggregate": None}, THRESHOLD),
        # Words are read in any case.
        (
            THRESHOLD | {"op": "$GTE", "aggregate": "average"},
            THRESHOLD | {"op": "$gte", "aggregate": "AVERAGE", "window": 5},
        ),
        (with_change(type="absolute", direction="Increase"), with_change(type="ABSOLUTE", direction="INCREASE")),
        # Whole numbers are numbers.
        (THRESHOLD | {"threshold": 3}, THRESHOLD | {"threshold": 3.0}),
    ],
)
def test_defaults_and_normal_form(raw: Raw, written: Raw) -> None:
    (condition,) = parse_conditions([raw])
    assert condition_to_json(condition) == written


@pytest.mark.parametrize(
    ("raw", "needed"),
    [
        (THRESHOLD, 1),
        (THRESHOLD | {"window": 9}, 1),
        (THRESHOLD | {"window": 9, "aggregate": "MAX"}, 9),
        (CHANGE, 2),
        (CHANGE | {"window": 9, "prior_window": 9}, 2),
        (CHANGE | {"aggregate": "MAX"}, 60),
        (CHANGE | {"aggregate": "MAX", "window": 1000, "prior_window": 1000}, 2000),
        (Z_SCORE, 31),
        (Z_SCORE | {"window": 2}, 3),
    ],
)
def test_needed_values(raw: Raw, needed: int) -> None:
    (condition,) = parse_conditions([raw])
    assert condition.needed_values == needed


@pytest.mark.parametrize(
    ("raw", "text", "threshold"),
    [
        (THRESHOLD, "acc $gt 0.5", 0.5),
        (
            {"metric": "val_accuracy", "aggregate": "AVERAGE", "op": "$gt", "threshold": 0.95},
            "AVERAGE of val_accuracy over 5 $gt 0.95",
            0.95,
        ),
        (THRESHOLD | {"threshold": -3}, "acc $gt -3", -3),
        (CHANGE, "loss moves by at least 0.2 (RELATIVE) against the value before", 0.2),
        (
            with_change(type="ABSOLUTE", direction="DECREASE") | {"aggregate": "MIN", "prior_window": 4},
            "MIN of loss over 10 falls by at least 0.2 (ABSOLUTE) against the 4 values before",
            0.2,
        ),
        (
            Z_SCORE | {"zscore": {"direction": "INCREASE"}},
            "grad_norm rises by at least 3 standard deviations from the mean of the 30 values before",
            3,
        ),
    ],
)
def test_text_and_reported_threshold(raw: Raw, text: str, threshold: float) -> None:
    (condition,) = parse_conditions([raw])
    assert (condition.text, condition.reported_threshold) == (text, threshold)


@pytest.mark.parametrize(
    ("raw", "loc", "msg"),
    [
        (THRESHOLD | {"window": 0}, ("window",), WINDOW),
        (THRESHOLD | {"window": 1001}, ("window",), WINDOW),
        (THRESHOLD | {"window": True}, ("window",), WINDOW),
        (THRESHOLD | {"window": "5"}, ("window",), WINDOW),
        (THRESHOLD | {"window": 5.0}, ("window",), WINDOW),
        (THRESHOLD | {"window": None}, ("window",), WINDOW),
        (CHANGE | {"prior_window": 0}, ("prior_window",), WINDOW),
        (Z_SCORE | {"window": 1}, ("window",), "expected a whole number from 2 to 1000"),
        (THRESHOLD | {"threshold": math.nan}, ("threshold",), FINITE),
        (THRESHOLD | {"threshold": -math.inf}, ("threshold",), FINITE),
        (THRESHOLD | {"threshold": 10**400}, ("threshold",), FINITE),
        (THRESHOLD | {"threshold": True}, ("threshold",), FINITE),
        (THRESHOLD | {"threshold": "0.5"}, ("threshold",), FINITE),
        (THRESHOLD | {"threshold": None}, ("threshold",), FINITE),
        (with_change(amount=0), ("change", "amount"), POSITIVE),
        (with_change(amount=-0.1), ("change", "amount"), POSITIVE),
        (with_change(amount=math.inf), ("change", "amount"), POSITIVE),
        (with_change(amount=False), ("change", "amount"), POSITIVE),
        (Z_SCORE | {"zscore": {"threshold": 0}}, ("zscore", "threshold"), POSITIVE),
        (Z_SCORE | {"zscore": {"threshold": "3"}}, ("zscore", "threshold"), POSITIVE),
        (THRESHOLD | {"op": "$in"}, ("op",), "expected one of $gt $gte $lt $lte $eq $ne"),
        (THRESHOLD | {"op": 1}, ("op",), "expected one of $gt $gte $lt $lte $eq $ne"),
        (
            THRESHOLD | {"aggregate": "MEDIAN"},
            ("aggregate",),
            "expected one of MAX, MIN, AVERAGE, or nothing for single values",
        ),
        (with_change(direction="UP"), ("change", "direction"), "expected one of INCREASE, DECREASE, ANY"),
        (with_change(type="PERCENT"), ("change", "type"), "expected one of ABSOLUTE, RELATIVE"),
        (THRESHOLD | {"metric": ""}, ("metric",), METRIC),
        (THRESHOLD | {"metric": "m" * 513}, ("metric",), METRIC),
        (THRESHOLD | {"metric": b"acc"}, ("metric",), METRIC),
        (THRESHOLD | {"metric": "a\0"}, ("metric",), METRIC),
        (THRESHOLD | {"metric": "\ud800"}, ("metric",), METRIC),
        ({"op": "$gt", "threshold": 1}, ("metric",), f"required, {METRIC}"),
        ({"metric": "acc", "op": "$gt"}, ("threshold",), f"required, {FINITE}"),
        ({"metric": "acc", "change": {}}, ("change", "amount"), f"required, {POSITIVE}"),
        (CHANGE | {"change": None}, ("change",), "expected an object with amount, and optionally type and direction"),
        (Z_SCORE | {"zscore": 3}, ("zscore",), "expected an object with, optionally, direction and threshold"),
        (
            THRESHOLD | {"prior_window": 3},
            ("prior_window",),
            "unknown field, expected only metric, aggregate, window, op, threshold",
        ),
        (with_change(by=1), ("change", "by"), "unknown field, expected only type, direction, amount"),
        (Z_SCORE | {"aggregate": "MAX"}, ("aggregate",), "unknown field, expected only metric, zscore, window"),
        (THRESHOLD | CHANGE, (), KINDS),
        (CHANGE | Z_SCORE, (), KINDS),
        ({"metric": "acc"}, (), KINDS),
        ("acc > 0.5", (), KINDS),
        (None, (), KINDS),
    ],
)
def test_one_fault_names_its_field_and_what_is_accepted(raw: object, loc: tuple[str, ...], msg: str) -> None:
    assert refusal([THRESHOLD, raw]) == (FieldError((1, *loc), msg),)


def test_all_faults_of_all_conditions_are_reported_together() -> None:
    faults = refusal([THRESHOLD | {"window": 0, "threshold": "x"}, Z_SCORE, {"metric": "acc"}])
    assert faults == (
        FieldError((0, "window"), WINDOW),
        FieldError((0, "threshold"), FINITE),
        FieldError((2,), KINDS),
    )


@pytest.mark.parametrize("raw", [None, {}, THRESHOLD, "x", [], [THRESHOLD] * 21], ids=repr)
def test_only_a_list_of_1_to_20_is_taken(raw: object) -> None:
    assert refusal(raw) == (FieldError((), "expected a list of 1 to 20 conditions"),)


def test_20_conditions_are_taken() -> None:
    assert len(parse_conditions([THRESHOLD] * 20)) == 20


@pytest.mark.parametrize("size", [1, 512])
def test_shortest_and_longest_metric_name(size: int) -> None:
    assert parse_conditions([THRESHOLD | {"metric": "é" * size}])[0].metric == "é" * size


def any_case(words: type[Aggregate | Op | ChangeType | Direction]) -> st.SearchStrategy[str]:
    def cased(word: str, case: Callable[[str], str]) -> str:
        return case(word)

    return st.builds(
        cased, st.sampled_from([word.value for word in words]), st.sampled_from([str.lower, str.upper, str.title])
    )


finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
windows = st.integers(1, 1000)
metrics = st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"]), min_size=1)
aggregates = {"aggregate": st.none() | any_case(Aggregate), "window": windows}
definitions = st.one_of(
    st.fixed_dictionaries({"metric": metrics, "op": any_case(Op), "threshold": finite}, optional=aggregates),
    st.fixed_dictionaries(
        {
            "metric": metrics,
            "change": st.fixed_dictionaries(
                {"amount": positive}, optional={"type": any_case(ChangeType), "direction": any_case(Direction)}
            ),
        },
        optional=aggregates | {"prior_window": windows},
    ),
    st.fixed_dictionaries(
        {
            "metric": metrics,
            "zscore": st.fixed_dictionaries({}, optional={"threshold": positive, "direction": any_case(Direction)}),
        },
        optional={"window": st.integers(2, 1000)},
    ),
)


def are_within_bounds(raw: list[Raw]) -> bool:
    return sum(needed_values(parse_conditions([one])[0] for one in raw).values()) <= MAX_KEPT_VALUES


@settings(max_examples=100)
@given(st.lists(definitions, min_size=1, max_size=20).filter(are_within_bounds))
def test_conditions_survive_json(raw: list[Raw]) -> None:
    conditions = parse_conditions(raw)
    written = orjson.dumps([condition_to_json(condition) for condition in conditions])
    assert parse_conditions(orjson.loads(written)) == conditions
