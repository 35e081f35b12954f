"""The types of the values in events: names, labels, steps, samples and times, each with its check.

Where pydantic's own JSON Schema would differ from the check, the schema is written out here. Must not know which event
has which member.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, TypeGuard

from pydantic import AwareDatetime, BeforeValidator, FailFast, Field, PlainValidator, WithJsonSchema

# Control characters have no place in a name: PostgreSQL refuses NUL in text, and the rest would break logs.
MAX_NAME_LENGTH = 512
_NAME_PATTERN = r"^[^\x00-\x1f\x7f]+$"
_NAME = re.compile(r"[^\x00-\x1f\x7f]+")
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH, pattern=_NAME_PATTERN)]
Label = Annotated[str, Field(max_length=MAX_NAME_LENGTH, pattern=r"^[^\x00-\x1f\x7f]*$")]

MAX_TEXT_LENGTH = 4096
_TEXT_PATTERN = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"
Text = Annotated[str, Field(max_length=MAX_TEXT_LENGTH, pattern=_TEXT_PATTERN)]
"""What people wrote for people: it may have tabs and several lines."""

NAME_FORM = f"a name of 1 to {MAX_NAME_LENGTH} characters, without control characters"

# A list is refused at its first fault: a megabyte of faulty labels must not become as many faults.
Labels = Annotated[tuple[Label, ...], FailFast()]


def is_name(value: object) -> TypeGuard[str]:
    """Whether an event could have this as a `Name`."""
    return isinstance(value, str) and len(value) <= MAX_NAME_LENGTH and _NAME.fullmatch(value) is not None


_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def non_finite(value: float) -> str:
    """The name, in events, of a number that is not finite."""
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


_NOT_A_NUMBER = "Input should be a valid number"


def _sample(value: object) -> int | float:
    if value is None:  # what JavaScript, orjson and pandas write for NaN
        return math.nan
    if isinstance(value, str):
        if value not in _NON_FINITE:
            raise ValueError('must be a number, null, or one of the strings "NaN", "Infinity", "-Infinity"')
        return _NON_FINITE[value]
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    if not isinstance(value, int | float):
        raise ValueError(_NOT_A_NUMBER)
    if isinstance(value, float) or -(2**63) <= value < 2**63:
        return value
    try:
        return float(value)
    except OverflowError:
        raise ValueError(_NOT_A_NUMBER) from None


def _whole(value: object) -> object:
    """1.0 is a whole number to JSON Schema, and some languages write whole numbers so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# RFC 3339 section 5.6. Pydantic alone would also take a number, or a date, for a time.
_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII | re.IGNORECASE,
)


def _time(value: object) -> object:
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise ValueError("must be a time with its zone as RFC 3339 writes it, such as 2026-11-23T09:00:00Z")
    return value


_SAMPLE_SCHEMA = {"anyOf": [{"type": "number"}, {"enum": sorted(_NON_FINITE)}, {"type": "null"}]}
MAX_METRICS = 1000


def _few(value: object) -> object:
    """Before each is looked at: too many samples are one fault, not one each."""
    if isinstance(value, dict) and len(value) > MAX_METRICS:
        raise ValueError(f"must have at most {MAX_METRICS} metrics")
    return value


Sample = Annotated[int | float, PlainValidator(_sample)]
"""A whole number of 64 bits stays one, so that it can be told as it was logged; longer ones become fractions."""
Samples = Annotated[
    dict[Name, Sample],
    Field(min_length=1, max_length=MAX_METRICS),
    BeforeValidator(_few),
    # Pydantic's own schema would let any value pass under a name that the pattern refuses.
    WithJsonSchema(
        {
            "type": "object",
            "minProperties": 1,
            "maxProperties": MAX_METRICS,
            "propertyNames": {"minLength": 1, "maxLength": MAX_NAME_LENGTH, "pattern": _NAME_PATTERN},
            "additionalProperties": _SAMPLE_SCHEMA,
        }
    ),
]
Step = Annotated[int, Field(ge=0, lt=2**63, strict=True), BeforeValidator(_whole)]
MIN_HEARTBEAT_SECONDS = 1
MAX_HEARTBEAT_SECONDS = 30 * 86_400


def _seconds(value: object) -> object:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"must be a number of seconds, from {MIN_HEARTBEAT_SECONDS} to {MAX_HEARTBEAT_SECONDS:,}")
    return value


Heartbeat = Annotated[
    float, Field(ge=MIN_HEARTBEAT_SECONDS, le=MAX_HEARTBEAT_SECONDS, allow_inf_nan=False), BeforeValidator(_seconds)
]
"""After how many seconds of silence a run counts as crashed."""
Time = Annotated[AwareDatetime, BeforeValidator(_time)]
