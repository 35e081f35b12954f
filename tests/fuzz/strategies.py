"""Hypothesis strategies that targets share: JSON values, and JSON text that was changed here and there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.fuzz.mutation import PLAIN, mutated

texts = st.text(max_size=12)
scalars: SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-10, 10), st.floats(), texts, st.sampled_from(PLAIN)
)
json_values: SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=8
)


def as_json(values: SearchStrategy[Any], words: Sequence[str]) -> SearchStrategy[bytes]:
    """The values as JSON text: as they are, or with some changes."""

    def changed(value: Any, times: int, seed: int) -> bytes:
        rng, data = Random(seed), json.dumps(value).encode()
        for _ in range(times):
            data = mutated(data, words, rng)
        return data

    return st.builds(changed, values, st.integers(0, 4), st.integers(0, 2**32))
