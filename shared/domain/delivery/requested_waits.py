"""How long an endpoint asks to be left alone, by the headers of its answer.

A date counts from the answer's own `Date`: both are by the endpoint's clock. Without one it counts from the time that
the caller passes in, which is the database's, so that the clock of the sending host does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_WAIT_SECONDS = 366 * 86400.0
"""Keeps a time that is made of it within what a datetime can hold. The policy's cap is usually far lower."""
WITHOUT_RESET_SECONDS = 60.0
"""How long to wait where nothing is left of a rate limit and no header says until when (GitHub, "Rate limits for the
REST API")."""
_LATEST_DELTA = 100_000_000
"""Below it, `X-RateLimit-Reset` counts seconds from now, as some services have it; from it on, seconds since 1970."""
_RATE_LIMITED = frozenset({403, 429})

WAIT_HEADERS = frozenset({b"retry-after", b"x-ratelimit-remaining", b"x-ratelimit-reset", b"date"})
"""The names, in lower case, of the headers that `requested_wait_seconds` looks at."""


def requested_wait_seconds(status: int, headers: Mapping[bytes, bytes], now: datetime) -> float | None:
    """Seconds to wait by an answer's headers, from 0 to `LONGEST_WAIT_SECONDS`; None where it does not ask for it.

    `Retry-After` counts with any status (RFC 9110, section 10.2.3). On 403 and 429 GitHub's form does too: nothing is
    left by `X-RateLimit-Remaining`, and `X-RateLimit-Reset` says until when.

    Args:
        status: the answer's.
        headers: those of `WAIT_HEADERS` that it has, by their names in lower case.
        now: the time, aware, for an answer without a `Date`.
    """
    now = _date(_text(headers, b"date") or "") or now
    retry_after = _text(headers, b"retry-after")
    wait = None if retry_after is None else parse_retry_after(retry_after, now)
    return _until_reset(headers, now) if wait is None and status in _RATE_LIMITED else wait


def parse_retry_after(value: str, now: datetime) -> float | None:
    """Seconds to wait by a `Retry-After` header (RFC 9110 section 10.2.3: whole seconds, or an HTTP date in any form).

    Never negative, at most a year; None when the text is neither form. `now` is aware.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_WAIT_SECONDS)
    date = _date(text)
    return None if date is None else _bounded((date - now).total_seconds())


def _until_reset(headers: Mapping[bytes, bytes], now: datetime) -> float | None:
    remaining = _number(headers, b"x-ratelimit-remaining")
    if remaining is None or remaining > 0:
        return None
    reset = _number(headers, b"x-ratelimit-reset")
    if reset is None:
        return WITHOUT_RESET_SECONDS
    return _bounded(reset if reset < _LATEST_DELTA else reset - now.timestamp())


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    # asctime, the oldest form, names no zone; all HTTP dates are in GMT.
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _number(headers: Mapping[bytes, bytes], name: bytes) -> float | None:
    text = _text(headers, name)
    try:
        number = float(text) if text is not None and text.isascii() else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1").strip()


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_WAIT_SECONDS)
