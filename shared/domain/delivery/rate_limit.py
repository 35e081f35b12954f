"""Rate limits toward a webhook: requests get slots in time, one interval apart, so that no burst exceeds the rate.

This is GCRA without a burst (ITU-T I.371, the leaky bucket as a meter): what is stored is when the next slot is free.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from shared.domain.durations import Rate

HORIZON = timedelta(seconds=1)
"""Slots are given out this far ahead: as long as it takes until somebody asks again."""
CLOCKS_DIFFER = timedelta(seconds=10)
"""How far the clocks of workers may be apart: a slot of one whose clock is ahead is waited for, for so long at most."""


def free_slots(rate: Rate, next_slot_at: datetime | None, now: datetime, *, wanted: int) -> list[datetime]:
    """Up to `wanted` times at which one more request may go out, all within the horizon.

    `next_slot_at` is what `slot_after` said last time. One that lies further ahead than any slot that could have been
    given out, `CLOCKS_DIFFER` included, comes from a clock that was wrong, or from a lower rate: it is passed over.
    """
    interval = rate.period / rate.count
    latest = now + HORIZON + interval + CLOCKS_DIFFER
    first = now if next_slot_at is None or next_slot_at > latest else max(next_slot_at, now)
    slots: list[datetime] = []
    while len(slots) < wanted and first < now + HORIZON:
        slots.append(first)
        first += interval
    return slots


def slot_after(rate: Rate, taken: datetime) -> datetime:
    """When the next slot is free after the last one that was taken."""
    return taken + rate.period / rate.count
