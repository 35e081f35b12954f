"""Packed definitions: whatever the text, it comes back whole, and usual ones shrink."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import watched
from worker.evaluation.compression import compress, decompress


@given(st.one_of(st.binary(max_size=5000), st.text(max_size=5000).map(str.encode)))
def test_every_text_comes_back_whole(text: bytes) -> None:
    assert decompress(compress(text)) == text


def test_packing_one_text_leaves_nothing_behind_for_the_next() -> None:
    text = b"x" * 100_000
    assert compress(text) == compress(text)
    assert decompress(compress(b"")) == b""


def test_usual_definitions_take_less_than_half() -> None:
    texts = [orjson.dumps(one) for one in watched.automations(100)]
    assert sum(map(len, map(compress, texts))) * 2 < sum(map(len, texts))
