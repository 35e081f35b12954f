"""What control refuses of a form, as faults at its fields; other refusals are pages of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from dispatcher.console.forms import Faults, faults_at
from dispatcher.control.errors import Conflict
from shared.domain.errors import InvalidDefinition

_T = TypeVar("_T")


def attempt(act: Callable[[], _T], fields: Iterable[str]) -> _T | Faults:
    """What the action returns, or the faults with which it was refused; nothing was changed then."""
    try:
        return act()
    except (InvalidDefinition, Conflict) as exc:
        return faults_at(exc.errors, fields, str(exc))
