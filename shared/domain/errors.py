"""Hookline's own errors: one root, and definitions that name each faulty field and what is accepted.

An endpoint that answers 500 is not an error but an outcome (`shared.domain.delivery.retries`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

Loc = tuple[str | int, ...]


class HooklineError(Exception):
    """Root of every error that Hookline raises on purpose."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of a definition or an event: where it is, and what is accepted there."""

    loc: Loc
    msg: str

    def under(self, *prefix: str | int) -> FieldError:
        """The fault at its place in an enclosing object."""
        return FieldError((*prefix, *self.loc), self.msg)

    def __str__(self) -> str:
        return f"{'.'.join(str(part) for part in self.loc)}: {self.msg}" if self.loc else self.msg


class InvalidDefinition(HooklineError):
    """A definition or an event was refused; `errors` names each field and what is accepted. Nothing was changed."""

    def __init__(self, *errors: FieldError) -> None:
        super().__init__("; ".join(str(error) for error in errors))
        self.errors = errors

    @classmethod
    def at(cls, loc: Loc, msg: str) -> Self:
        """A refusal with a single fault."""
        return cls(FieldError(loc, msg))

    def under(self, *prefix: str | int) -> InvalidDefinition:
        """The refusal with its faults at their places in an enclosing object."""
        return InvalidDefinition(*(error.under(*prefix) for error in self.errors))


class EndpointUnusable(HooklineError):
    """No request can be made with a webhook's URL, policy or secret: the text says which and why, without its value."""


class UnreadableState(HooklineError):
    """Stored bytes are no state that this version can read: damaged, or written by a newer Hookline."""
