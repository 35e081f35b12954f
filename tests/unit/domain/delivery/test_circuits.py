"""A circuit opens after failures in a row, tries one request at a time, and closes when something answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.delivery.circuits import (
    Circuit,
    CircuitSignal,
    CircuitState,
    apply_signals,
    failure_streak_of,
    is_responsive,
    is_slow,
)
from shared.domain.delivery.outcomes import Outcome, OutcomeKind
from shared.domain.delivery.retries import DeliveryPolicy

NOW = datetime(2026, 11, 24, tzinfo=UTC)
POLICY = DeliveryPolicy(circuit_failures=3, circuit_cool_off_seconds=10, circuit_cool_off_cap_seconds=35)


def _at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def _took(*durations_seconds: float) -> list[Outcome]:
    return [Outcome(kind=OutcomeKind.SUCCESS, duration_seconds=one, status=200) for one in durations_seconds]


def _fails(count: int, *, probe: bool = False) -> list[CircuitSignal]:
    return [CircuitSignal(responsive=False, probe=probe)] * count


def test_failures_in_a_row_open_it() -> None:
    almost = apply_signals(Circuit(), POLICY, _fails(2), _at(1))
    assert (almost.failures, almost.state(_at(1))) == (2, CircuitState.CLOSED)
    opened = apply_signals(almost, POLICY, _fails(1), _at(2))
    assert opened.state(_at(11.9)) is CircuitState.OPEN
    assert opened.state(_at(12)) is CircuitState.HALF_OPEN


def test_an_answer_between_failures_starts_the_count_anew() -> None:
    answers = [*_fails(2), CircuitSignal(responsive=True), *_fails(2)]
    circuit = apply_signals(Circuit(), POLICY, answers, _at(1))
    assert (circuit.failures, circuit.opened_at) == (2, None)


def test_each_failed_probe_doubles_the_cool_off_up_to_its_cap() -> None:
    circuit, at, waits = Circuit(), 0.0, []
    circuit = apply_signals(circuit, POLICY, _fails(3), _at(at))
    for _ in range(4):
        assert circuit.probe_at is not None
        waits.append((circuit.probe_at - _at(at)).total_seconds())
        at = (circuit.probe_at - NOW).total_seconds()
        circuit = apply_signals(circuit, POLICY, _fails(1, probe=True), _at(at))
    assert waits == [10, 20, 35, 35]


def test_requests_that_were_underway_when_it_opened_say_nothing_new() -> None:
    opened = apply_signals(Circuit(), POLICY, _fails(3), _at(5))
    later = apply_signals(opened, POLICY, _fails(40), _at(9))
    assert (later.probe_at, later.openings, later.failures) == (opened.probe_at, 1, 43)


def test_an_answer_closes_it_and_forgets_everything() -> None:
    opened = apply_signals(Circuit(), POLICY, _fails(9), _at(0))
    assert apply_signals(opened, POLICY, [CircuitSignal(responsive=True, probe=True)], _at(61)) == Circuit()


def test_what_never_left_neither_counts_nor_closes_it() -> None:
    unknown = CircuitSignal(responsive=None)
    almost = apply_signals(Circuit(), POLICY, [*_fails(2), unknown], _at(1))
    assert almost.failures == 2
    opened = apply_signals(almost, POLICY, [unknown, *_fails(1)], _at(2))
    assert apply_signals(opened, POLICY, [unknown], _at(3)) == opened


def test_a_probe_that_never_left_makes_room_for_another() -> None:
    opened = apply_signals(Circuit(), POLICY, _fails(3), _at(0))
    underway = replace(opened, probe_at=_at(60))
    after = apply_signals(underway, POLICY, [CircuitSignal(responsive=None, probe=True)], _at(15))
    assert (after.state(_at(15)), after.openings) == (CircuitState.HALF_OPEN, 1)


def test_a_limit_of_0_never_opens() -> None:
    circuit = apply_signals(Circuit(), DeliveryPolicy(circuit_failures=0), _fails(5000), _at(0))
    assert circuit.state(_at(0)) is CircuitState.CLOSED


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        (OutcomeKind.SUCCESS, 204, True),
        (OutcomeKind.REDIRECTION, 302, True),
        (OutcomeKind.CLIENT_ERROR, 400, True),
        (OutcomeKind.CLIENT_ERROR, 429, False),
        (OutcomeKind.UNSUCCESSFUL, 200, True),
        (OutcomeKind.SERVER_ERROR, 503, False),
        (OutcomeKind.TIMEOUT, None, False),
        (OutcomeKind.NETWORK, None, False),
        (OutcomeKind.BLOCKED, None, None),
    ],
)
def test_what_shows_an_endpoint_at_work(kind: OutcomeKind, status: int | None, expected: bool | None) -> None:
    assert is_responsive(Outcome(kind=kind, status=status, duration_seconds=0)) is expected


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 5))
def test_it_is_open_exactly_when_the_limit_was_reached_since_the_last_answer(answers: list[bool], limit: int) -> None:
    policy = DeliveryPolicy(circuit_failures=limit)
    circuit = apply_signals(Circuit(), policy, [CircuitSignal(responsive=one) for one in answers], _at(1))
    in_a_row = 0
    for one in answers:
        in_a_row = 0 if one else in_a_row + 1
    assert circuit.failures == in_a_row
    assert (circuit.opened_at is not None) == (0 < limit <= in_a_row)


def test_slow_is_who_takes_a_second_for_half_of_its_answers() -> None:
    for before in (True, False):
        assert is_slow(_took(1.0, 0.1), before=before)
        assert not is_slow(_took(1.0, 0.1, 0.1), before=before)


@pytest.mark.parametrize("kind", [OutcomeKind.INTERNAL, OutcomeKind.BLOCKED])
def test_what_never_reached_the_endpoint_moves_neither_circuit_nor_lane(kind: OutcomeKind) -> None:
    unsent = Outcome(kind=kind, duration_seconds=0.0)
    for before in (True, False):
        assert is_slow([unsent], before=before) is before
    assert is_slow([*_took(1.0), unsent, unsent], before=False)
    failing = apply_signals(Circuit(), POLICY, _fails(2), _at(1))
    assert apply_signals(failing, POLICY, [CircuitSignal(is_responsive(unsent))] * 9, _at(2)) == failing


@given(
    st.lists(st.builds(CircuitSignal, responsive=st.sampled_from([True, False, False, None])), max_size=12),
    st.integers(0, 6),
    st.integers(0, 6),
)
def test_what_answers_make_of_a_closed_circuit_needs_no_look_at_its_failures(
    answers: list[CircuitSignal], failures: int, limit: int
) -> None:
    policy = POLICY.model_copy(update={"circuit_failures": limit})
    after = apply_signals(Circuit(failures=failures), policy, answers, NOW)
    run = failure_streak_of(policy, answers)
    if run is not None and (limit == 0 or failures + run.added < limit):
        assert after == Circuit(failures=failures + run.added if run.since is None else run.since)
    elif failures < limit:
        opened = [apply_signals(Circuit(failures=failures), policy, answers[:end], NOW) for end in range(13)]
        assert any(one.opened_at is not None for one in opened)
