"""Rate limits toward a webhook: requests get slots in time, one interval apart, so that no burst exceeds the rate.

This is GCRA without a burst (ITU-T I.371, the leaky bucket as a meter): its state is when the next slot is free.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from shared.domain.durations import Rate

HORIZON = timedelta(seconds=1)
"""How far ahead slots are given out. A drain comes back within it, so a worker that dies wastes a second of them."""
CLOCKS_DIFFER = timedelta(seconds=10)
"""How far the clocks of workers may differ. A slot further ahead comes from a wrong clock and is ignored; one within it
is respected, so a webhook rests for this long at most after a clock was ahead."""


def free_slots(rate: Rate, next_slot_at: datetime | None, now: datetime, *, wanted: int) -> list[datetime]:
    """Up to `wanted` times at which one request each may be sent, all within `HORIZON`.

    `next_slot_at` is the last result of `slot_after`; None before the first. If it lies further ahead than any slot
    that could have been given out, even with `CLOCKS_DIFFER`, it comes from a wrong clock or a lower rate, and is
    ignored.
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
