"""Places for requests in flight: bounded for each webhook, for the process, and for the slow ones together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.flights import REMEMBERED_SECONDS, Flights


def test_a_webhook_gets_its_share_and_no_more() -> None:
    flights = Flights(total=100, per_webhook=30)
    assert [flights.take(1, 20, slow=False), flights.take(1, 20, slow=False), flights.take(1, 1, slow=False)] == [
        20,
        10,
        0,
    ]
    flights.give_back(1, 5)
    assert flights.take(1, 20, slow=False) == 5


def test_the_process_is_bounded() -> None:
    flights = Flights(total=50, per_webhook=30)
    assert [flights.take(number, 30, slow=False) for number in (1, 2, 3)] == [30, 20, 0]


def test_slow_webhooks_share_half_of_the_places_and_leave_the_rest() -> None:
    flights = Flights(total=100, per_webhook=64)
    assert flights.take(1, 64, slow=True) == 50
    assert flights.take(2, 64, slow=True) == 0
    assert flights.take(3, 64, slow=False) == 50
    flights.give_back(1, 30)
    assert flights.take(1, 64, slow=True) == 5  # its share is 25 now, since 2 has asked
    assert flights.take(2, 64, slow=True) == 25


def test_who_asked_in_vain_keeps_a_share_for_a_while() -> None:
    seconds = [0.0]
    flights = Flights(total=100, per_webhook=64, clock=lambda: seconds[0])
    assert flights.take(1, 64, slow=True) == 50
    assert flights.take(2, 64, slow=True) == 0
    flights.give_back(1, 50)
    assert flights.take(1, 64, slow=True) == 25
    flights.give_back(1, 25)
    seconds[0] = REMEMBERED_SECONDS + 1
    assert flights.take(1, 64, slow=True) == 50


def test_one_that_answers_briskly_again_leaves_the_slow_lane() -> None:
    flights = Flights(total=100, per_webhook=64)
    flights.take(1, 64, slow=True)
    assert flights.take(1, 64, slow=False) == 14


TURNS = st.tuples(st.integers(1, 6), st.integers(0, 40), st.booleans(), st.booleans())


@given(st.lists(TURNS, max_size=60))
def test_bounds_hold_whatever_is_taken_and_given_back(turns: list[tuple[int, int, bool, bool]]) -> None:
    flights, held = Flights(total=60, per_webhook=25), dict.fromkeys(range(1, 7), 0)
    for webhook, count, slow, gives in turns:
        if gives:
            flights.give_back(webhook, min(count, held[webhook]))
            held[webhook] -= min(count, held[webhook])
        else:
            held[webhook] += flights.take(webhook, count, slow=slow)
    assert flights.in_flight() == sum(held.values()) <= 60
    assert max(held.values()) <= 25
    assert flights.by_webhook() == {webhook: count for webhook, count in held.items() if count}
