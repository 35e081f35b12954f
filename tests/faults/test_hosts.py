"""The short form of a cut between hosts; `make drill` cuts for longer, and every host."""

from __future__ import annotations

import pytest

from tests.faults.hosts import run_cut
from tests.faults.network import impossible


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(impossible() is not None, reason=f"hosts on one machine: {impossible()}")
def test_a_worker_s_host_is_cut_off_and_the_other_goes_on() -> None:
    result = run_cut(
        "cut off a worker's host", rate=300, cut_seconds=8, seed=1
    )  # a wake that is lost with a worker costs 5 s
    assert result.counted.passed, result
    assert result.went_on > 100
    assert result.back_seconds.keys() == {"api", "pump0", "worker0", "worker1"}
