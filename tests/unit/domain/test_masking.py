"""A secret is recognized however an endpoint is likely to repeat it."""

from __future__ import annotations

import html
import json
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.masking import SHORTEST_REMNANT, Mask

VALUE = 'pä"ss\\w/ö&rd'
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="*"), min_size=4, max_size=12)


def nested_json(text: str) -> str:
    return json.dumps({"request": json.dumps({"body": json.dumps(text)})})


@pytest.mark.parametrize(
    "spell",
    [
        str,
        quote,
        html.escape,
        json.dumps,
        lambda text: orjson.dumps([text]).decode(),
        nested_json,
        lambda text: json.dumps(orjson.dumps([text]).decode()),
        lambda text: repr({"body": orjson.dumps([text]).decode()}),
        lambda text: html.escape(json.dumps([text])),
        lambda text: f"Authorization: Bearer {text}\r\n",
    ],
)
def test_likely_spellings_are_masked(spell: object) -> None:
    assert callable(spell)
    masked = Mask({"TOKEN": VALUE})(spell(VALUE))

    assert "***TOKEN***" in masked
    assert "ss" not in masked


def test_the_longer_of_two_overlapping_values_wins() -> None:
    assert Mask({"SHORT": "abcd", "LONG": "abcdef"})("abcdef abcd") == "***LONG*** ***SHORT***"


def test_a_mask_is_not_masked_again() -> None:
    assert Mask({"A": "B", "B": "A"})("AB") == "***B******A***"


@pytest.mark.parametrize("secrets", [{}, {"EMPTY": ""}])
def test_without_values_nothing_changes(secrets: dict[str, str]) -> None:
    assert Mask(secrets)("text", cut=True) == "text"


@given(texts, texts, values)
def test_no_value_survives(before: str, after: str, value: str) -> None:
    assert value not in Mask({"TOKEN": value})(before + value + after)


@given(st.integers(SHORTEST_REMNANT, 11))
def test_a_value_that_was_cut_off_is_masked(length: int) -> None:
    mask = Mask({"TOKEN": "sesame-öffne"})

    assert mask("answer: " + "sesame-öffne"[:length], cut=True) == "answer: ***TOKEN***"
    assert mask("answer: " + "sesame-öffne"[:length] + "\N{REPLACEMENT CHARACTER}", cut=True) == "answer: ***TOKEN***"


def test_an_end_that_is_no_remnant_stays() -> None:
    mask = Mask({"TOKEN": "sesame"})

    assert mask("answer: ses", cut=True) == "answer: ses"
    assert mask("answer: sesam", cut=False) == "answer: sesam"
