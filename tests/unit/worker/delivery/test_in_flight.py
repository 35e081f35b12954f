"""Requests in flight are bounded for each webhook, for the process, and for the slow webhooks together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.delivery.in_flight import PREFETCH_FACTOR, WAITER_TTL_SECONDS, InFlightLimiter, SlotRequest


class Admitted(dict[int, bool]):
    """The webhooks that were told that they have capacity."""

    def told(self) -> dict[int, bool]:
        """Those since the last question."""
        told = dict(self)
        self.clear()
        return told


def _takes_all(limiter: InFlightLimiter, webhook_id: int, wanted: int, *, slow: bool, prefetch: bool = False) -> bool:
    return bool(limiter.acquire_whole([SlotRequest(webhook_id, wanted, slow, prefetch)]))


def test_a_webhook_gets_its_share_and_no_more() -> None:
    limiter = InFlightLimiter(total=100, per_webhook=30)
    assert [
        limiter.acquire(1, 20, slow=False),
        limiter.acquire(1, 20, slow=False),
        limiter.acquire(1, 1, slow=False),
    ] == [
        20,
        10,
        0,
    ]
    limiter.release(1, 5)
    assert limiter.acquire(1, 20, slow=False) == 5


def test_the_process_is_bounded() -> None:
    limiter = InFlightLimiter(total=50, per_webhook=30)
    assert [limiter.acquire(number, 30, slow=False) for number in (1, 2, 3)] == [30, 20, 0]


def test_slow_webhooks_share_half_of_the_places_and_leave_the_rest() -> None:
    limiter = InFlightLimiter(total=100, per_webhook=64)
    assert limiter.acquire(1, 64, slow=True) == 50
    assert limiter.acquire(2, 64, slow=True) == 0
    assert limiter.acquire(3, 64, slow=False) == 50
    limiter.release(1, 30)
    assert limiter.acquire(1, 64, slow=True) == 5  # its share is 25 now, since 2 has asked
    assert limiter.acquire(2, 64, slow=True) == 25


def test_who_asked_in_vain_keeps_a_share_for_a_while() -> None:
    seconds = [0.0]
    limiter = InFlightLimiter(total=100, per_webhook=64, clock=lambda: seconds[0])
    assert limiter.acquire(1, 64, slow=True) == 50
    assert limiter.acquire(2, 64, slow=True) == 0
    limiter.release(1, 50)
    assert limiter.acquire(1, 64, slow=True) == 25
    limiter.release(1, 25)
    seconds[0] = WAITER_TTL_SECONDS + 1
    assert limiter.acquire(1, 64, slow=True) == 50


def test_one_that_answers_briskly_again_leaves_the_slow_lane() -> None:
    limiter = InFlightLimiter(total=100, per_webhook=64)
    limiter.acquire(1, 64, slow=True)
    assert limiter.acquire(1, 64, slow=False) == 14


TURNS = st.tuples(st.integers(1, 6), st.integers(0, 40), st.booleans(), st.booleans(), st.booleans())


@given(st.lists(TURNS, max_size=60))
def test_bounds_hold_whatever_is_taken_and_given_back(turns: list[tuple[int, int, bool, bool, bool]]) -> None:
    limiter, held = InFlightLimiter(total=60, per_webhook=25), dict.fromkeys(range(1, 7), 0)
    for webhook, count, slow, ahead, gives in turns:
        flying = sum(min(25, others) for others in held.values())
        if gives:
            limiter.release(webhook, min(count, held[webhook]))
            held[webhook] -= min(count, held[webhook])
        else:
            taken = limiter.acquire(webhook, count, slow=slow, prefetch=ahead)
            held[webhook] += taken
            assert ahead or not taken or (flying + taken <= 60 and held[webhook] <= 25)
            # What others have claimed ahead keeps nobody from a place.
            assert taken or not count or slow or ahead or flying >= 60 or held[webhook] >= 25
    assert limiter.in_flight() == sum(held.values()) <= 60 * PREFETCH_FACTOR
    assert max(held.values()) <= 25 * PREFETCH_FACTOR
    assert limiter.by_webhook() == {webhook: count for webhook, count in held.items() if count}


def test_ahead_there_is_more_but_not_for_slow_ones() -> None:
    shown: dict[int, int] = {}
    limiter = InFlightLimiter(
        total=100, per_webhook=30, on_change=lambda webhook, count, _slow: shown.update({webhook: count})
    )
    assert limiter.acquire(1, 1000, slow=False, prefetch=True) == 30 * PREFETCH_FACTOR
    assert shown == {1: 30}  # the rest waits for its turn
    assert limiter.acquire(1, 1, slow=False) == 0
    assert limiter.acquire(2, 1000, slow=True, prefetch=True) == 30
    limiter.release(1, 30 * PREFETCH_FACTOR)
    assert shown == {1: 0, 2: 30}


def test_all_or_none() -> None:
    limiter = InFlightLimiter(total=100, per_webhook=30)
    assert not _takes_all(limiter, 1, 31, slow=False)
    assert limiter.in_flight() == 0
    assert _takes_all(limiter, 1, 31, slow=False, prefetch=True)
    assert not _takes_all(limiter, 1, 1, slow=False)
    assert limiter.by_webhook() == {1: 31}


def test_all_or_none_of_a_slow_ones_share() -> None:
    admitted = Admitted()
    limiter = InFlightLimiter(total=100, per_webhook=64, on_admitted=admitted.update)
    assert _takes_all(limiter, 1, 45, slow=True)
    assert not _takes_all(limiter, 2, 6, slow=True)  # the two have 50 places together
    assert limiter.wait_for_capacity(2, slow=True)
    limiter.release(1, 20)
    assert admitted.told() == {2: True}
    assert not _takes_all(limiter, 2, 26, slow=True)  # 25 is a share now
    assert limiter.has_capacity(2, slow=True)
    assert _takes_all(limiter, 2, 25, slow=True)


def test_a_slow_one_is_let_in_when_a_part_of_its_share_is_free() -> None:
    admitted = Admitted()
    limiter = InFlightLimiter(total=80, per_webhook=64, on_admitted=admitted.update)
    assert limiter.acquire(1, 64, slow=True) == 40
    assert limiter.wait_for_capacity(1, slow=True)
    limiter.release(1, 9)
    assert admitted.told() == {}
    assert not _takes_all(limiter, 1, 1, slow=True)  # those that wait go first
    limiter.release(1, 1)
    assert admitted.told() == {1: True}
    assert limiter.has_capacity(1, slow=True)
    assert _takes_all(limiter, 1, 10, slow=True)


def test_one_that_is_not_slow_is_let_in_at_the_first_place() -> None:
    admitted = Admitted()
    limiter = InFlightLimiter(total=100, per_webhook=30, on_admitted=admitted.update)
    assert limiter.acquire(1, 30, slow=False) == 30
    assert limiter.wait_for_capacity(1, slow=False)
    limiter.release(1, 1)
    assert admitted.told() == {1: False}
    assert limiter.acquire(1, 5, slow=False) == 1


def test_who_gets_a_place_waits_for_none() -> None:
    admitted = Admitted()
    limiter = InFlightLimiter(total=100, per_webhook=64, on_admitted=admitted.update)
    assert limiter.acquire(1, 64, slow=True) == 50
    assert limiter.wait_for_capacity(1, slow=True)
    assert limiter.acquire(1, 5, slow=False) == 5  # it answers quickly again
    limiter.release(1, 55)
    assert admitted.told() == {}


def test_what_is_ahead_takes_nothing_from_others() -> None:
    limiter = InFlightLimiter(total=100, per_webhook=30)
    assert limiter.acquire(1, 30 * PREFETCH_FACTOR, slow=False, prefetch=True) == 30 * PREFETCH_FACTOR
    assert limiter.acquire(2, 30, slow=False) == 30
    limiter.release(1, 30 * PREFETCH_FACTOR - 20)
    assert limiter.acquire(3, 40, slow=False) == 30
    assert limiter.acquire(4, 40, slow=False) == 20


def test_who_was_refused_is_let_in_once_there_is_room() -> None:
    admitted = Admitted()
    limiter = InFlightLimiter(total=2, per_webhook=1, on_admitted=admitted.update)
    assert [limiter.acquire(number, 1, slow=False) for number in (1, 2, 3)] == [1, 1, 0]
    assert limiter.acquire(1, 1, slow=False) == 0
    assert admitted.told() == {}
    limiter.release(2, 1)
    assert admitted.told() == {3: False}  # 1 has all that it may have
    assert admitted.told() == {}
    limiter.release(1, 1)
    assert admitted.told() == {1: False}
