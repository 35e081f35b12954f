"""Cooldowns and rate limits: whether a match may fire, by when its automation fired before.

The time is that at which the stream received the event, so evaluating the same stream again gives the same answer.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import timedelta

from shared.domain.durations import Rate
from shared.domain.errors import UnreadableState


@dataclass(frozen=True, slots=True)
class FiringState:
    """When an automation fired, under one of its keys, in Unix milliseconds."""

    last_fired_ms: int | None = None
    """The newest firing, for the cooldown; None before the first."""
    recent_ms: tuple[int, ...] = ()
    """The newest firings in ascending order, as many as the rate limit counts."""

    def to_bytes(self) -> bytes:
        """The recent firings as packed little-endian 64-bit integers."""
        return struct.pack(f"<{len(self.recent_ms)}q", *self.recent_ms)

    @staticmethod
    def recent_from_bytes(packed: bytes) -> tuple[int, ...]:
        """The recent firings that `to_bytes` packed. Raises UnreadableState."""
        try:
            return struct.unpack(f"<{len(packed) // 8}q", packed)
        except struct.error as error:
            raise UnreadableState("damaged firing times") from error


def cooldown_refusal(state: FiringState, period: timedelta, now_ms: int) -> str | None:
    """`cooldown` if the last firing is less than `period` ago; None when the automation may fire."""
    if state.last_fired_ms is None or now_ms - state.last_fired_ms >= period.total_seconds() * 1000:
        return None
    return "cooldown"


def rate_refusal(state: FiringState, rate: Rate, now_ms: int) -> str | None:
    """`rate_limit` if the period before now holds as many firings as the rate allows; None when there is room."""
    since = now_ms - rate.period.total_seconds() * 1000
    return "rate_limit" if sum(fired > since for fired in state.recent_ms) >= rate.count else None


def after_firing(state: FiringState, rate: Rate | None, now_ms: int) -> FiringState:
    """The state after a firing, which may be older than the last one. Without a rate the recent firings stay."""
    last = now_ms if state.last_fired_ms is None else max(state.last_fired_ms, now_ms)
    recent = state.recent_ms if rate is None else tuple(sorted((*state.recent_ms, now_ms))[-rate.count :])
    return FiringState(last, recent)
