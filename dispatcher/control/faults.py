"""Collecting the faults of checks that do not depend on each other, so that one refusal names them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dispatcher.control.errors import Conflict
from shared.domain.errors import FieldError, InvalidDefinition, Loc

_T = TypeVar("_T")


class FaultCollector:
    """The faults found so far, in the order in which they were found."""

    def __init__(self) -> None:
        self.faults: list[FieldError] = []

    def run(self, check: Callable[[], _T], *, loc: Loc = ()) -> _T | None:
        """Run a check.

        Returns:
            Its result; None when it refused. Its faults are kept then, as faults at `loc`.
        """
        try:
            return check()
        except InvalidDefinition as exc:
            self.faults += exc.under(*loc).errors
        except Conflict as exc:
            self.faults += [error.under(*loc) for error in exc.errors] or [FieldError(loc, str(exc))]
        return None
