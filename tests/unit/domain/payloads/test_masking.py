"""A secret is recognized however an endpoint is likely to repeat it."""

from __future__ import annotations

import base64
import html
import json
import tracemalloc
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.payloads.masking import CUT_BYTES, LONGEST_CUT_SECRET_BYTES, SHOWN_BYTES, Mask
from shared.domain.payloads.unescaping import TooManyEscapes

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
    assert Mask(secrets)("text") == "text"
    assert Mask(secrets)("t" * (SHOWN_BYTES + CUT_BYTES), cut=True) == "t" * SHOWN_BYTES


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


@pytest.mark.parametrize("quoted", ["it's a value", """it's "a" value""", 'it "is" a value'])
def test_values_with_quotes_are_masked_as_programs_print_them(quoted: str) -> None:
    # Python chooses the quotes by the whole text that the value is a part of.
    for around in ("", "'", '"', "\"'"):
        printed = repr({"body": around + quoted + around})
        assert Mask({"TOKEN": quoted})(printed).count("***TOKEN***") == 1


DIALECTS: dict[str, Callable[[str], str]] = {
    ".NET": lambda text: _json_hex(text, "\"&'+<>`", upper=True),
    "Gson": lambda text: _json_hex(text, "=<>&'", upper=False),
    "Go, Rails": lambda text: _json_hex(text, "<>&", upper=False),
    "upper-case hexadecimal": lambda text: json.dumps(text)[1:-1].replace("\\u00e9", "\\u00E9"),
    "encodeURIComponent": lambda text: quote(text, safe="!'()*~-_."),
    "encodeURI": lambda text: quote(text, safe=";,/?:@&=+$!'()*~#-_."),
    "a form": quote_plus,
    "Go's and Jinja's HTML": lambda text: html.escape(text).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"),
    "PHP's HTML": lambda text: html.escape(text).replace("&#x27;", "&#039;"),
    "Mustache": lambda text: html.escape(text).replace("=", "&#x3D;").replace("/", "&#x2F;"),
    "XML": lambda text: html.escape(text).replace("&#x27;", "&apos;"),
    "numeric entities": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "every byte by percent": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "ECMAScript": lambda text: "".join(f"\\u{{{ord(char):x}}}" for char in text),
    "bytes as Python prints them": lambda text: repr(text.encode())[2:-1],
    "PHP's JSON": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "HTML of JSON": lambda text: html.escape(json.dumps(text)[1:-1]),
    "JSON of HTML": lambda text: json.dumps(html.escape(text))[1:-1],
    "JSON of a form": lambda text: json.dumps(quote_plus(text))[1:-1],
    "JSON in JSON in JSON": lambda text: json.dumps(json.dumps(json.dumps(text)[1:-1])[1:-1])[1:-1],
}


def _json_hex(text: str, escaped: str, *, upper: bool) -> str:
    digits = "X" if upper else "x"
    return "".join(
        f"\\u{format(ord(char), f'04{digits}')}" if char in escaped else json.dumps(char)[1:-1] for char in text
    )


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "value", ["q7+BZk/4tR9g+A/YtUeI=", 'it\'s "é" <b>&amp; a/b=c\\d~(1)*', "whsec_MDEyMzQ1Njc4OTAx8="]
)
def test_a_value_is_masked_in_each_dialect(dialect: str, value: str) -> None:
    spelled = DIALECTS[dialect](value)
    assert Mask({"TOKEN": value})(f"<<{spelled}>>") == "<<***TOKEN***>>"


@given(texts, texts, values, st.lists(st.sampled_from(list(DIALECTS)), max_size=1))
def test_what_is_around_a_value_stays_as_it_was(before: str, after: str, value: str, dialects: list[str]) -> None:
    spelled = value
    for dialect in dialects:
        spelled = DIALECTS[dialect](spelled)
    mask = Mask({"TOKEN": value})
    left, right = f"{before} |", f"| {after}"
    if "***" in mask(left) + mask(right) or "***" in before + after:
        return  # the value is a part of what stands around it
    assert mask(left + spelled + right) == f"{left}***TOKEN***{right}"


def test_an_answer_that_was_not_read_whole_ends_at_the_same_place_whatever_the_secrets_are() -> None:
    answer = "x" * (SHOWN_BYTES + CUT_BYTES - 9)
    ends = {Mask({"TOKEN": value})(answer + value[:9], cut=True) for value in ("sesame-open", "x" * 11, "y" * 500)}
    assert ends == {"x" * SHOWN_BYTES, "***TOKEN***"}
    assert Mask({})(answer, cut=True) == "x" * (SHOWN_BYTES - 9)


def test_a_value_that_reaches_into_the_end_that_is_left_out_is_masked_whole() -> None:
    value = "s" + "e" * (LONGEST_CUT_SECRET_BYTES - 2) + "x"
    spellings: list[Callable[[str], str]] = [str, *DIALECTS.values()]
    for spell in spellings:
        answer = ("a" * (SHOWN_BYTES - 1) + spell(value)).ljust(SHOWN_BYTES + CUT_BYTES, "b")
        assert Mask({"TOKEN": value})(answer, cut=True) == "a" * (SHOWN_BYTES - 1) + "***TOKEN***"


def test_a_text_with_too_many_escapes_in_one_another_is_not_searched_for_ever() -> None:
    with pytest.raises(TooManyEscapes):
        Mask({"TOKEN": "sesame-open"})(json.dumps(json.dumps(json.dumps('\n"%20&amp;' * 500))))


def test_many_large_values_cost_little() -> None:
    """What a webhook may have at most: a hundred of 64 KiB, of characters that each way of spelling escapes."""
    secrets = {f"S{number}": '\\"' * 32_700 + str(number) for number in range(100)}
    mask = Mask({**secrets, "SHORT": "sesame"})
    tracemalloc.start()
    answer = ("x" * 4090 + "sesame").ljust(SHOWN_BYTES + CUT_BYTES, "y")
    assert mask(answer, cut=True) == "x" * 4090 + "***SHORT***"
    assert mask(answer) == answer.replace("sesame", "***SHORT***")
    _now, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 64 << 20


@pytest.mark.parametrize("spelled", ["k%3D%3D", 'k\\"', "a+b%26c"])
def test_a_value_is_found_in_base64_of_a_body_that_spells_it_in_another_way(spelled: str) -> None:
    value = "0123456789-" + {"k%3D%3D": "k==", 'k\\"': 'k"', "a+b%26c": "a b&c"}[spelled]
    body = f"before=0123456789-{spelled}&after".encode()
    for begin in range(3):
        coded = base64.b64encode(b"x" * begin + body).decode()
        masked = Mask({"TOKEN": value})(f"got {coded}.")
        assert "***TOKEN***" in masked
        assert base64.b64encode(b"0123456789-").decode()[:10] not in masked
