"""W3C trace context: reading `traceparent`, and deriving the contexts of evaluations and attempts."""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass
from datetime import datetime

import pydantic_core


def nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1000


TRACEPARENT = "traceparent"


_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII).fullmatch


_random = random.Random()  # noqa: S311  (for ids of spans, which protect nothing)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span's place: its trace, its own id, and whether it is recorded."""

    trace_id: int
    span_id: int
    sampled: bool = True

    @property
    def header(self) -> str:
        """The value of `traceparent`."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{'01' if self.sampled else '00'}"

    @property
    def trace(self) -> str:
        """The trace's id, as it is written."""
        return f"{self.trace_id:032x}"


def read_traceparent(value: object) -> TraceContext | None:
    """The context in a `traceparent`; None when it is none (https://www.w3.org/TR/trace-context/, version 00)."""
    match = _TRACEPARENT(value) if isinstance(value, str) else None
    if match is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in match.groups())
    return TraceContext(trace_id, span_id, bool(flags & 1)) if trace_id and span_id else None


def producer_context(body: bytes) -> TraceContext | None:
    """The context in an event's JSON, in which `NaN` without quotes is as good as it is to evaluation."""
    try:
        members = pydantic_core.from_json(body, allow_inf_nan=True)
    except ValueError:
        return None
    return read_traceparent(members.get(TRACEPARENT)) if isinstance(members, dict) else None


def child_context(parent: TraceContext | None) -> TraceContext:
    """The context of a new span under `parent`, or in a trace of its own."""
    span_id = _random.getrandbits(64) or 1
    if parent is None:
        return TraceContext(_random.getrandbits(128) or 1, span_id)
    return TraceContext(parent.trace_id, span_id, parent.sampled)


def attempt_context(traceparent: str | None, delivery_id: str, number: int, claim: int) -> TraceContext:
    """The context of one attempt's span, which follows from the arguments.

    So it is the same in the request, which has it as `traceparent`, and in the span, which is recorded afterwards.
    """
    digest = hashlib.sha256(f"{delivery_id}/{number}/{claim}".encode()).digest()
    parent = read_traceparent(traceparent)
    span_id = int.from_bytes(digest[:8]) or 1
    if parent is None:
        return TraceContext(int.from_bytes(hashlib.sha256(delivery_id.encode()).digest()[:16]) or 1, span_id)
    return TraceContext(parent.trace_id, span_id, parent.sampled)
