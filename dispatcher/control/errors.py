"""Refusals of the control plane, besides `InvalidDefinition`. Nothing was changed when one of them is raised."""

from __future__ import annotations

from shared.domain.errors import FieldError, HooklineError


class NotFound(HooklineError):
    """There is no such thing, or not for this key."""


class Forbidden(HooklineError):
    """The key's role does not allow this; `errors` may name the places."""

    def __init__(self, message: str, *errors: FieldError) -> None:
        super().__init__(message)
        self.errors = errors


class Conflict(HooklineError):
    """The change contradicts what is stored, e.g. a name is taken; `errors` may name the fields."""

    def __init__(self, message: str, *errors: FieldError) -> None:
        super().__init__(message)
        self.errors = errors


class QuotaExceeded(Conflict):
    """The change would add more to an entity than it may have; `errors` name the quotas, with limits and uses."""
