"""Headers and URLs with secrets in them."""

from __future__ import annotations

import base64

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.delivery.request_parts import (
    MAX_HEADERS,
    basic_credentials,
    check_header_secret,
    check_password,
    check_url_secret,
    fill_header,
    fill_url,
    header_faults,
    loose_references,
    mask_header,
    mask_url,
    sample_url,
    secrets_in_headers,
    secrets_in_url,
    url_faults,
    user_fault,
)
from shared.domain.errors import InvalidDefinition
from shared.http.request import Request, target, write_head

GRANTED = frozenset({"KEY", "OTHER"})


@pytest.mark.parametrize(
    ("name", "value", "sent"),
    [
        ("X-Api-Key", "${KEY}", "k-2"),
        ("Authorization", "GenieKey ${KEY}", "GenieKey k-2"),
        ("Cookie", "a=${KEY}; b=${OTHER}", "a=k-2; b=o"),
        ("X-Team", "ml", "ml"),
        ("X-Price", "5 $$", "5 $"),
        ("X-Price", "$${KEY}", "${KEY}"),
        ("X-Price", "$$${KEY}", "$k-2"),
    ],
)
def test_secrets_are_put_into_headers(name: str, value: str, sent: str) -> None:
    assert header_faults({name: value}, GRANTED) == []
    assert fill_header(value, {"KEY": "k-2", "OTHER": "o"}) == sent
    assert "k-2" not in mask_header(value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("Host", "x", "Hookline sets itself"),
        ("content-LENGTH", "5", "Hookline sets itself"),
        ("Transfer-Encoding", "chunked", "Hookline sets itself"),
        ("Content-Type", "text/plain", "Hookline sets itself"),
        ("Connection", "close", "Hookline sets itself"),
        ("Expect", "100-continue", "Hookline sets itself"),
        ("webhook-id", "1", "Hookline sets itself"),
        ("Webhook-Signature", "v1,x", "Hookline sets itself"),
        ("X-WANDB-Signature", "x", "Hookline sets itself"),
        ("Hookline-Attempt", "1", "Hookline sets itself"),
        ("Proxy-Authorization", "Basic x", "Hookline sets itself"),
        ("traceparent", "x", "Hookline sets itself"),
        ("Accept-Encoding", "gzip", "Hookline sets itself"),
        ("", "x", "must have names"),
        ("X Y", "x", "must have names"),
        ("X:Y", "x", "must have names"),
        ("X\r\nY", "x", "must have names"),
        ("Ünï", "x", "must have names"),
        ("X" * 65, "x", "must have names"),
        ("X", "", "printable ASCII"),
        ("X", " x", "printable ASCII"),
        ("X", "x\n", "printable ASCII"),
        ("X", "a\r\nB: c", "printable ASCII"),
        ("X", "a\0b", "printable ASCII"),
        ("X", "é", "printable ASCII"),
        ("X", "x" * 2049, "at most 2048"),
        ("X", "$KEY", "must write a secret as ${NAME}"),
        ("X", "${NONE}", "available: KEY, OTHER"),
        ("X", "${}", "available: KEY, OTHER"),
        ("X", "${ACCESS_TOKEN}", "available: KEY, OTHER"),
        ("X", "${KEY", "must write a secret as ${NAME}"),
    ],
)
def test_headers_that_can_not_be_are_refused(name: str, value: str, words: str) -> None:
    (fault,) = header_faults({name: value}, GRANTED)
    assert words in fault.msg
    assert not value.strip() or value == "x" or value not in str(fault) or value.startswith("$")


def test_names_do_not_differ_by_capitals_and_are_few() -> None:
    (fault,) = header_faults({"X-Key": "a", "x-key": "b"}, GRANTED)
    assert "given twice" in fault.msg
    assert header_faults({f"X-{number}": "a" for number in range(MAX_HEADERS)}, GRANTED) == []
    assert len(header_faults({f"X-{number}": "a" for number in range(MAX_HEADERS + 1)}, GRANTED)) == 1


@settings(max_examples=300)
@given(name=st.text(max_size=10), value=st.text("${}KEYab \r\n\0é", max_size=12), key=st.text(min_size=1, max_size=12))
def test_no_header_breaks_out_of_its_line(name: str, value: str, key: str) -> None:
    """What is accepted, filled with what is accepted, is one line of the request that says what was written."""
    if header_faults({name: value}, GRANTED):
        return
    try:
        check_header_secret(key)
    except InvalidDefinition:
        return
    filled = fill_header(value, {"KEY": key, "OTHER": key})
    request = Request(url="http://a/", body=b"", headers={name: filled})
    head = write_head(target(request.url), request).decode()
    assert head.split("\r\n")[2] == f"{name}: {filled}"
    assert head.count("\r\n") == 5
    assert secrets_in_headers({name: value}) <= GRANTED


@pytest.mark.parametrize(
    "url",
    [
        "https://discord.com/api/webhooks/1/${KEY}",
        "https://a.example/${KEY}/x?sig=${OTHER}&v=1",
        "https://a.example?token=${KEY}",
        "https://a.example/odata?$filter=x",
        "https://a.example/$$",
    ],
)
def test_secrets_may_stand_in_path_and_query(url: str) -> None:
    assert url_faults(url, GRANTED) == []
    assert httpx.URL(sample_url(url)).host in ("discord.com", "a.example")


@pytest.mark.parametrize(
    "url",
    [
        "https://${KEY}/",
        "https://${KEY}.example/",
        "https://a.example:${KEY}/",
        "https://u:${KEY}@a.example/",
        "${KEY}",
        "${KEY}://a.example/",
        "https://a.example/#${KEY}",
        "https://a.example/${NONE}",
        "https://a.example/${}",
        "https://a.example/${KEY NONE}",
    ],
)
def test_secrets_elsewhere_in_a_url_are_refused(url: str) -> None:
    assert len(url_faults(url, GRANTED)) == 1


@settings(max_examples=300)
@given(value=st.text(min_size=1, max_size=40))
def test_no_secret_breaks_out_of_its_place_in_a_url(value: str) -> None:
    try:
        check_url_secret(value)
    except InvalidDefinition:
        return
    template = "https://a.example/before/${KEY}/after?q=${KEY}&r=1"
    filled = httpx.URL(fill_url(template, {"KEY": value}))
    assert filled.host == "a.example"
    segments = filled.raw_path.decode().partition("?")[0].split("/")
    assert [segments[1], segments[3], len(segments)] == ["before", "after", 4]
    assert httpx.QueryParams(filled.query.decode())["q"] == value
    assert mask_url(template, GRANTED) == "https://a.example/before/***KEY***/after?q=***KEY***&r=1"


def test_what_was_stored_when_it_meant_nothing_stays() -> None:
    assert fill_url("https://a.example/${OLD}", {"KEY": "k"}) == "https://a.example/${OLD}"
    assert secrets_in_url("https://a.example/$filter") == frozenset()


@pytest.mark.parametrize("value", ["", ".", "..", "a\nb", "x" * 1025, "é" * 200, "\ud800"])
def test_a_secret_that_can_not_stand_in_a_url(value: str) -> None:
    with pytest.raises(InvalidDefinition):
        check_url_secret(value)


@pytest.mark.parametrize("value", ["", " k", "k\n", "k\r\nX: y", "é", "x" * 8193])
def test_a_secret_that_can_not_stand_in_a_header(value: str) -> None:
    with pytest.raises(InvalidDefinition):
        check_header_secret(value)


def test_basic_is_as_the_rfc_has_it() -> None:
    assert basic_credentials("Aladdin", "open sesame") == "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # RFC 7617, section 2
    assert base64.b64decode(basic_credentials("test", "123£")).decode() == "test:123£"  # section 2.1
    assert [user_fault(user) is None for user in ("ci", "a b", "a:b", "", "a\nb", "x" * 256)] == [True, True] + [
        False
    ] * 4
    with pytest.raises(InvalidDefinition):
        check_password("two\nlines")


@pytest.mark.parametrize(
    ("url", "is_loose"),
    [
        ("https://e.com/${KEY}?$filter=a&price=5$", False),
        ("https://e.com/?a=$$x", False),
        ("https://e.com/${KEY}/${", True),
        ("https://e.com/?key=${KEY", True),
        ("https://e.com/?key=$KEY&b=1", True),
        ("https://e.com/?key=$KEYS", False),
    ],
)
def test_what_looks_like_a_secret_in_a_new_url_is_one(url: str, is_loose: bool) -> None:
    assert [fault.msg for fault in loose_references(url, frozenset({"KEY"}))] == [
        "must write a secret as ${NAME}"
    ] * is_loose


def test_a_header_without_a_value_is_told_so() -> None:
    assert [str(fault) for fault in header_faults({"X-Empty": ""}, frozenset())] == [
        "X-Empty: must have a value of printable ASCII"
    ]
