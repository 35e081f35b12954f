"""Strangers can't fill a source's history: of what is refused, one request a second is kept."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine

from dispatcher.api import remembered
from dispatcher.api.remembered import MAX_REMEMBERED
from dispatcher.api.source_cache import SourceCache
from shared.vault import Vault


def test_one_refusal_of_a_source_is_kept_each_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(remembered, "monotonic", lambda: now[0])
    cache = SourceCache(create_engine("sqlite://"), Vault(list))
    assert [cache.keeps_refusal(1) for _ in range(5)] == [True, False, False, False, False]
    assert cache.keeps_refusal(2)
    now[0] += 1.0
    assert [cache.keeps_refusal(1) for _ in range(2)] == [True, False]
    assert all(cache.keeps_refusal(number) for number in range(3, 3 + MAX_REMEMBERED))
