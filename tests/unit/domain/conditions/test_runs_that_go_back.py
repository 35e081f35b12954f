"""Runs that start again and go back to an earlier step, and runs whose samples have no step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.conditions.conditions import parse_conditions
from shared.domain.conditions.run_starts import MAX_REMEMBERED, NO_START, RunStarts, event_token, is_start
from shared.domain.conditions.windows import (
    MAX_REMEMBERED as MAX_UNSTEPPED,
)
from shared.domain.conditions.windows import (
    CompiledConditions,
    Observation,
    UnreadableState,
    WindowState,
    compile_conditions,
)
from shared.domain.events.decoding import check_event
from tests.unit.domain.samples import event

ABOVE = {"metric": "loss", "op": "$gt", "threshold": 5}
ALL_OF_3 = {"metric": "loss", "op": "$gt", "threshold": 5, "aggregate": "MIN", "window": 3}


@dataclass
class Run:
    """One run, as an automation sees it; its state goes through the codec after each event."""

    conditions: CompiledConditions
    state: WindowState = field(init=False)
    start: int = NO_START
    _events: int = 0

    def __post_init__(self) -> None:
        self.state = self.conditions.new_state()

    def log(self, step: int | None, again: int | None = None, /, **metrics: float) -> Observation:
        """One event, or a repeat of the one with this number."""
        self._events += again is None
        token = self._events if again is None else again
        seen = self.conditions.observe(self.state, step, metrics, token=token, start=self.start)
        self.state = WindowState.from_bytes(self.state.to_bytes())
        return seen


def run(*conditions: dict[str, Any]) -> Run:
    return Run(compile_conditions(parse_conditions(list(conditions))))


def test_after_a_start_lower_steps_are_watched_again() -> None:
    one = run(ABOVE)
    assert [one.log(step, loss=1).fired for step in (10, 20, 100)] == [False] * 3
    assert one.log(60, loss=99).ignored_samples == 1
    one.start = 7
    seen = [one.log(step, loss=99) for step in (60, 70, 80, 90)]
    assert [each.fired for each in seen] == [True, False, False, False]
    assert [each.began_anew for each in seen] == [True, False, False, False]
    assert one.log(60, loss=1).ignored_samples == 1


def test_windows_begin_empty_after_going_back_and_go_on_where_the_run_does() -> None:
    back, onward = run(ALL_OF_3), run(ALL_OF_3)
    for one in (back, onward):
        one.log(1, loss=9)
        one.log(2, loss=9)
        one.start = 1
    assert [back.log(step, loss=9).fired for step in (2, 3, 4)] == [False, False, True]
    assert onward.log(3, loss=9).fired
    assert onward.log(2, loss=9).ignored_samples == 1, "what went on may not go back until the next start"


def test_what_held_before_may_become_true_again() -> None:
    one = run(ABOVE)
    assert one.log(5, loss=9).fired
    one.start = 1
    assert one.log(3, loss=9).fired
    one.start = 2
    assert not one.log(4, loss=9).fired


def test_all_metrics_of_an_automation_begin_anew_together() -> None:
    one = run(ABOVE, {"metric": "acc", "op": "$lt", "threshold": 1})
    one.log(5, loss=9, acc=0.5)
    one.start = 1
    assert not one.log(4, loss=9).held
    assert one.log(4, acc=0.5).fired


def test_samples_without_a_step_are_taken_in_order_and_once() -> None:
    one = run(ALL_OF_3)
    assert [one.log(None, loss=9).fired for _ in range(3)] == [False, False, True]
    for number in (1, 2, 3):
        again = one.log(None, number, loss=0)
        assert (again.ignored_samples, again.held, again.condition_index) == (1, True, None)
    assert one.log(None, loss=0).held is False
    assert one.log(0, loss=9).ignored_samples == 0, "a first step is after none"


def test_step_0_again_and_again_is_no_step() -> None:
    one = run(ALL_OF_3)
    assert [one.log(0, loss=9).fired for _ in range(3)] == [False, False, True]
    assert one.log(0, 2, loss=0).ignored_samples == 1
    assert one.log(4, loss=9).ignored_samples == 0
    assert one.log(0, loss=0).ignored_samples == 1, "the run has steps"


def test_as_many_events_are_known_again_as_a_batch_has() -> None:
    one = run(ABOVE)
    for _ in range(MAX_UNSTEPPED + 1):
        one.log(None, loss=1)
    assert one.log(None, 2, loss=1).ignored_samples == 1
    assert one.log(None, 1, loss=1).ignored_samples == 0
    assert len(one.state.unstepped) == MAX_UNSTEPPED


def test_a_state_with_tokens_is_refused_wherever_it_was_cut() -> None:
    one = run(ABOVE)
    one.start = 2**32 - 1
    one.log(None, loss=1)
    data = one.state.to_bytes()
    for length in range(len(data)):
        with pytest.raises(UnreadableState):
            WindowState.from_bytes(data[:length])


_LOGGED = st.tuples(
    st.none() | st.integers(0, 4),
    st.dictionaries(st.sampled_from(["loss", "acc"]), st.sampled_from([1.0, 9.0]), min_size=1),
    st.sampled_from([0, 0, 0, 1]),
)


@given(st.lists(_LOGGED, max_size=30), st.data())
def test_publishing_again_changes_nothing(events: list[tuple[int | None, dict[str, float], int]], data: Any) -> None:
    """A repeat comes after the start that its event came after: a producer repeats what it just published."""
    one = run(ABOVE, {"metric": "acc", "op": "$gt", "threshold": 5})
    since = 1
    for number, (step, metrics, starts) in enumerate(events, 1):
        if starts:
            one.start, since = one.start + 1, number
        one.log(step, **metrics)
        before = one.state.copy()
        for again in data.draw(st.lists(st.integers(since, number), max_size=3)):
            old_step, old_metrics, _ = events[again - 1]
            assert not one.log(old_step, again, **old_metrics).fired
            assert one.state == before


def test_a_start_is_a_running_event_and_a_repeat_is_none() -> None:
    running = check_event(event("RUN_STATE", state="running"))
    assert is_start(running)
    assert not is_start(check_event(event("RUN_STATE", state="finished")))
    assert not is_start(check_event(event("RUN_METRIC")))
    starts = RunStarts().after(running)
    assert starts.last == event_token(running) != NO_START
    assert starts.after(running) is starts
    for number in range(MAX_REMEMBERED + 5):
        starts = starts.after(check_event(event("RUN_STATE", state="running") | {"id": f"start-{number}"}))
    assert len(starts.tokens) == MAX_REMEMBERED
    assert RunStarts.from_bytes(starts.to_bytes()) == starts
    assert RunStarts().last == NO_START
    with pytest.raises(UnreadableState):
        RunStarts.from_bytes(b"\0\0\0")
