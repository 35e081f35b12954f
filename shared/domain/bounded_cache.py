"""A cache that is bounded by the weight of its values and not by their number: some are a thousand times as large.

It has two halves. A value that is asked for moves to the newer one; when that is full, the older one is dropped. So at
least the newest half is kept, and a look-up takes no lock.

Threads may share it without a lock, since each step on a dictionary is atomic. Two that add values at the same moment
may count one weight too few, or make a value twice; both are made up for when a half is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """Values by their keys, of `max_weight` together. A weight may be of any unit."""

    __slots__ = ("_max_weight", "_new", "_old", "_weigh", "_weight")

    def __init__(self, max_weight: int, weigh: Callable[[V], int]) -> None:
        self._max_weight = max_weight
        self._weigh = weigh
        self._new: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._weight = 0
        """The weight of the newer half."""

    def __len__(self) -> int:
        return len(self._new.keys() | self._old.keys())

    def get(self, key: K) -> V | None:
        """The value, if it is kept."""
        found = self._new.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.put(key, found)
        return found

    def put(self, key: K, value: V) -> None:
        """Keep a value, unless it alone weighs more than half of what all may."""
        weight = self._weigh(value)
        if 2 * weight > self._max_weight:
            return
        if 2 * (self._weight + weight) > self._max_weight:
            self._old, self._new, self._weight = self._new, {}, 0
        self._new[key] = value
        self._weight += weight

    def forget(self, key: K) -> None:
        """Drop a value, if it is kept."""
        self._old.pop(key, None)
        if (found := self._new.pop(key, None)) is not None:
            self._weight -= self._weigh(found)
