"""A secret is recognized however an endpoint is likely to repeat it."""

from __future__ import annotations

import base64
import html
import json
import tracemalloc
from collections.abc import Callable
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.payloads.masking import HEAD_CHARS, SHORTEST_REMNANT, Mask

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


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@given(before=texts, after=texts, value=st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=40))
def test_base64_of_a_text_with_the_value_gives_none_of_it_away(
    encode: Callable[[bytes], bytes], before: str, after: str, value: str
) -> None:
    coded = encode((before + value + after).encode()).decode()
    masked = Mask({"TOKEN": value})(coded)
    assert "***TOKEN***" in masked
    # What is left around the mask holds no byte of the value but bits of its first and last.
    assert len(masked.replace("***TOKEN***", "")) <= len(coded) - len(value.encode()) * 8 // 6 + 2


@pytest.mark.parametrize(
    "spell",
    [
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: json.dumps(base64.b64encode(text.encode()).decode()).replace("/", "\\/"),
        lambda text: quote(base64.b64encode(text.encode()).decode(), safe=""),
        lambda text: text.encode().hex(),
        lambda text: text.encode().hex().upper(),
        lambda text: json.dumps(text).replace("/", "\\/"),
        lambda text: quote(text).lower(),
        lambda text: quote(text, safe="").lower(),
    ],
)
def test_coded_values_are_masked_whole(spell: Callable[[str], str]) -> None:
    value = 'a~?/?b>>>"c\\/d>'
    masked = Mask({"TOKEN": value})(f"[{spell(value)}]")
    assert masked.strip('["]') == "***TOKEN***"


@given(st.integers(SHORTEST_REMNANT, 11))
def test_a_value_that_was_cut_off_is_masked(length: int) -> None:
    mask = Mask({"TOKEN": "sesame-öffne"})

    assert mask("answer: " + "sesame-öffne"[:length], cut=True) == "answer: ***TOKEN***"
    assert mask("answer: " + "sesame-öffne"[:length] + "\N{REPLACEMENT CHARACTER}", cut=True) == "answer: ***TOKEN***"


def test_a_remnant_may_end_with_a_replacement_character_of_its_own() -> None:
    mask = Mask({"TOKEN": "ses\N{REPLACEMENT CHARACTER}me"})
    assert mask("answer: ses\N{REPLACEMENT CHARACTER}", cut=True) == "answer: ***TOKEN***"


@pytest.mark.parametrize("quoted", ["it's a value", """it's "a" value""", 'it "is" a value'])
def test_values_with_quotes_are_masked_as_programs_print_them(quoted: str) -> None:
    # Python chooses the quotes by the whole text that the value is a part of.
    for around in ("", "'", '"', "\"'"):
        printed = repr({"body": around + quoted + around})
        assert Mask({"TOKEN": quoted})(printed).count("***TOKEN***") == 1


@pytest.mark.parametrize("length", [HEAD_CHARS - 1, HEAD_CHARS, HEAD_CHARS + 1, 1000, 4095, 4096, 5000, 20_000])
def test_a_long_value_is_masked_whole_or_as_far_as_an_answer_was_read(length: int) -> None:
    value = "".join(chr(33 + (7 * n * n + n) % 90) for n in range(length))
    mask = Mask({"TOKEN": value, "OTHER": "sesame"})
    for spell in (
        str,
        quote,
        lambda text: json.dumps(text)[1:-1],
        lambda text: base64.b64encode(text.encode()).decode(),
    ):
        spelled = spell(value)
        assert mask(f"<{spelled}>") == "<***TOKEN***>"
        for read in (SHORTEST_REMNANT, HEAD_CHARS, 4096):
            if read < len(spelled):
                assert mask(f"<{spelled}"[: read + 1], cut=True) == "<***TOKEN***"


def test_many_large_values_cost_little() -> None:
    """What a webhook may have at most: a hundred of 64 KiB, of characters that each way of spelling escapes."""
    secrets = {f"S{number}": '\\"' * 32_700 + str(number) for number in range(100)}
    mask = Mask({**secrets, "SHORT": "sesame"})
    tracemalloc.start()
    assert mask("x" * 4090 + "sesame", cut=True) == "x" * 4090 + "***SHORT***"
    assert mask(('\\"' * 4096)[:4096], cut=True).startswith("***S")
    _now, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 64 << 20


def test_an_end_that_is_no_remnant_stays() -> None:
    mask = Mask({"TOKEN": "sesame"})

    assert mask("answer: ses", cut=True) == "answer: ses"
    assert mask("answer: sesam", cut=False) == "answer: sesam"
