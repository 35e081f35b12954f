"""What has to hold of every target: answers in time, and refusals that say where the fault is."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from shared.domain.errors import InvalidDefinition, Loc

SECONDS = 1.0
SECONDS_EACH_MEBIBYTE = 10.0
MAX_FAULTS = 2_000
MAX_MESSAGE_CHARS = 10_000
"""Longer than any list of what is accepted; what was sent is in a place (`loc`), and not in a message."""


@contextmanager
def in_time(data: bytes, seconds: float = SECONDS) -> Iterator[None]:
    """The block must not use more processor time than its input is worth; waiting costs nothing."""
    started = time.thread_time()
    yield
    used = time.thread_time() - started
    allowed = seconds + SECONDS_EACH_MEBIBYTE * len(data) / (1 << 20)
    assert used <= allowed, f"{used:.2f} s of processor time for {len(data)} bytes"


def decoded(data: bytes) -> Any:
    """The value of JSON text as Python reads it, NaN and lone surrogates included; None for what is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def members_of(data: bytes) -> dict[str, Any]:
    """The members of a JSON object; none for any other text."""
    value = decoded(data)
    return value if isinstance(value, dict) else {}


def check_refusal(refusal: InvalidDefinition, raw: object) -> None:
    """A refusal has faults; each is in words, at a place that is in `raw` or is a member that it lacks."""
    assert refusal.errors
    assert len(refusal.errors) <= MAX_FAULTS
    for error in refusal.errors:
        assert error.msg
        assert len(error.msg) <= MAX_MESSAGE_CHARS
        assert all(isinstance(part, str | int) and not isinstance(part, bool) for part in error.loc)
        assert points_into(error.loc, raw), f"{error.loc} is no place in what was sent"


def points_into(loc: Loc, raw: object) -> bool:
    """Whether a place exists in decoded JSON, or could: the last parts may be members that are missing there."""
    for part in loc:
        if isinstance(raw, Mapping):
            if part not in raw:
                return isinstance(part, str)
            raw = raw[part]
        elif isinstance(raw, list | tuple):
            if not isinstance(part, int) or not 0 <= part < len(raw):
                return False
            raw = raw[part]
        else:
            return False
    return True
