"""Cooldowns and rate limits: what they hold back, also when events come a little out of order."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.durations import Rate
from shared.domain.matching.throttling import FiringState, after_firing, cooldown_refusal, rate_refusal

HOUR = timedelta(hours=1)
HOUR_MS = 3_600_000
MINUTE_MS = 60_000


@pytest.mark.parametrize(
    ("last", "now", "refusal"),
    [
        (None, 0, None),
        (0, 0, "cooldown"),
        (0, HOUR_MS - 1, "cooldown"),
        (0, HOUR_MS, None),
        (0, HOUR_MS + 1, None),
        # Another partition's event can be older than the last firing.
        (HOUR_MS, 0, "cooldown"),
        (10 * HOUR_MS, 0, "cooldown"),
    ],
)
def test_a_cooldown_holds_back_until_its_period_is_over(last: int | None, now: int, refusal: str | None) -> None:
    assert cooldown_refusal(FiringState(last), HOUR, now) == refusal


def test_a_cooldown_of_no_length_holds_nothing_back() -> None:
    assert cooldown_refusal(FiringState(5), timedelta(), 5) is None


def test_a_cooldown_counts_in_milliseconds() -> None:
    assert cooldown_refusal(FiringState(0), timedelta(milliseconds=3), 2) == "cooldown"
    assert cooldown_refusal(FiringState(0), timedelta(milliseconds=3), 3) is None


def test_the_last_firing_never_moves_back() -> None:
    state = FiringState()
    for now in (5, 9, 7):
        state = after_firing(state, None, now)
    assert state == FiringState(9, ())


@pytest.mark.parametrize(
    ("recent", "now", "refusal"),
    [
        ((), 0, None),
        ((0,), 0, None),
        ((0, 0), 0, "rate_limit"),
        ((0, 10), MINUTE_MS - 1, "rate_limit"),
        ((0, 10), MINUTE_MS, None),
        ((0, 0), MINUTE_MS, None),
        ((5, 10), MINUTE_MS, "rate_limit"),
        ((MINUTE_MS, MINUTE_MS), 0, "rate_limit"),
    ],
)
def test_a_rate_limit_counts_the_firings_of_the_last_period(
    recent: tuple[int, ...], now: int, refusal: str | None
) -> None:
    assert rate_refusal(FiringState(None, recent), Rate(2, timedelta(minutes=1)), now) == refusal


def test_no_more_firings_are_remembered_than_the_rate_counts() -> None:
    state, rate = FiringState(), Rate(3, timedelta(seconds=1))
    for now in (1, 9, 4, 7, 5):
        state = after_firing(state, rate, now)
    assert state == FiringState(9, (5, 7, 9))


def test_a_lower_rate_counts_on_with_what_is_remembered() -> None:
    state = FiringState()
    for now in range(5):
        state = after_firing(state, Rate(5, HOUR), now)
    assert rate_refusal(state, Rate(2, HOUR), 10) == "rate_limit"


steps = st.lists(st.integers(-400, 1500), min_size=1, max_size=60)
rates = st.builds(Rate, st.integers(1, 5), st.integers(1, 5000).map(lambda ms: timedelta(milliseconds=ms)))


def fired(times: list[int], rate: Rate) -> list[int]:
    state, let_through = FiringState(), []
    for now in times:
        if rate_refusal(state, rate, now) is None:
            state = after_firing(state, rate, now)
            let_through.append(now)
        # What is stored between two events says the same.
        state = FiringState(state.last_fired_ms, FiringState.recent_from_bytes(state.to_bytes()))
    return let_through


def times_of(first: int, differences: list[int]) -> list[int]:
    times = [first]
    for difference in differences:
        times.append(times[-1] + difference)
    return times


@settings(max_examples=200)
@given(steps, rates)
def test_no_span_of_the_period_holds_more_firings_than_the_rate_even_when_times_run_back(
    differences: list[int], rate: Rate
) -> None:
    let_through = sorted(fired(times_of(1_700_000_000_000, differences), rate))
    period_ms = rate.period / timedelta(milliseconds=1)
    for start in let_through:
        assert sum(start <= one < start + period_ms for one in let_through) <= rate.count


@settings(max_examples=200)
@given(st.lists(st.integers(0, 1500), min_size=1, max_size=60), rates)
def test_in_order_a_firing_is_held_back_only_when_the_period_before_is_full(differences: list[int], rate: Rate) -> None:
    times = times_of(0, differences)
    period_ms = rate.period / timedelta(milliseconds=1)
    expected: list[int] = []
    for now in times:
        if sum(one > now - period_ms for one in expected) < rate.count:
            expected.append(now)
    assert fired(times, rate) == expected


@settings(max_examples=200)
@given(steps, st.integers(0, 3000))
def test_two_firings_are_never_closer_than_the_cooldown(differences: list[int], period_ms: int) -> None:
    state, let_through = FiringState(), []
    for now in times_of(0, differences):
        if cooldown_refusal(state, timedelta(milliseconds=period_ms), now) is None:
            state = after_firing(state, None, now)
            let_through.append(now)
    assert all(later - earlier >= period_ms for earlier, later in pairwise(let_through))
    assert let_through


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20).map(tuple))
def test_recent_firings_are_read_back_as_they_were(recent: tuple[int, ...]) -> None:
    assert FiringState.recent_from_bytes(FiringState(None, recent).to_bytes()) == recent


def test_the_stored_form_is_the_same_on_every_machine() -> None:
    assert FiringState(None, (1, -2)).to_bytes() == b"\x01" + b"\0" * 7 + b"\xfe" + b"\xff" * 7
    assert FiringState().to_bytes() == b""
