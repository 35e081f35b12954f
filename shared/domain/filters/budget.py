"""The budget of work for the filters of one event, so that no definition and no event can hold up others.

Work is counted in units of about 3 ns: the time that RE2 takes at worst for one instruction of a pattern's program and
one byte of a text (measured), or a comparison of a few bytes. It is counted and not timed, so that an event gives the
same answer on any machine at any load. Cheap tests are not counted while matching: their sum is known when a filter is
compiled.

The budget is a context variable, as `decimal` has its precision: otherwise it would be an argument of every test of
every filter. Without one nothing is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from shared.domain.errors import HooklineError

EVENT_UNITS: Final = 8_000_000
"""The work that one event may cost all automations of an entity, beyond each one's free units: 24 ms at worst."""
FREE_UNITS: Final = 32_000
"""The work that each filter may cost for each event without drawing on the event's budget: 0.1 ms at worst."""


class FilterTooCostly(HooklineError):
    """A filter asks for more work on an event than its budget has left: it is neither true nor false of it."""


class FilterBudget:
    """The units that are left for the current event. It belongs to one thread."""

    __slots__ = ("left", "spent", "units")

    def __init__(self, units: int = EVENT_UNITS) -> None:
        self.units = units
        self.left = units
        self.spent = 0
        """What was taken in all, for whoever sets it back."""

    def begin(self) -> None:
        """Start over, for another event or another entity's automations."""
        self.left = self.units

    def take(self, units: int) -> None:
        """Raises FilterTooCostly when less than `units` is left; then nothing is taken."""
        if units > self.left:
            raise FilterTooCostly
        self.left -= units
        self.spent += units

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
