"""Public ids read back to what they were made of, and only they do."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.ids import DELIVERY_ID_BYTES, MAX_ROW_NUMBER, IdKind, decode_id, delivery_id, encode_id


@given(st.sampled_from(IdKind), st.integers(1, MAX_ROW_NUMBER))
def test_an_id_reads_back(kind: IdKind, number: int) -> None:
    assert decode_id(kind, encode_id(kind, number)) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "wh_",
        "wh_0",
        "wh_01",
        "wh_-1",
        "wh_1 ",
        "wh_x",
        "wh_\N{FULLWIDTH DIGIT ONE}",
        "aut_1",
        "WH_1",
        "wh1",
        "1",
        f"wh_{MAX_ROW_NUMBER + 1}",
    ],
)
def test_other_texts_are_no_ids(text: str) -> None:
    assert decode_id(IdKind.WEBHOOK, text) is None


@given(st.text(max_size=12))
def test_only_what_encoding_gives_is_read(text: str) -> None:
    number = decode_id(IdKind.KEY, text)
    assert number is None or encode_id(IdKind.KEY, number) == text


@given(st.binary(min_size=DELIVERY_ID_BYTES, max_size=DELIVERY_ID_BYTES))
def test_a_delivery_id_has_one_form(bits: bytes) -> None:
    assert re.fullmatch(r"dlv_[a-z2-7]{26}", delivery_id(bits))
    assert delivery_id(bits) == "dlv_" + base64.b32encode(bits).decode().rstrip("=").lower()


@given(st.binary(max_size=40).filter(lambda bits: len(bits) != DELIVERY_ID_BYTES))
def test_a_delivery_id_needs_all_its_bits(bits: bytes) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        delivery_id(bits)
