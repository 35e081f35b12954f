"""How much work the filters of one event may take, so that no definition and no event can keep others waiting.

Work is counted in units of about 3 ns: what RE2 takes at worst for one instruction of a pattern's program and one byte
of a text (measured), and what comparing a few bytes takes. It is counted and not timed, so that an event gives the same
answer on any machine at any load. What costs next to nothing is not counted while matching: its sum is known when a
filter is compiled.

The budget of whoever matches is found by way of the context, as `decimal` finds its precision: it would otherwise pass
through every test of every filter. Without one nothing is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from shared.domain.errors import HooklineError

EVENT_UNITS: Final = 8_000_000
"""What one event may cost the automations of one entity together, beyond what each has free: 24 ms at worst."""
FREE_UNITS: Final = 32_000
"""What each filter may cost for each event without drawing on the event's budget: 0.1 ms at worst."""


class FilterTooCostly(HooklineError):
    """A filter asks for more work on an event than its budget has left: it is neither true nor false of it."""


class FilterBudget:
    """What is left for the event at hand. It belongs to one thread."""

    __slots__ = ("left", "units")

    def __init__(self, units: int = EVENT_UNITS) -> None:
        self.units = units
        self.left = units

    def begin(self) -> None:
        """Go on to another event, or to another entity's automations."""
        self.left = self.units

    def take(self, units: int) -> None:
        """Raises FilterTooCostly when less than `units` is left; then nothing is taken."""
        if units > self.left:
            raise FilterTooCostly
        self.left -= units

    @contextmanager
    def applied(self) -> Iterator[FilterBudget]:
        """Bound the filters that are evaluated in this block, in this thread."""
        token = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(token)


_current: ContextVar[FilterBudget | None] = ContextVar("filter_budget", default=None)


def charge(units: int) -> None:
    """Count work that is about to be done. Raises FilterTooCostly where it is more than is left."""
    budget = _current.get()
    if budget is not None:
        budget.take(units)
