"""`Retry-After`: any text is a time to wait within bounds or nothing, and both of RFC 9110's forms are understood."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime

from hypothesis import strategies as st

from shared.domain.delivery.requested_waits import LONGEST_WAIT_SECONDS, parse_retry_after
from tests.fuzz.oracles import in_time
from tests.fuzz.target import Target

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
_DAYS = "Mon|Tue|Wed|Thu|Fri|Sat|Sun"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# IMF-fixdate and asctime, RFC 9110 section 5.6.7.
_FIXED = re.compile(
    rf"(?:{_DAYS}), ([0-9]{{2}}) ({'|'.join(_MONTHS)}) ([0-9]{{4}}) ([0-9]{{2}}):([0-9]{{2}}):([0-9]{{2}}) GMT"
)
_ASCTIME = re.compile(
    rf"(?:{_DAYS}) ({'|'.join(_MONTHS)}) ([0-9]{{2}}| [0-9]) ([0-9]{{2}}):([0-9]{{2}}):([0-9]{{2}}) ([0-9]{{4}})"
)


def check(data: bytes) -> None:
    """A header as it comes off the wire: bytes, read as Latin-1."""
    text = data.decode("latin-1")
    with in_time(data):
        seconds = parse_retry_after(text, NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_WAIT_SECONDS
    if re.fullmatch("[0-9]+", text):
        digits = text.lstrip("0") or "0"
        assert seconds == min(int(digits[:12]), LONGEST_WAIT_SECONDS)
    elif (date := _date(text)) is not None:
        assert seconds == min(max((date - NOW).total_seconds(), 0), LONGEST_WAIT_SECONDS)


def _date(text: str) -> datetime | None:
    if found := _FIXED.fullmatch(text):
        day, month, year, *clock = found.groups()
    elif found := _ASCTIME.fullmatch(text):
        month, day, *clock, year = found.groups()
    else:
        return None
    if int(year) < 1900:
        return None  # read as a year of two digits, which no form has written since
    try:
        hour, minute, second = map(int, clock)
        return datetime(int(year), _MONTHS.index(month) + 1, int(day), hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


_moments = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001 - the zone is put on below
_dates = st.one_of(
    _moments.map(lambda moment: format_datetime(moment.replace(tzinfo=UTC), usegmt=True)),
    _moments.map(lambda moment: moment.strftime("%a %b %e %H:%M:%S %Y")),
    _moments.map(lambda moment: moment.strftime("%A, %d-%b-%y %H:%M:%S GMT")),
)


def _spliced(text: str, other: str, at: int) -> str:
    at %= len(text) + 1
    return text[:at] + other + text[at:]


_insertions = st.sampled_from(("0", " ", "+9999", "-2400", "(", ",", "GMT", "\xb2", "99999"))
_texts = st.one_of(
    _dates,
    st.integers(-5, 10**30).map(str),
    st.builds(_spliced, _dates, _insertions, st.integers(0, 40)),
    st.text(alphabet="0123456789 :,-+GMTJanSun()", max_size=30),
)

TARGET = Target(
    check,
    inputs=_texts.map(lambda text: text.encode("latin-1")),
    words=("Sun, 06 Nov 1994 08:49:37 GMT", "Nov", "GMT", "+0000", "-9999", "Sunday", "94", "0000", "9" * 30),
    is_json=False,
)
