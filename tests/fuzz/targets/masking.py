"""Masking of answers: an endpoint that repeats a secret, spelled in a common way and cut anywhere, shows none of it."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

from hypothesis import strategies as st

from shared.domain.payloads.masking import CUT_BYTES, Mask
from shared.domain.payloads.unescaping import TooManyEscapes
from tests.fuzz.oracles import in_time, members_of
from tests.fuzz.strategies import as_json
from tests.fuzz.target import Target

MAX_SECRETS = 5
SHORTEST = 4
JSON_LEVELS = 3
SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "json": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "ascii": lambda text: json.dumps(text)[1:-1],
    "python": lambda text: repr(text)[1:-1],
    "url": quote,
    "path": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "html": html.escape,
}
NESTED = ("json", "ascii", "python")


def check(data: bytes) -> None:
    """`{"secrets": {NAME: value}, "answer": [text | [NAME, spelling, …]], "cut": characters}`."""
    members = members_of(data)
    given = members.get("secrets")
    secrets = {
        name: value
        for name, value in (given.items() if isinstance(given, dict) else ())
        if name.isidentifier() and isinstance(value, str) and _is_fit(value)
    }
    secrets = dict(list(secrets.items())[:MAX_SECRETS])
    pieces = members.get("answer")
    parts = [_spelled(piece, secrets) for piece in (pieces if isinstance(pieces, list) else [])]
    answer = "".join(parts)[:20_000]
    cut = members.get("cut")
    mask = Mask(secrets)
    with in_time(data):
        try:
            masked = mask(answer)
        except TooManyEscapes:
            return
        assert mask(answer) == masked
    for value in secrets.values():
        assert value not in _without_labels(masked, secrets), "a secret came through"
    if isinstance(cut, int) and not isinstance(cut, bool):
        _check_cut(mask, secrets, answer[: abs(cut) % (len(answer) + 1)])


def _is_fit(value: str) -> bool:
    """Long enough to be a secret, storable, and not like the marks that take its place."""
    return len(value) >= SHORTEST and "*" not in value and value.isprintable() and _encodes(value)


def _encodes(value: str) -> bool:
    return value == value.encode("utf-8", "replace").decode()


def _spelled(piece: Any, secrets: dict[str, str]) -> str:
    if isinstance(piece, str):
        return piece
    if not isinstance(piece, list) or not piece or not isinstance(piece[0], str) or piece[0] not in secrets:
        return ""
    text = secrets[piece[0]]
    ways = [way for way in piece[1:] if isinstance(way, str) and way in SPELLINGS]
    if len(ways) > 1:  # inside one another only as far as the module says
        ways = [way for way in ways if way in NESTED][:JSON_LEVELS]
    for way in ways:
        text = SPELLINGS[way](text)
    return text


def _without_labels(masked: str, secrets: dict[str, str]) -> str:
    for name in secrets:
        masked = masked.replace(f"***{name}***", "\0")
    return masked


def _check_cut(mask: Mask, secrets: dict[str, str], answer: str) -> None:
    """No value stands in what is shown of an answer that goes on, nor the beginning of one at its end."""
    filled = answer + "\N{FULL BLOCK}" * (CUT_BYTES // 3)
    masked = _without_labels(mask(filled, cut=True), secrets)
    assert len(masked) <= len(filled)
    for value in secrets.values():
        assert value not in masked


WORDS = (
    *SPELLINGS,
    "secrets",
    "answer",
    "cut",
    "A",
    "B",
    "token",
    'to"ken\\',
    "tok en&",
    "tökén",
    "***A***",
    "&quot;",
    "%22",
)
_values = st.text(alphabet="abcd\"\\&<>%+ é'", min_size=4, max_size=10)
_pieces = st.one_of(
    st.text(alphabet='abcd"\\&;%2 \n', max_size=6),
    st.builds(
        lambda name, ways: [name, *ways], st.sampled_from("AB"), st.lists(st.sampled_from(list(SPELLINGS)), max_size=3)
    ),
)
_inputs = st.fixed_dictionaries(
    {
        "secrets": st.dictionaries(st.sampled_from(["A", "B"]), _values, min_size=1),
        "answer": st.lists(_pieces, max_size=5),
        "cut": st.integers(0, 60),
    }
)

TARGET = Target(check, inputs=as_json(_inputs, WORDS), words=WORDS)
