"""Durations and rates: what people may write, how it is written back, and everything else refused."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.durations import MAX_DURATION, Rate, format_duration, parse_duration, parse_rate
from shared.domain.errors import InvalidDefinition

DURATION = "must be a duration such as 30s, 15m, 24h or 5d"
TOO_LONG = f"{DURATION}, and no longer than ten years"
RATE = "must be a rate such as 10/s, 60/min, 5/h or 100/d, with a count from 1 to 1000"

NO_DURATIONS = (
    "| |s|5|5 s| 5s|5s |5s\n|-5s|+5s|5S|5sec|5y|.5s|5.s|1e3s|1h 30m|1,5h|nan|infs|1h-30m|\N{ARABIC-INDIC DIGIT FIVE}s"
)
NO_RATES = (
    "|60|/min|60/|0/s|1001/s|999999/s|1000000/s|-1/s|1.5/s|60/w|60/ms|60/minutes|60/min | 60/min|60/min\n|60\n/min"
    "|60 per min|\N{FULLWIDTH DIGIT SIX}/s|" + "9" * 5000 + "/s"
)
durations = st.integers(0, int(MAX_DURATION / timedelta(milliseconds=1))).map(lambda ms: timedelta(milliseconds=ms))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0s", timedelta()),
        ("500ms", timedelta(milliseconds=500)),
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("24h", timedelta(days=1)),
        ("5d", timedelta(days=5)),
        ("2w", timedelta(weeks=2)),
        ("1h30m", timedelta(minutes=90)),
        ("30m1h", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        ("0.1s", timedelta(milliseconds=100)),
        ("1m1ms", timedelta(seconds=60, milliseconds=1)),
        ("3660d", MAX_DURATION),
        (90, timedelta(seconds=90)),
        (0.25, timedelta(milliseconds=250)),
        (0, timedelta()),
        (timedelta(minutes=3), timedelta(minutes=3)),
        # Finer than a millisecond nothing is counted.
        ("0.4ms", timedelta()),
        ("1.6ms", timedelta(milliseconds=2)),
        (timedelta(microseconds=1700), timedelta(milliseconds=2)),
    ],
)
def test_durations_as_people_write_them(text: object, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", [*NO_DURATIONS.split("|"), b"5s", None, True, False, [], {}, ["5s"], object()])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        parse_duration(text)
    assert [(error.loc, error.msg) for error in caught.value.errors] == [((), DURATION)]


@pytest.mark.parametrize(
    "value",
    [
        "3661d",
        "9" * 400 + "s",
        "9" * 5000 + "w",
        -1,
        -0.001,
        10**10,
        10**400,
        -(10**400),
        math.inf,
        -math.inf,
        math.nan,
        timedelta(seconds=-1),
        timedelta.max,
    ],
)
def test_a_duration_is_neither_negative_nor_longer_than_ten_years(value: object) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        parse_duration(value)
    assert [(error.loc, error.msg) for error in caught.value.errors] == [((), TOO_LONG)]


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(milliseconds=1500), "1s500ms"),
        (timedelta(hours=24), "1d"),
        (timedelta(hours=25, seconds=1), "1d1h1s"),
        (timedelta(weeks=2), "14d"),
        (timedelta(microseconds=400), "0s"),
    ],
)
def test_durations_are_written_in_whole_units(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text


@given(durations)
def test_what_is_written_is_read_back(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@given(st.floats(0, MAX_DURATION.total_seconds()))
def test_whatever_was_read_can_be_written_and_read_again(seconds: float) -> None:
    once = parse_duration(seconds)
    assert parse_duration(format_duration(once)) == once
    assert abs(once.total_seconds() - seconds) <= 0.00051


@given(st.text(st.sampled_from("0123456789.smhdw -"), max_size=12))
def test_every_text_is_a_duration_or_refused(text: str) -> None:
    try:
        once = parse_duration(text)
    except InvalidDefinition:
        return
    assert timedelta() <= once <= MAX_DURATION
    assert parse_duration(format_duration(once)) == once


@pytest.mark.parametrize(
    ("text", "count", "period", "written"),
    [
        ("10/s", 10, timedelta(seconds=1), "10/s"),
        ("10/sec", 10, timedelta(seconds=1), "10/s"),
        ("10/second", 10, timedelta(seconds=1), "10/s"),
        ("60/m", 60, timedelta(minutes=1), "60/min"),
        ("60 / min", 60, timedelta(minutes=1), "60/min"),
        ("60/minute", 60, timedelta(minutes=1), "60/min"),
        ("5/h", 5, timedelta(hours=1), "5/h"),
        ("5/hour", 5, timedelta(hours=1), "5/h"),
        ("100/d", 100, timedelta(days=1), "100/d"),
        ("1/day", 1, timedelta(days=1), "1/d"),
        ("1000/s", 1000, timedelta(seconds=1), "1000/s"),
        ("007/s", 7, timedelta(seconds=1), "7/s"),
    ],
)
def test_rates_as_people_write_them(text: str, count: int, period: timedelta, written: str) -> None:
    rate = parse_rate(text)
    assert rate == Rate(count, period)
    assert str(rate) == written
    assert parse_rate(rate) is rate


@pytest.mark.parametrize(
    "text", [*NO_RATES.split("|"), 60, 1.0, True, None, [], {}, {"count": 1}, timedelta(1), object()]
)
def test_what_is_no_rate(text: object) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        parse_rate(text)
    assert [(error.loc, error.msg) for error in caught.value.errors] == [((), RATE)]


@settings(max_examples=50)
@given(st.integers(1, 1000), st.sampled_from(["s", "min", "h", "d"]))
def test_a_rate_that_is_written_is_read_back(count: int, unit: str) -> None:
    assert str(parse_rate(f"{count}/{unit}")) == f"{count}/{unit}"
