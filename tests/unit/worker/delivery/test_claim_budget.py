"""How much a drain claims next: by a table, and never more than may be in flight."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.delivery.claim_budget import INITIAL_CLAIM_SIZE, ClaimBudget
from worker.delivery.in_flight import PREFETCH_FACTOR

FRESH = ClaimBudget(max_in_flight=100, full_claim_size=64)


@pytest.mark.parametrize(
    ("given_budget", "wanted"),
    [
        pytest.param({}, INITIAL_CLAIM_SIZE, id="a drain begins with little"),
        pytest.param({"claim_size": 64}, 64, id="and goes on with much"),
        pytest.param({"claim_size": 64, "max_in_flight": 10}, 10, id="as far as the limit goes"),
        pytest.param({"claim_size": 64, "in_flight": 40}, 60, id="and as far as there is room"),
        pytest.param({"claim_size": 64, "in_flight": 50}, 50, id="half of the limit is free"),
        pytest.param({"claim_size": 64, "in_flight": 51}, 0, id="less than half is free"),
        pytest.param({"claim_size": 64, "in_flight": 51, "prefetch": True}, 64, id="with prefetch there is more"),
        pytest.param({"claim_size": 64, "in_flight": 101, "prefetch": True}, 0, id="but not without end"),
        pytest.param({"claim_size": 64, "in_flight": 180}, 0, id="what was prefetched is above the limit"),
        pytest.param({"exhausted": True}, 0, id="nothing more is due"),
        pytest.param({"blocked": True}, 0, id="what is due has to wait"),
        pytest.param({"max_in_flight": 1}, 1, id="one at a time"),
        pytest.param({"max_in_flight": 1, "in_flight": 1}, 0, id="and it is underway"),
    ],
)
def test_what_is_claimed_next(given_budget: dict[str, Any], wanted: int) -> None:
    fields: dict[str, Any] = {"max_in_flight": 100, "full_claim_size": 64} | given_budget
    assert ClaimBudget(**fields).next_claim() == wanted


@pytest.mark.parametrize(
    ("asked", "claimed", "limited", "after"),
    [
        pytest.param(16, 16, False, {"in_flight": 16, "claim_size": 64}, id="all: there may be much more"),
        pytest.param(16, 9, False, {"in_flight": 9, "exhausted": True}, id="less: there is no more"),
        pytest.param(16, 0, False, {"exhausted": True}, id="nothing"),
        pytest.param(16, 9, True, {"in_flight": 9, "blocked": True}, id="less, by a limit: there may be more"),
        pytest.param(16, 0, True, {"blocked": True}, id="nothing, by a limit"),
    ],
)
def test_after_a_claim(asked: int, claimed: int, limited: bool, after: dict[str, Any]) -> None:
    budget = FRESH.after_claim(asked=asked, claimed=claimed, limited=limited, small_payloads=True)
    assert budget == ClaimBudget(**{"max_in_flight": 100, "full_claim_size": 64} | after)


def test_without_a_slot_it_waits() -> None:
    assert FRESH.after_refusal().blocked


@pytest.mark.parametrize(
    ("small_payloads", "may_prefetch", "prefetch"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_results_end_waits_and_allow_to_prefetch_small_payloads(
    small_payloads: bool, may_prefetch: bool, prefetch: bool
) -> None:
    claimed = FRESH.after_claim(asked=16, claimed=9, limited=False, small_payloads=small_payloads)
    heard = claimed.after_results(4).after_recording(may_prefetch=may_prefetch, blocked=False)
    assert (heard.in_flight, heard.exhausted, heard.blocked, heard.prefetch) == (5, False, False, prefetch)
    assert claimed.after_refusal().after_recording(may_prefetch=False, blocked=False).blocked is False
    assert claimed.after_recording(may_prefetch=False, blocked=True).blocked


def test_it_is_saturated_with_as_much_as_is_sent_at_a_time() -> None:
    assert not FRESH.after_claim(asked=99, claimed=99, limited=False, small_payloads=True).is_saturated
    assert FRESH.after_claim(asked=100, claimed=100, limited=False, small_payloads=True).is_saturated


EVENTS = st.tuples(st.integers(0, 300), st.integers(0, 300), st.booleans(), st.booleans())


@given(st.integers(1, 50), st.integers(1, 100), st.lists(EVENTS, max_size=60))
def test_whatever_happens_no_more_is_claimed_than_may_be_in_flight(
    max_in_flight: int, full_claim_size: int, events: list[tuple[int, int, bool, bool]]
) -> None:
    """Slots that are free, deliveries that are due, and what is heard, in any order."""
    budget = ClaimBudget(max_in_flight=max_in_flight, full_claim_size=full_claim_size)
    for free, due, limited, healthy in events:
        wanted = budget.next_claim()
        assert 0 <= wanted <= max(INITIAL_CLAIM_SIZE, full_claim_size)
        assert wanted + budget.in_flight <= budget.limit or not wanted
        assert not wanted or not (budget.exhausted or budget.blocked)
        slots = min(wanted, free)
        if wanted and not slots:
            budget = budget.after_refusal()
        elif slots:
            budget = budget.after_claim(
                asked=slots, claimed=min(slots, due), limited=limited and due < slots, small_payloads=healthy
            )
        elif budget.in_flight:
            ended = 1 + due % budget.in_flight
            budget = budget.after_results(ended).after_recording(may_prefetch=healthy, blocked=limited)
        assert 0 <= budget.in_flight <= PREFETCH_FACTOR * max_in_flight


@given(st.integers(1, 300), st.integers(1, 100), st.integers(0, 1000))
def test_a_drain_of_a_healthy_endpoint_claims_all_that_is_due(max_in_flight: int, full: int, due: int) -> None:
    """With slots for all it asks for, it ends with nothing left and nothing in flight."""
    budget, left = ClaimBudget(max_in_flight=max_in_flight, full_claim_size=full), due
    for _ in range(5 * due + 5):
        while wanted := budget.next_claim():
            claimed = min(wanted, left)
            left -= claimed
            budget = budget.after_claim(asked=wanted, claimed=claimed, limited=False, small_payloads=True)
        if not budget.in_flight:
            break
        ended = (budget.in_flight + 1) // 2
        budget = budget.after_results(ended).after_recording(may_prefetch=True, blocked=False)
    assert (left, budget.in_flight) == (0, 0)
