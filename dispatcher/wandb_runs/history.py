"""What a run logged, as the `wandb` client writes it: a line of JSON for each step, made into samples. Pure.

Lines are those of `wandb-history.jsonl`: names of the client's own begin with `_`, nested dictionaries are joined by
`.`, media are dictionaries with `_type`, and `NaN` and `Infinity` stand without quotes
(https://github.com/wandb/wandb, `core/internal/filestream/updatehistory.go`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeGuard

import orjson

from shared.domain.events.values import MAX_METRICS, MAX_NAME_LENGTH, MAX_TEXT_LENGTH, non_finite
from shared.domain.json_text import read_event_json

Sample = int | float | str
"""A number, or one of "NaN", "Infinity", "-Infinity"."""
MAX_LEVELS: Final = 20
MAX_SAMPLES_BYTES: Final = 256 << 10
"""About how much one event has of samples; more of one step become further events."""
_NON_FINITE: Final = frozenset({"NaN", "Infinity", "-Infinity"})
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_IN_LINES: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LAST_MOMENT: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Logged:
    """What one line says."""

    step: int | None
    time: str | None
    """When it was logged, RFC 3339."""
    samples: Mapping[str, Sample]
    """Perhaps none: text, media and booleans are no samples."""

    def parts(self) -> Iterator[dict[str, Sample]]:
        """The samples, in as many parts as the limits of one event make necessary."""
        part: dict[str, Sample] = {}
        size_bytes = 0
        for name, value in self.samples.items():
            cost = 4 * len(name) + 32
            if part and (len(part) >= MAX_METRICS or size_bytes + cost > MAX_SAMPLES_BYTES):
                yield part
                part, size_bytes = {}, 0
            part[name] = value
            size_bytes += cost
        if part:
            yield part


def read_line(text: str) -> Logged | None:
    """What a line of the history says; None for one that is no JSON object."""
    members = read_object(text)
    if members is None:
        return None
    samples: dict[str, Sample] = {}
    for key, value in members.items():
        if not key.startswith("_"):
            _collect(key, value, samples, MAX_LEVELS)
    return Logged(_step(members.get("_step")), _time(members.get("_timestamp")), samples)


def read_object(text: str) -> dict[str, Any] | None:
    """The object of a JSON text in which `NaN` may stand without quotes; None for anything else."""
    try:
        value = read_event_json(text.encode())
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return None
    return value if isinstance(value, dict) else None


def clean_text(value: object) -> str:
    """A text as events may have it: without control characters, and no longer than a name; blank for anything else."""
    return _CONTROL.sub(" ", value[:MAX_NAME_LENGTH]).strip() if isinstance(value, str) else ""


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a number of 64 bits; a boolean is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -(2.0**63) <= value < 2.0**63


def clean_lines(text: str) -> str:
    """A text of several lines as events may have it: without other control characters, cut to its bounds."""
    return _CONTROL_IN_LINES.sub(" ", text[:MAX_TEXT_LENGTH]).strip()


def rfc_3339(moment: datetime) -> str:
    """A moment as events have it, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _collect(name: str, value: object, samples: dict[str, Sample], levels: int) -> None:
    if isinstance(value, dict):
        if levels and "_type" not in value:
            for key, inner in value.items():
                _collect(f"{name[:MAX_NAME_LENGTH]}.{key}", inner, samples, levels - 1)
        return
    found = _sample(value)
    if found is not None and (cleaned := clean_text(name)):
        samples[cleaned] = found


def _sample(value: object) -> Sample | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return value if value in _NON_FINITE else None
    if isinstance(value, int):
        try:
            return value if -(2**63) <= value < 2**63 else float(value)
        except OverflowError:
            return non_finite(math.inf if value > 0 else -math.inf)
    if isinstance(value, float):
        return value if math.isfinite(value) else non_finite(value)
    return None


def _step(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _time(value: object) -> str | None:
    if not is_number(value) or not 0 <= value < _LAST_MOMENT:
        return None
    return rfc_3339(datetime.fromtimestamp(value, UTC))
