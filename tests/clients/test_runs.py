"""Each client version trains against Hookline itself: what docs/sources/wandb.md says of runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.environments import available, python_of
from tests.sdk.conftest import Hookline
from tests.sdk.test_runs import hookline, told, train

__all__ = ["hookline"]


@pytest.mark.parametrize("version", available())
def test_a_run_of_each_version(hookline: Hookline, tmp_path: Path, version: str) -> None:
    python = python_of(version)
    assert python is not None
    init = {"project": "digits", "id": "r1", "config": {"lr": 0.1}}
    _, again, failed = train(
        hookline,
        tmp_path,
        {"init": init, "log": [{"a": 1}, {"val": {"b": 2}}], "do": ["setattr(run, 'name', 'renamed')"]},
        {"init": {**init, "resume": "must"}, "log": [{"a": 3}]},
        {"init": {**init, "id": "r2"}, "log": [{"a": 4}], "exit_code": 1},
        python=python,
    )
    assert (again["resumed"], again["raised"], failed["raised"]) == (True, [], [])
    first = ["running", (0, {"a": 1}), (1, {"val.b": 2}), "finished", "running", (2, {"a": 3}), "finished"]
    second = ["running", (0, {"a": 4}), "failed"]
    assert told(hookline) in (first + second, second + first)  # each run is in a partition of its own
