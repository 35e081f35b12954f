"""No name that somebody outside holds on to goes or changes, whatever moves inside."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.outside_names import LIST, outside_names

KEPT: dict[str, Any] = json.loads(LIST.read_text())
NOW = outside_names()


@pytest.mark.parametrize("kind", KEPT)
def test_every_name_of_this_kind_is_still_there(kind: str) -> None:
    kept, now = KEPT[kind], NOW[kind]
    assert not set(kept) - set(now), "these are gone"
    assert not set(now) - set(kept), "new: write them down with `python -m tests.unit.outside_names`"
    if isinstance(kept, dict):
        assert {name: now[name] for name in kept} == kept


def test_loggers_have_names_of_their_own() -> None:
    assert [name for name in NOW["loggers"] if not name.startswith("hookline.")] == []
