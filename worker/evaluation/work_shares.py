"""How much of a worker's time each entity's filters may take: what each event may cost bounds no stream of events.

An entity that spends more than its share has less left for its next events, until cheap filters alone are affordable.
So answers depend on the time here, and only here: for entities whose filters would keep others waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from shared.domain.filters.budget import EVENT_UNITS

UNITS_PER_SECOND = 20_000_000
"""What an entity's filters may take for long: 6 to 10 % of a process's core."""
BURST_UNITS = 10 * EVENT_UNITS
"""What they may take at once after a rest: the most that ten events may cost, or 4 s of their share."""


class WorkShares:
    """Threads share it without a lock: where two count at the same moment, one entity is given an event's work more."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.spenders: dict[str, tuple[float, float]] = {}
        """What each entity that spent lately has left, and when that was so, by the clock."""

    def units(self, entity: str) -> int:
        """What the next event may cost the entity's automations."""
        spender = self.spenders.get(entity)
        if spender is None:
            return EVENT_UNITS
        left = self._refilled(*spender)
        if left >= BURST_UNITS:
            self.spenders.pop(entity, None)
        return max(0, min(EVENT_UNITS, int(left)))

    def spend(self, entity: str, units: int) -> None:
        """Count what an event has cost."""
        left = self._refilled(*self.spenders.get(entity, (BURST_UNITS, 0.0)))
        self.spenders[entity] = (left - units, self._clock())

    def _refilled(self, left: float, since: float) -> float:
        return min(BURST_UNITS, left + (self._clock() - since) * UNITS_PER_SECOND)
