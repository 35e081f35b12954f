"""Durations and rates as people write them: `24h`, `90s`, `1h30m`; `60/min`, `10/s`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

from shared.domain.errors import InvalidDefinition

_UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhdw])")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|[smhdw]))+")
_RATE = re.compile(r"([0-9]{1,6}) */ *(s|sec|second|m|min|minute|h|hour|d|day)")

DURATION_FORM = "a duration such as 30s, 15m, 24h or 5d"
RATE_FORM = "a rate such as 10/s, 60/min, 5/h or 100/d"
MAX_RATE_COUNT = 1000
"""An automation with a rate limit keeps the times of its last firings, as many as the rate counts, eight bytes each. So
its state has 8 KB at most, which is stored again with each firing."""
MAX_DURATION = timedelta(days=3660)
"""Ten years: longer than anything is kept, and far from the dates that a datetime can't hold."""


def parse_duration(text: object) -> timedelta:
    """A duration in whole milliseconds from text such as `24h` or `1h30m`; a plain number counts seconds.

    Raises:
        InvalidDefinition: for anything else, for one below zero, and for one over ten years.
    """
    if isinstance(text, timedelta):
        return _check_bounds(text.total_seconds())
    if isinstance(text, int | float) and not isinstance(text, bool):
        return _check_bounds(text)
    if isinstance(text, str) and _DURATION.fullmatch(text):
        return _check_bounds(sum(float(n) * _UNIT_SECONDS[unit] for n, unit in _PART.findall(text)))
    raise InvalidDefinition.at((), f"must be {DURATION_FORM}")


def _check_bounds(seconds: float) -> timedelta:
    """Finer than a millisecond nothing is counted, and `format_duration` could not write it."""
    if not 0 <= seconds <= MAX_DURATION.total_seconds():
        raise InvalidDefinition.at((), f"must be {DURATION_FORM}, and no longer than ten years")
    return timedelta(milliseconds=round(seconds * 1000))


def format_duration(duration: timedelta) -> str:
    """The shortest text in whole units that `parse_duration` reads back; zero is `0s`."""
    milliseconds = round(duration.total_seconds() * 1000)
    if milliseconds == 0:
        return "0s"
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, milliseconds = divmod(milliseconds, round(_UNIT_SECONDS[unit] * 1000))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` within any `period`."""

    count: int
    period: timedelta

    def __str__(self) -> str:
        names = {1.0: "s", 60.0: "min", 3600.0: "h", 86400.0: "d"}
        return f"{self.count}/{names[self.period.total_seconds()]}"


def parse_rate(text: object) -> Rate:
    """A rate from text such as `60/min`.

    Raises:
        InvalidDefinition: for anything else; the count lies between 1 and 1000.
    """
    if isinstance(text, Rate):
        return text
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    if match is None or not 1 <= int(match[1]) <= MAX_RATE_COUNT:
        raise InvalidDefinition.at((), f"must be {RATE_FORM}, with a count from 1 to {MAX_RATE_COUNT}")
    return Rate(int(match[1]), timedelta(seconds=_UNIT_SECONDS[match[2][0]]))
