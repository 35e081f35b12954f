"""What a terminal would obey is written out, and nothing else is changed."""

from __future__ import annotations

import json
import unicodedata
from io import BytesIO

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher.client.yaml_documents import read_values, write_documents
from shared.domain.visible_text import has_unseen, shortened, visible, visible_json, visible_line

OBEYED = [*map(chr, (*range(0x20), *range(0x7F, 0xA0))), "\u061c", "\u200e", "\u200f", "\u2028", "\u2029"]
OBEYED += [*map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))]
ESCAPES = "\x1b[2J\x1b]0;PWNED\x07\x9b31m\u202egnp.exe\u2066\x7f\r\ttwo\nlines"
texts = st.text(st.one_of(st.sampled_from(OBEYED), st.characters(exclude_categories=["Cs"])))


def raw_controls(text: str, *, but: str = "\n") -> list[str]:
    """What a terminal would obey in a text that is shown."""
    return [one for one in text if one in OBEYED and one not in but]


@given(texts)
@example(ESCAPES)
def test_nothing_is_left_that_a_terminal_obeys(text: str) -> None:
    assert raw_controls(visible_line(text), but="") == []
    assert raw_controls(visible(text), but="\n\t") == []
    assert has_unseen(text) == bool(raw_controls(text, but=""))
    written = json.dumps({text: text}, ensure_ascii=False, indent=1)
    assert raw_controls(visible_json(written)) == []
    assert json.loads(visible_json(written)) == {text: text}


@given(texts)
@example(ESCAPES)
@example("\x85")
def test_yaml_has_the_same_text_and_nothing_to_obey(text: str) -> None:
    document = {"key": text, f"k{text}": [text]}
    written = write_documents([document])
    assert raw_controls(written) == []
    assert list(read_values(BytesIO(written.encode()), max_bytes=1 << 20)) == [document]
    assert list(yaml.safe_load_all(written)) == [document]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="".join(OBEYED))))
def test_other_text_stays(text: str) -> None:
    assert visible(text) == visible_line(text) == visible_json(text) == text
    assert not has_unseen(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202eabc", "\\u202eabc"),
        ("a\tb\nc", "a\tb\nc"),
        ("\ud800", "\\ud800"),
        ("family 👨‍👩‍👧, عربى, עברית, é", "family 👨‍👩‍👧, عربى, עברית, é"),
    ],
)
def test_how_it_is_written(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_all_control_characters_are_meant() -> None:
    every = [chr(number) for number in range(0x3000)]
    marks = {one for one in every if unicodedata.category(one) == "Cc" or "RIGHT-TO-LEFT" in unicodedata.name(one, "")}
    marks -= {one for one in marks if unicodedata.category(one) not in ("Cc", "Cf")}
    assert marks <= set(OBEYED)


@given(st.text(), st.integers(1, 20))
def test_shortened_text_fits_and_begins_as_the_text_does(text: str, max_chars: int) -> None:
    shown = shortened(text, max_chars)
    assert len(shown) <= max_chars
    assert shown == text if len(text) <= max_chars else text.startswith(shown[:-1]) and shown.endswith("…")
