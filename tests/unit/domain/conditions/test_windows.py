"""Run states: rising edges, old and non-finite samples, the codec, explanations. Whole series: test_window_series."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest

from shared.domain.conditions.conditions import needed_values, parse_conditions
from shared.domain.conditions.windows import (
    CompiledConditions,
    ConditionTerm,
    Observation,
    Series,
    UnreadableState,
    WindowState,
    compile_conditions,
    explain,
    observe,
)

Raw = dict[str, Any]

ACC: Raw = {"metric": "acc", "op": "$gte", "threshold": 0.5}
LOSS: Raw = {"metric": "loss", "op": "$lt", "threshold": 1}
ACC_OF_3: Raw = ACC | {"aggregate": "AVERAGE", "window": 3}


def compiled(*raw: Raw) -> CompiledConditions:
    return compile_conditions(parse_conditions(list(raw)))


def fired(*raw: Raw, events: list[dict[str, float]]) -> list[bool]:
    """Whether each of the events, at steps 0, 1, 2..., fired."""
    conditions = compiled(*raw)
    state = conditions.new_state()
    return [conditions.observe(state, step, metrics).fired for step, metrics in enumerate(events)]


def through_bytes(state: WindowState) -> WindowState:
    return WindowState.from_bytes(state.to_bytes())


def test_fires_on_the_rising_edge_and_again_only_after_a_fall() -> None:
    events = [{"acc": value} for value in (0.1, 0.5, 0.9, 0.5, 0.4, 0.4, 0.6, 0.6)]
    assert fired(ACC, events=events) == [False, True, False, False, False, False, True, False]


def test_fires_on_the_first_sample_that_satisfies() -> None:
    assert fired(ACC, events=[{"acc": 0.5}]) == [True]


def test_a_window_fires_only_when_full() -> None:
    assert fired(ACC_OF_3, events=[{"acc": 0.9}] * 5) == [False, False, True, False, False]


def test_all_conditions_must_hold_each_with_its_latest_truth() -> None:
    events: list[dict[str, float]] = [
        {"acc": 0.9},
        {"loss": 2.0},
        {"lr": 0.1},
        {"loss": 0.5},
        {"acc": 0.8},
        {"acc": 0.1},
    ]
    assert fired(ACC, LOSS, events=[*events, {"loss": 0.4}, {"acc": 0.7, "loss": 0.3}]) == [
        False,
        False,
        False,
        True,
        False,
        False,
        False,
        True,
    ]


def test_both_metrics_of_one_event_count_before_the_conjunction() -> None:
    assert fired(
        ACC, LOSS, events=[{"acc": 0.1, "loss": 0.5}, {"acc": 0.9, "loss": 5.0}, {"acc": 0.1, "loss": 0.5}]
    ) == [
        False,
        False,
        False,
    ]


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_sample_that_is_not_finite_makes_its_conditions_false_and_stays_out_of_the_window(odd: float) -> None:
    conditions = compiled(ACC_OF_3, LOSS | {"op": "$ne"})
    state = conditions.new_state()
    for step in range(3):
        conditions.observe(state, step, {"acc": 0.9, "loss": 0.5})
    assert state.held == [True, True]
    assert conditions.observe(state, 7, {"acc": odd}).held is False
    assert (state.held, state.series["acc"].last_step) == ([False, True], 7)
    assert state.series["acc"].values == [0.9, 0.9, 0.9]
    assert conditions.observe(state, 7, {"acc": 0.9}).ignored_samples == 1


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_sample_that_is_not_finite_is_no_recovery(odd: float) -> None:
    assert fired(ACC, events=[{"acc": one} for one in (0.9, odd, 0.9, odd, odd, 0.9)]) == [True, *[False] * 5]
    assert fired(ACC, events=[{"acc": one} for one in (0.9, odd, 0.1, odd, 0.9)]) == [True, *[False] * 3, True]
    assert fired(ACC, events=[{"acc": one} for one in (odd, 0.9)]) == [False, True]


def test_another_condition_that_says_no_meanwhile_is_a_recovery() -> None:
    events = [{"acc": 0.9, "loss": 0.5}, {"acc": math.nan}, {"loss": 9.0}, {"loss": 0.5}, {"acc": 0.9}]
    assert fired(ACC, LOSS, events=events) == [True, False, False, False, True]


def test_the_first_sample_that_is_not_finite_fires_and_the_next_after_a_finite_one() -> None:
    odd = {"metric": "loss", "finite": False}
    events = [{"loss": one} for one in (0.5, math.nan, -math.inf, 0.5, math.inf)]
    assert fired(odd, events=events) == [False, True, False, False, True]
    assert fired(odd | {"finite": True}, events=events) == [True, False, False, True, False]
    assert fired(odd, LOSS | {"op": "$gt", "metric": "acc"}, events=[{"loss": math.nan}, {"acc": 9.0}]) == [False, True]
    seen = compiled(odd).observe(compiled(odd).new_state(), 3, {"loss": math.inf})
    assert (seen.metric_name, seen.metric_value, seen.metric_threshold) == ("loss", math.inf, None)


def test_a_first_sample_that_is_not_finite_is_false_not_unknown() -> None:
    conditions = compiled(ACC)
    state = conditions.new_state()
    conditions.observe(state, 0, {"acc": math.nan})
    assert state == WindowState([False], {"acc": Series(0, [], finite=False)}, armed=True)


@pytest.mark.parametrize("step", [5, 4, 0, -1])
def test_old_steps_are_ignored_and_counted_and_change_nothing(step: int) -> None:
    conditions = compiled(ACC, LOSS)
    state = conditions.new_state()
    conditions.observe(state, 5, {"acc": 0.9, "loss": 0.5})
    before = through_bytes(state)
    assert conditions.observe(state, step, {"acc": 0.1, "loss": 9.0, "lr": 1.0}) == Observation(
        fired=False, held=True, ignored_samples=2
    )
    assert state == before


def test_what_fires_says_what_was_compared_and_the_value_before() -> None:
    conditions = compiled({"metric": "loss", "aggregate": "AVERAGE", "window": 2, "op": "$gt", "threshold": 3})
    state = conditions.new_state()
    assert conditions.observe(state, 1, {"loss": 2}).metric_previous is None
    assert conditions.observe(state, 2, {"loss": math.nan}).metric_previous == 2
    fired = conditions.observe(state, 3, {"loss": 5})
    assert (fired.fired, fired.metric_value, fired.metric_previous, fired.metric_aggregate) == (True, 5, 2, 3.5)
    again = conditions.observe(state, 4, {"loss": 6})
    assert (again.fired, again.metric_previous, again.metric_aggregate) == (False, 5, None)


def test_steps_are_counted_per_metric() -> None:
    conditions = compiled(ACC, LOSS)
    state = conditions.new_state()
    conditions.observe(state, 5, {"acc": 0.9})
    assert conditions.observe(state, 5, {"acc": 0.1, "loss": 0.5}) == Observation(
        fired=True,
        held=True,
        ignored_samples=1,
        condition_index=1,
        metric_name="loss",
        metric_value=0.5,
        metric_threshold=1.0,
        metric_previous=None,
        metric_aggregate=0.5,
    )


def test_facts_are_those_of_the_first_condition_whose_metric_is_in_the_event() -> None:
    conditions = compiled(ACC_OF_3, LOSS, ACC)
    state = conditions.new_state()
    seen = conditions.observe(state, 1, {"loss": 0.5, "acc": 0.25})
    assert (seen.condition_index, seen.metric_name, seen.metric_value, seen.metric_threshold) == (0, "acc", 0.25, 0.5)
    seen = conditions.observe(state, 2, {"loss": 0.75})
    assert (seen.condition_index, seen.metric_name, seen.metric_value, seen.metric_threshold) == (1, "loss", 0.75, 1)


def test_metrics_that_are_not_watched_are_neither_stored_nor_counted() -> None:
    conditions = compiled(ACC)
    state = conditions.new_state()
    assert conditions.observe(state, 1, {"lr": 0.1}) == Observation(fired=False, held=False, ignored_samples=0)
    assert conditions.observe(state, 1, {"lr": 0.1}).ignored_samples == 0
    assert state == conditions.new_state()


def test_only_the_values_that_the_largest_window_needs_are_kept() -> None:
    z_score = {"metric": "acc", "zscore": {}, "window": 4}
    conditions = compiled(ACC_OF_3, z_score, ACC, LOSS)
    assert needed_values(conditions.conditions) == {"acc": 5, "loss": 1}
    state = conditions.new_state()
    for step in range(20):
        conditions.observe(state, step, {"acc": float(step), "loss": step})
    assert {name: one.values for name, one in state.series.items()} == {"acc": [15, 16, 17, 18, 19], "loss": [19]}


def test_whole_numbers_are_kept_as_what_the_codec_can_hold() -> None:
    conditions = compiled(ACC)
    state = conditions.new_state()
    conditions.observe(state, 0, {"acc": 2**53 + 1})
    assert state == through_bytes(state)


def test_the_state_of_other_conditions_is_refused() -> None:
    with pytest.raises(ValueError, match="belongs to other conditions"):
        compiled(ACC).observe(compiled(ACC, LOSS).new_state(), 0, {"acc": 1.0})


def test_observing_a_single_event_needs_no_compiling() -> None:
    conditions = parse_conditions([ACC])
    state = compile_conditions(conditions).new_state()
    assert observe(conditions, state, 0, {"acc": 0.5}).fired is True
    assert observe(conditions, state, 1, {"acc": 0.5}).fired is False


@pytest.mark.parametrize(
    "data", [b"", b"\x01", b"\x01\x02\x00\x00\x00{", b"\x01\x02\x00\x00\x00[]", b"\x02" + bytes(8)]
)
def test_bytes_that_are_no_state_are_refused(data: bytes) -> None:
    with pytest.raises(UnreadableState):
        WindowState.from_bytes(data)


def test_a_damaged_state_is_refused_wherever_it_was_cut() -> None:
    data = WindowState([True, None], {"acc": Series(2**63 - 1, [0.1, 2.0]), "näme": Series(0)}, armed=False).to_bytes()
    for length in range(len(data)):
        with pytest.raises(UnreadableState):
            WindowState.from_bytes(data[:length])
    with pytest.raises(UnreadableState):
        WindowState.from_bytes(data + struct.pack("<d", 1))


def test_the_codec_keeps_every_bit_of_a_float() -> None:
    values = [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1 / 3, -1e-17]
    (series,) = through_bytes(WindowState([None], {"acc": Series(-7, values, finite=False)})).series.values()
    assert [value.hex() for value in series.values] == [value.hex() for value in values]
    assert (series.last_step, series.finite) == (-7, False)


@pytest.mark.parametrize(
    ("raw", "values", "term"),
    [
        (ACC, [], (None, None, "no value of acc yet")),
        (ACC, [0.75], (True, 0.75, None)),
        (ACC, [0.25], (False, 0.25, None)),
        (ACC, [0.75, math.nan], (False, None, "the newest value of acc is not a finite number")),
        ({"metric": "acc", "finite": False}, [], (None, None, "no value of acc yet")),
        ({"metric": "acc", "finite": False}, [0.75], (False, None, None)),
        ({"metric": "acc", "finite": False}, [0.75, math.nan], (True, None, None)),
        (ACC | {"aggregate": "MAX"}, [0.75] * 3, (None, None, "window has 3 of 5 values")),
        (
            {"metric": "acc", "change": {"amount": 1}},
            [0, 1],
            (None, None, "the prior value is 0: a relative change cannot be computed"),
        ),
        (
            {"metric": "acc", "zscore": {}, "window": 2},
            [1, 1, 5],
            (None, None, "the values of the window do not vary: their standard deviation is 0"),
        ),
        (
            {"metric": "acc", "change": {"amount": 1, "type": "ABSOLUTE"}},
            [-1e308, 1e308],
            (None, None, "the values are too large to compute with"),
        ),
    ],
)
def test_explain(raw: Raw, values: list[float], term: tuple[bool | None, float | None, str | None]) -> None:
    conditions = compiled(raw, LOSS)
    state = conditions.new_state()
    for step, value in enumerate(values):
        conditions.observe(state, step, {"acc": value})
    assert explain(conditions.conditions, state) == (
        ConditionTerm(conditions.conditions[0].text, *term),
        ConditionTerm("loss $lt 1", None, None, "no value of loss yet"),
    )
