"""Time ranges of dry runs: how people write them, and what they mean in Unix milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import TypeAdapter, ValidationError

from shared.domain.durations import DURATION_FORM, parse_duration
from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.events.values import Time

_TIME: TypeAdapter[datetime] = TypeAdapter(Time)


EPOCH_START: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time_range(since: object, until: object, now: datetime) -> TimeRange:
    """A range from times in RFC 3339, or durations before now such as `1h`; without `until` it ends now.

    Raises:
        InvalidDefinition: at `since` or `until`.
    """
    faults: list[FieldError] = []
    begin = _moment("since", since, now, faults)
    end = now if until is None else _moment("until", until, now, faults)
    if begin is not None and end is not None and begin >= end:
        faults.append(FieldError(("since",), "must be before until, which is now by default"))
    if faults or begin is None or end is None:
        raise InvalidDefinition(*faults)
    return TimeRange(unix_ms(begin), unix_ms(end))


def parse_moment(member: str, text: object, now: datetime) -> datetime:
    """A time in RFC 3339, or a duration before now, such as `1h`. Raises InvalidDefinition at `member`."""
    faults: list[FieldError] = []
    found = _moment(member, text, now, faults)
    if found is None:
        raise InvalidDefinition(*faults)
    return found


def unix_ms(moment: datetime) -> int:
    """A moment in whole Unix milliseconds."""
    return (moment - EPOCH_START) // timedelta(milliseconds=1)


def moment(unix_ms: int) -> datetime:
    """The moment of Unix milliseconds."""
    return EPOCH_START + timedelta(milliseconds=unix_ms)


def _moment(member: str, text: object, now: datetime, faults: list[FieldError]) -> datetime | None:
    try:
        return max(_TIME.validate_python(text), EPOCH_START)
    except ValidationError:
        pass
    try:
        if isinstance(text, str):
            return max(now - parse_duration(text), EPOCH_START)
    except InvalidDefinition:
        pass
    form = f"must be a time with its zone such as 2026-11-23T09:00:00Z, or how long ago: {DURATION_FORM}"
    faults.append(FieldError((member,), form))
    return None


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From `since_ms` on and before `until_ms`, in Unix milliseconds."""

    since_ms: int
    until_ms: int
