"""What a match leads to: fire, or skip because of the cooldown or the rate limit.

Time is the moment at which the stream received the event, so evaluating the same stream again gives the same answer.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import timedelta

from shared.domain.durations import Rate
from shared.domain.errors import UnreadableState


@dataclass(slots=True)
class FiringState:
    """When an automation fired: last for one cooldown key, and lately for its rate limit, in Unix milliseconds."""

    last_fired_ms: int | None = None
    recent_ms: tuple[int, ...] = ()

    def to_bytes(self) -> bytes:
        """The recent firings as packed little-endian 64-bit integers."""
        return struct.pack(f"<{len(self.recent_ms)}q", *self.recent_ms)

    @staticmethod
    def recent_from_bytes(packed: bytes) -> tuple[int, ...]:
        """What `to_bytes` packed. Raises `UnreadableState`."""
        try:
            return struct.unpack(f"<{len(packed) // 8}q", packed)
        except struct.error as error:
            raise UnreadableState("damaged firing times") from error


def cooldown_refusal(state: FiringState, period: timedelta, now_ms: int) -> str | None:
    """Why the cooldown holds a firing back now, or None."""
    if state.last_fired_ms is None or now_ms - state.last_fired_ms >= period.total_seconds() * 1000:
        return None
    return "cooldown"


def rate_refusal(state: FiringState, rate: Rate, now_ms: int) -> str | None:
    """Why the rate limit holds a firing back now, or None. The window slides: no span ever holds more than the rate."""
    since = now_ms - rate.period.total_seconds() * 1000
    return "rate_limit" if sum(fired > since for fired in state.recent_ms) >= rate.count else None


def record_firing(state: FiringState, rate: Rate | None, now_ms: int) -> None:
    """Note a firing; only as many are remembered as the rate can count."""
    state.last_fired_ms = now_ms if state.last_fired_ms is None else max(state.last_fired_ms, now_ms)
    if rate is not None:
        state.recent_ms = tuple(sorted((*state.recent_ms, now_ms))[-rate.count :])
