"""How long an endpoint asks to be left alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.delivery.requested_waits import (
    LONGEST_WAIT_SECONDS,
    WAIT_HEADERS,
    WITHOUT_RESET_SECONDS,
    parse_retry_after,
    requested_wait_seconds,
)

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
EPOCH = int(NOW.timestamp())


def wait(status: int, **headers: str) -> float | None:
    """The wait of an answer; `x_ratelimit_reset="5"` stands for a header."""
    given_headers = {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in headers.items()}
    assert given_headers.keys() <= WAIT_HEADERS
    return requested_wait_seconds(status, given_headers, NOW)


@pytest.mark.parametrize("status", [200, 302, 403, 404, 410, 429, 500, 503])
def test_retry_after_counts_with_any_status(status: int) -> None:
    assert wait(status, retry_after="20") == 20


@pytest.mark.parametrize("status", [302, 403, 404, 429, 503])
def test_an_answer_that_names_no_time_asks_for_none(status: int) -> None:
    assert wait(status) is None
    assert wait(status, date="Mon, 23 Nov 2026 09:00:00 GMT") is None
    assert wait(status, retry_after="soon") is None


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        # GitHub, "Rate limits for the REST API": nothing is left until the reset, in seconds since 1970.
        (403, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": str(EPOCH + 90)}, 90),
        (429, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": str(EPOCH + 90)}, 90),
        (403, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": str(EPOCH - 90)}, 0),
        (403, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": f"{EPOCH + 90}.5"}, 90.5),
        # Seconds from now, as others send it.
        (429, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "45"}, 45),
        (403, {"x_ratelimit_remaining": "0"}, WITHOUT_RESET_SECONDS),
        (403, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "soon"}, WITHOUT_RESET_SECONDS),
        (403, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "45", "retry_after": "7"}, 7),
        (403, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "45", "retry_after": "soon"}, 45),
        # A token that may not do this: something is left, and the answer is no passing one.
        (403, {"x_ratelimit_remaining": "4999", "x_ratelimit_reset": str(EPOCH + 90)}, None),
        (403, {"x_ratelimit_reset": str(EPOCH + 90)}, None),
        (403, {"x_ratelimit_remaining": "nan"}, None),
        (404, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "45"}, None),
        (401, {"x_ratelimit_remaining": "0"}, None),
        (403, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "1e300"}, LONGEST_WAIT_SECONDS),
    ],
)
def test_a_used_up_rate_limit_asks_for_its_reset(status: int, headers: dict[str, str], seconds: float | None) -> None:
    assert wait(status, **headers) == seconds


@pytest.mark.parametrize("skew_hours", [-1, 0, 1, 100])
def test_dates_count_from_the_date_of_the_answer(skew_hours: int) -> None:
    """An endpoint whose clock is wrong, or a sender's: both dates are by the endpoint's."""
    there = NOW + timedelta(hours=skew_hours)
    written = there.strftime("%a, %d %b %Y %H:%M:%S GMT")
    later = (there + timedelta(seconds=30)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert wait(429, date=written, retry_after=later) == 30
    reset = str(int(there.timestamp()) + 30)
    assert wait(403, date=written, x_ratelimit_remaining="0", x_ratelimit_reset=reset) == 30


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Nov 2026 09:00:00 GMT"])
def test_without_a_readable_date_they_count_from_the_time_that_is_given(date: str) -> None:
    assert wait(429, date=date, retry_after="Mon, 23 Nov 2026 09:00:30 GMT") == 30


@settings(max_examples=300)
@given(
    status=st.integers(0, 999),
    headers=st.dictionaries(st.sampled_from(sorted(WAIT_HEADERS)), st.binary(max_size=40)),
)
def test_any_headers_ask_for_a_bounded_time_or_for_none(status: int, headers: dict[bytes, bytes]) -> None:
    seconds = requested_wait_seconds(status, headers, NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_WAIT_SECONDS


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        (" 7 ", 7),
        ("9" * 400, LONGEST_WAIT_SECONDS),
        ("Mon, 23 Nov 2026 09:02:00 GMT", 120),
        ("Monday, 23-Nov-26 09:02:00 GMT", 120),
        ("Mon Nov 23 09:02:00 2026", 120),
        ("Mon, 23 Nov 2026 11:02:00 +0200", 120),
        ("Mon, 23 Nov 2026 08:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_WAIT_SECONDS),
    ],
)
def test_retry_after_has_two_forms(value: str, seconds: float) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "-5",
        "+5",
        "1.5",
        "1e3",
        "0x10",
        "12 parsecs",
        "²",
        "\uff11\uff12",
        "1_0",
        "Mon, 99 Nov 2026 09:00:00 GMT",
    ],
)
def test_other_retry_after_is_ignored(value: str) -> None:
    assert parse_retry_after(value, NOW) is None


@settings(max_examples=150)
@given(value=st.one_of(st.text(), st.text("0123456789 :,-+GMTonNv", max_size=40)))
def test_any_retry_after_is_bounded_or_ignored(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_WAIT_SECONDS


@settings(max_examples=50)
@given(seconds=st.integers(0, 86400 * 30))
def test_a_date_counts_from_now(seconds: int) -> None:
    date = (NOW + timedelta(seconds=seconds)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert parse_retry_after(date, NOW) == seconds
