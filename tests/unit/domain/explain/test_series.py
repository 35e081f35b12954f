"""Thinning out a series: few points stay, the extremes and the firings among them."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.explain.series import Point, thin_out
from shared.domain.explain.simulator import DryRunOutcome

AT = datetime(2026, 11, 23, tzinfo=UTC)
numbers = st.one_of(st.none(), st.floats(-1e6, 1e6))
outcomes = st.sampled_from([DryRunOutcome.NO_MATCH] * 9 + [DryRunOutcome.FIRED])


@given(st.lists(st.tuples(numbers, numbers, outcomes), max_size=300), st.integers(4, 60))
def test_extremes_and_firings_stay_and_the_rest_is_few(
    raw: list[tuple[float | None, float | None, DryRunOutcome]], most: int
) -> None:
    points = [Point(step, AT, value, compared, None, None, o, None) for step, (value, compared, o) in enumerate(raw)]
    kept = thin_out(points, most)
    assert [point.step for point in kept] == sorted({point.step or 0 for point in kept})
    fired = [point for point in points if point.outcome is DryRunOutcome.FIRED]
    assert {point.step for point in fired[-most:]} <= {point.step for point in kept}
    assert len(kept) <= (len(points) if len(points) <= most else most + min(len(fired), most))
    for known, left in (
        ([p.value for p in points], [p.value for p in kept]),
        ([p.compared for p in points], [p.compared for p in kept]),
    ):
        before, after = ([number for number in some if number is not None] for some in (known, left))
        if before:
            assert (min(before), max(before)) == (min(after), max(after))
