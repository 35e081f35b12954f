"""What is kept of a request on its way is read back as it was."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.delivery.exchange import Exchange, read_exchange, shown_exchange, stored_exchange

_names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,12}", fullmatch=True)
_values = st.text(st.characters(blacklist_characters="\n", blacklist_categories=["Cs"]), max_size=40)
_headers = st.lists(st.tuples(_names, _values), max_size=5)
_seconds = st.none() | st.floats(0, 100)
_text = st.none() | st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=20)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)


@given(
    st.dictionaries(_names, _values, max_size=5),
    _headers,
    st.tuples(*[st.integers(0, 1 << 20)] * 2, *[st.booleans()] * 2, *[_text] * 2, *[_seconds] * 4),
)
def test_what_is_kept_is_read_back(
    request: dict[str, str],
    answer: list[tuple[str, str]],
    facts: tuple[int, int, bool, bool, str, str, *tuple[float, ...]],
) -> None:
    sent, received, cut, reused, address, tls, *seconds = facts
    lines = "\n".join(f"{name}: {value}" for name, value in answer)
    made = Exchange(sent, received, lines, cut, address, tls, reused, *seconds)
    found = read_exchange(stored_exchange(made, request))
    assert found.request_headers == list(request.items())
    assert found.answer_headers == answer
    assert (found.sent_bytes, found.received_bytes) == (sent, received)
    assert (found.headers_truncated, found.reused) == (cut, reused)
    assert (found.remote_address, found.tls_version) == (address, tls)
    times = [found.lookup_ms, found.connect_ms, found.handshake_ms, found.first_byte_ms]
    assert times == [_ms(one) for one in seconds]


def test_what_is_hidden_tells_nothing_of_the_endpoint() -> None:
    made = Exchange(10, 20, "X-Canary: canary", False, "192.0.2.1:443", "TLSv1.3", False, 0.1, 0.2, 0.3, 0.4)
    kept = read_exchange(stored_exchange(made, {"A": "b"}))
    shown = shown_exchange("https://a.example", kept)
    assert {"name": "X-Canary", "value": "canary"} in shown["response_headers"]
    hidden = shown_exchange("https://a.example", kept, hidden=True)
    assert hidden["response_headers"] is None
    assert "canary" not in json.dumps(hidden)
    assert "192.0.2.1" not in json.dumps(hidden)
    assert hidden.keys() == shown.keys() == shown_exchange(None, None).keys()


def test_a_line_that_is_no_header_is_kept_as_it_is() -> None:
    kept = read_exchange(stored_exchange(Exchange(answer_headers="A: b\n(not shown: why)\nC"), {}))
    assert kept.answer_headers == [("A", "b"), ("", "(not shown: why)"), ("", "C")]
