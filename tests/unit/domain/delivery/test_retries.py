"""Outcomes, and what follows them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.domain.delivery.answer_rules import SuccessRule
from shared.domain.delivery.outcomes import Outcome, OutcomeKind, classify_status
from shared.domain.delivery.retries import GONE, WEEK_SECONDS, Decision, DeliveryPolicy, Verdict, decide

DEFAULT = DeliveryPolicy()
MIDDLE = 0.5
"""The jitter that changes no delay."""


def answered(status: int, retry_after_seconds: float | None = None) -> Outcome:
    return Outcome(
        kind=classify_status(status), duration_seconds=0.1, status=status, retry_after_seconds=retry_after_seconds
    )


def unanswered(kind: OutcomeKind) -> Outcome:
    return Outcome(kind=kind, duration_seconds=0.1, error="no route to host")


def first(outcome: Outcome, policy: DeliveryPolicy = DEFAULT) -> Decision:
    return decide(policy, outcome, attempt=1, jitter=MIDDLE)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, "2xx"),
        (204, "2xx"),
        (299, "2xx"),
        (300, "3xx"),
        (308, "3xx"),
        (400, "4xx"),
        (499, "4xx"),
        (500, "5xx"),
        (599, "5xx"),
        (100, "5xx"),
        (103, "5xx"),
        (0, "5xx"),
        (99, "5xx"),
        (600, "5xx"),
        (700, "5xx"),
        (999, "5xx"),
        (-1, "5xx"),
    ],
)
def test_a_status_has_a_kind(status: int, kind: str) -> None:
    assert classify_status(status) == kind


@pytest.mark.parametrize("status", [200, 201, 202, 204, 226])
def test_2xx_is_delivered(status: int) -> None:
    assert first(answered(status)) == Decision(
        verdict=Verdict.DELIVERED, reason=f"the endpoint answered {status}", delay_seconds=None, disable_webhook=False
    )


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 502, 503, 504, 599, 101, 700])
def test_a_passing_refusal_is_retried(status: int) -> None:
    decision = first(answered(status))
    assert (decision.verdict, decision.delay_seconds) == (Verdict.RETRY, 5.0)
    assert str(status) in decision.reason


@pytest.mark.parametrize("kind", [OutcomeKind.TIMEOUT, OutcomeKind.NETWORK, OutcomeKind.INTERNAL])
def test_no_answer_is_retried(kind: OutcomeKind) -> None:
    decision = first(unanswered(kind))
    assert (decision.verdict, decision.delay_seconds) == (Verdict.RETRY, 5.0)
    assert decision.reason == f"{kind}: no route to host"


@pytest.mark.parametrize("status", [300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 409, 413, 422, 451])
def test_other_3xx_and_4xx_are_refused(status: int) -> None:
    decision = first(answered(status))
    assert (decision.verdict, decision.delay_seconds, decision.disable_webhook) == (Verdict.REFUSED, None, False)


def test_gone_is_refused_and_disables_the_webhook() -> None:
    decision = first(answered(410))
    assert (decision.verdict, decision.disable_webhook) == (Verdict.REFUSED, True)


def test_blocked_is_refused() -> None:
    decision = first(unanswered(OutcomeKind.BLOCKED))
    assert (decision.verdict, decision.delay_seconds, decision.disable_webhook) == (Verdict.REFUSED, None, False)


def test_a_timeout_amid_an_answer_is_a_timeout() -> None:
    decision = first(Outcome(kind=OutcomeKind.TIMEOUT, duration_seconds=15.0, status=410))
    assert (decision.verdict, decision.reason) == (Verdict.RETRY, "timeout")


def test_the_default_schedule_then_a_dead_letter() -> None:
    decisions = [decide(DEFAULT, answered(500), attempt=attempt, jitter=MIDDLE) for attempt in range(1, 11)]
    assert [d.delay_seconds for d in decisions] == [5, 30, 300, 1800, 7200, 18000, 36000, 36000, None, None]
    assert [d.verdict for d in decisions] == [Verdict.RETRY] * 8 + [Verdict.DEAD] * 2
    assert decisions[8].reason == "out of retries after 9 attempts: the endpoint answered 500"
    assert all(earlier <= later for earlier, later in pairwise(DEFAULT.schedule_seconds))


def test_an_empty_schedule_means_no_retry() -> None:
    assert first(answered(500), DeliveryPolicy(schedule_seconds=())).verdict is Verdict.DEAD
    assert first(answered(200), DeliveryPolicy(schedule_seconds=())).verdict is Verdict.DELIVERED


@settings(max_examples=100)
@given(
    schedule=st.lists(st.floats(0, WEEK_SECONDS), max_size=20).map(tuple),
    fraction=st.floats(0, 1),
    attempt=st.integers(1, 25),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_a_delay_stays_within_its_jitter(
    schedule: tuple[float, ...], fraction: float, attempt: int, jitter: float
) -> None:
    policy = DeliveryPolicy(schedule_seconds=schedule, jitter=fraction)
    decision = decide(policy, answered(500), attempt=attempt, jitter=jitter)
    if attempt > len(schedule):
        assert (decision.verdict, decision.delay_seconds) == (Verdict.DEAD, None)
        return
    base = schedule[attempt - 1]
    assert decision.verdict is Verdict.RETRY
    assert decision.delay_seconds is not None
    assert base * (1 - fraction) - 1e-6 <= decision.delay_seconds <= base * (1 + fraction) + 1e-6


def test_jitter_goes_both_ways() -> None:
    delays = [decide(DEFAULT, answered(500), attempt=3, jitter=jitter).delay_seconds for jitter in (0, 0.25, 0.75)]
    assert delays == pytest.approx([240, 270, 330])


@pytest.mark.parametrize(
    ("status", "retry_after_seconds", "delay_seconds"),
    [
        (429, 60, 60),
        (503, 60, 60),
        (503, 1, 5),
        (503, 0, 5),
        (503, 3600, 3600),
        (429, 1e9, 3600),
        (500, 60, 60),
        (408, 60, 60),
        (403, 60, 60),
        (404, 60, 60),
        (302, 60, 60),
        (410, 60, 60),
    ],
)
def test_retry_after_is_honoured_to_a_cap_with_any_status(
    status: int, retry_after_seconds: float, delay_seconds: float
) -> None:
    decision = first(answered(status, retry_after_seconds))
    assert (decision.verdict, decision.delay_seconds) == (Verdict.RETRY, delay_seconds)
    assert not decision.disable_webhook


def test_retry_after_never_shortens_and_never_revives() -> None:
    policy = DeliveryPolicy(schedule_seconds=(7200,), retry_after_cap_seconds=10)
    assert first(answered(503, 3600), policy).delay_seconds == 7200
    assert decide(policy, answered(503, 10), attempt=2, jitter=0).verdict is Verdict.DEAD
    assert first(answered(403, 10), DeliveryPolicy(schedule_seconds=())).verdict is Verdict.DEAD


@pytest.mark.parametrize(
    ("retried", "status", "verdict"),
    [
        ((404,), 404, Verdict.RETRY),
        ((404,), 500, Verdict.REFUSED),
        (("4xx",), 404, Verdict.RETRY),
        (("4xx",), 410, Verdict.RETRY),
        (("5xx",), 429, Verdict.REFUSED),
        (("5xx",), 999, Verdict.RETRY),
        (("5xx",), 101, Verdict.RETRY),
        (("3xx",), 307, Verdict.RETRY),
        ((), 503, Verdict.REFUSED),
        ((404,), 200, Verdict.DELIVERED),
    ],
)
def test_the_policy_says_which_statuses_are_retried(
    retried: tuple[int | str, ...], status: int, verdict: Verdict
) -> None:
    decision = first(answered(status), DeliveryPolicy(retried_statuses=retried))
    assert (decision.verdict, decision.disable_webhook) == (verdict, False)


@pytest.mark.parametrize("retried", [[200], ["2xx"], [299], [600], [0], ["6xx"], ["404"], [404.0], [True], [None]])
def test_other_statuses_can_not_be_retried(retried: list[object]) -> None:
    with pytest.raises(ValidationError, match=r"must (be a status|not be 2xx)"):
        DeliveryPolicy.model_validate({"retried_statuses": retried})


def test_an_answer_against_the_success_rule_is_retried_and_ends_as_a_dead_letter() -> None:
    outcome = Outcome(kind=OutcomeKind.UNSUCCESSFUL, duration_seconds=0.1, status=200, error="its body is wrong")
    decision = first(outcome, DeliveryPolicy(retried_statuses=()))
    assert (decision.verdict, decision.reason) == (Verdict.RETRY, "the endpoint answered 200, but its body is wrong")

    last = decide(DeliveryPolicy(schedule_seconds=()), outcome, attempt=1, jitter=0)
    assert last.verdict is Verdict.DEAD
    assert last.reason == "out of retries after 1 attempt: the endpoint answered 200, but its body is wrong"


@settings(max_examples=200)
@given(
    status=st.integers(-1, 1000),
    wait=st.none() | st.floats(0, 1e9),
    retried=st.lists(st.integers(300, 599) | st.sampled_from(["3xx", "4xx", "5xx"]), max_size=5).map(tuple),
    kind=st.sampled_from([None, *OutcomeKind]),
)
def test_what_follows_an_outcome_obeys_the_rules(
    status: int, wait: float | None, retried: tuple[int | str, ...], kind: OutcomeKind | None
) -> None:
    """The rules of docs/automations.md, said anew."""
    policy = DeliveryPolicy(retried_statuses=retried)
    kind = classify_status(status) if kind is None else kind
    decision = first(Outcome(kind=kind, duration_seconds=0, status=status, retry_after_seconds=wait), policy)
    hundreds = f"{status // 100}xx" if 200 <= status < 500 else "5xx"
    if kind is OutcomeKind.SUCCESS:
        expected = Verdict.DELIVERED
    elif kind in (OutcomeKind.TIMEOUT, OutcomeKind.NETWORK, OutcomeKind.INTERNAL, OutcomeKind.UNSUCCESSFUL):
        expected = Verdict.RETRY
    elif kind is OutcomeKind.BLOCKED:
        expected = Verdict.REFUSED
    else:
        passes = wait is not None or status in retried or hundreds in retried
        expected = Verdict.RETRY if passes else Verdict.REFUSED
    assert decision.verdict is expected
    assert decision.disable_webhook is (expected is Verdict.REFUSED and status == GONE)
    if expected is Verdict.RETRY:
        assert decision.delay_seconds == max(5.0, min(wait or 0, 3600))


def test_members_of_later_releases_are_stored_where_they_are_used_only() -> None:
    stored = DEFAULT.stored_form()
    assert not {"retried_statuses", "success"} & stored.keys()
    assert DeliveryPolicy.model_validate(stored) == DEFAULT

    used = DeliveryPolicy(retried_statuses=(404,), success=SuccessRule(body={"ok": True}))
    assert used.stored_form()["retried_statuses"] == [404]
    assert used.stored_form()["success"] == {"status": ["2xx"], "body": {"ok": True}}
    assert DeliveryPolicy.model_validate(used.stored_form()) == used


@pytest.mark.parametrize(("attempt", "jitter"), [(0, 0.5), (-1, 0.5), (1, -0.1), (1, 1.0)])
def test_impossible_arguments_are_refused(attempt: int, jitter: float) -> None:
    with pytest.raises(ValueError, match="attempt must be at least 1"):
        decide(DEFAULT, answered(500), attempt=attempt, jitter=jitter)


def test_the_default_policy() -> None:
    assert DEFAULT.model_dump() == {
        "timeout_seconds": 15,
        "connect_timeout_seconds": 5,
        "schedule_seconds": (5, 30, 300, 1800, 7200, 18000, 36000, 36000),
        "jitter": 0.2,
        "retry_after_cap_seconds": 3600,
        "retried_statuses": (408, 425, 429, "5xx"),
        "success": None,
        "rate_limit": None,
        "concurrency": None,
        "circuit_failures": 20,
        "circuit_cool_off_seconds": 10,
        "circuit_cool_off_cap_seconds": 300,
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timeout_seconds", 0),
        ("timeout_seconds", 121),
        ("timeout_seconds", float("nan")),
        ("connect_timeout_seconds", 0.05),
        ("connect_timeout_seconds", 61),
        ("schedule_seconds", [1] * 21),
        ("schedule_seconds", [-1]),
        ("schedule_seconds", [WEEK_SECONDS + 1]),
        ("schedule_seconds", [float("inf")]),
        ("schedule_seconds", [float("nan")]),
        ("jitter", -0.1),
        ("jitter", 1.1),
        ("jitter", float("nan")),
        ("retry_after_cap_seconds", -1),
        ("retried_statuses", [404] * 101),
        ("success", {}),
        ("success", {"status": []}),
        ("success", {"body": {"$regx": "a"}}),
        ("max_attempts", 3),
    ],
)
def test_a_policy_out_of_range_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as refusal:
        DeliveryPolicy.model_validate({field: value})
    assert refusal.value.errors()[0]["loc"][0] == field
