"""Costly searches of a process come one after another, cheap ones do not wait for them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from shared.domain.filters import patterns
from shared.domain.filters.patterns import Pattern


def test_of_costly_searches_one_runs_at_a_time() -> None:
    alone: list[bool] = []

    def search(_text: bytes) -> None:
        alone.append(patterns._one_by_one.locked())

    compiled: Any = SimpleNamespace(search=search, programsize=100)
    pattern = Pattern(compiled)
    for text in ("x" * 60, "x" * 100, "x" * 1000):
        assert not pattern.occurs(text)
    assert alone == [False, False, True]
