"""Slots of a rate limit: never more than the rate in any span, none lost while somebody asks."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.delivery.rate_limit import HORIZON, free_slots, slot_after
from shared.domain.durations import parse_rate

NOW = datetime(2026, 11, 24, tzinfo=UTC)
RATES = st.sampled_from(["1/s", "7/s", "1000/s", "3/min", "60/min", "5/h", "1/d"])


def test_slots_are_an_interval_apart_within_the_horizon() -> None:
    slots = free_slots(parse_rate("4/s"), None, NOW, wanted=100)
    assert [(slot - NOW).total_seconds() for slot in slots] == [0, 0.25, 0.5, 0.75]


def test_a_rate_below_one_a_second_gives_one_at_a_time() -> None:
    rate = parse_rate("2/min")
    (first,) = free_slots(rate, None, NOW, wanted=5)
    later = slot_after(rate, first)
    assert later == NOW + timedelta(seconds=30)
    assert free_slots(rate, later, NOW + timedelta(seconds=28), wanted=5) == []
    assert free_slots(rate, later, NOW + timedelta(seconds=29.5), wanted=5) == [later]


@given(RATES, st.lists(st.tuples(st.floats(0, 2), st.integers(0, 3), st.integers(0, 50)), max_size=40))
def test_workers_whose_clocks_differ_keep_the_rate_together(text: str, turns: list[tuple[float, int, int]]) -> None:
    rate, now, taken = parse_rate(text), NOW, list[datetime]()
    next_slot_at = None
    for passed, behind_seconds, wanted in turns:
        now += timedelta(seconds=passed)
        slots = free_slots(rate, next_slot_at, now - timedelta(seconds=behind_seconds), wanted=wanted)
        if slots:
            taken += slots
            next_slot_at = slot_after(rate, slots[-1])
    interval = rate.period / rate.count
    assert all(later - earlier >= interval for earlier, later in itertools.pairwise(taken))


def test_a_slot_from_a_clock_that_was_ahead_is_passed_over() -> None:
    assert free_slots(parse_rate("1/s"), NOW + timedelta(hours=1), NOW, wanted=1) == [NOW]


@given(RATES, st.lists(st.tuples(st.floats(0, 3), st.integers(0, 50)), max_size=30))
def test_no_two_requests_are_closer_than_the_interval(text: str, turns: list[tuple[float, int]]) -> None:
    rate, now, taken = parse_rate(text), NOW, list[datetime]()
    next_slot_at = None
    for passed, wanted in turns:
        now += timedelta(seconds=passed)
        slots = free_slots(rate, next_slot_at, now, wanted=wanted)
        assert len(slots) <= wanted
        assert all(now <= slot < now + HORIZON for slot in slots)
        if slots:
            taken += slots
            next_slot_at = slot_after(rate, slots[-1])
    interval = rate.period / rate.count
    assert all(later - earlier >= interval for earlier, later in itertools.pairwise(taken))


@given(RATES)
def test_who_asks_each_second_gets_the_whole_rate(text: str) -> None:
    rate, next_slot_at, taken = parse_rate(text), None, 0
    for second in range(120):
        slots = free_slots(rate, next_slot_at, NOW + timedelta(seconds=second), wanted=10_000)
        taken += len(slots)
        next_slot_at = slot_after(rate, slots[-1]) if slots else next_slot_at
    assert taken >= int(120 * rate.count / rate.period.total_seconds())
