"""The short set of `make drill`: that nothing is lost or evaluated twice is tested with everything else."""

from __future__ import annotations

import pytest

from tests.faults.drills import SHORT
from tests.faults.runs import run

EVENTS = 400


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", SHORT)
def test_nothing_is_lost_and_nothing_evaluated_twice(name: str) -> None:
    result = run(name, EVENTS, rate=200, seed=1)
    assert result.passed, result
    assert result.received == result.expected == EVENTS
    assert result.hurts >= 3
