"""What an API process remembers for a while, in place of asking again: a bounded number, whoever chooses the keys."""

from __future__ import annotations

from collections.abc import Hashable
from time import monotonic
from typing import Generic, TypeVar

MAX_REMEMBERED = 10_000
"""At which all is forgotten: strangers can make up as many keys as they like."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """Values that count for `seconds`.

    Any thread may call it: each step on its dictionary is atomic, and what two threads store for a key must be equally
    true.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._values: dict[Key, tuple[float, Value]] = {}

    def get(self, key: Key) -> Value | None:
        """The value of a key; None when it is not known, or not any more."""
        found = self._values.get(key)
        return found[1] if found is not None and monotonic() < found[0] else None

    def put(self, key: Key, value: Value) -> None:
        """Remember a value."""
        if len(self._values) >= MAX_REMEMBERED:
            self._values.clear()
        self._values[key] = monotonic() + self._seconds, value

    def clear(self) -> None:
        """Forget all."""
        self._values.clear()
