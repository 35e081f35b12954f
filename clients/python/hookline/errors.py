"""What can go wrong, as exceptions that say which field or variable it is and what is accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class HooklineError(Exception):
    """Anything that this package raises on purpose."""


class InvalidConfiguration(HooklineError):
    """An argument or a `HOOKLINE_*` variable can't be used; nothing was sent."""


class InvalidEvent(HooklineError, ValueError):
    """An event would be refused by every Hookline; nothing was sent. The message names the field."""


@dataclass(frozen=True)
class Fault:
    """One fault that Hookline found: where, as a path such as `data.alias`, and what is accepted there."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class Refused(HooklineError):
    """Hookline refused events for good; the others of the same call were accepted.

    `refusals` has each refused event's JSON with its faults; it is empty when Hookline refused the request as a whole
    (an unknown key, say), of which nothing was accepted. `accepted` counts what was accepted before and beside it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        refusals: Sequence[tuple[bytes, tuple[Fault, ...]]] = (),
        accepted: int = 0,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.refusals = tuple(refusals)
        self.accepted = accepted


class Unreachable(HooklineError):
    """Hookline can't be reached, or is too busy; it is unknown whether it has the last batch.

    Publishing the same events again is always safe. `retry_after_seconds` is what Hookline asked for, if it did.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, accepted: int = 0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.accepted = accepted
