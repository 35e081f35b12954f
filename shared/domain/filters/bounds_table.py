"""What is kept under bounds of numbers, to be found by a number: sorted, and searched by halves."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left, bisect_right
from operator import itemgetter
from typing import Any, Final, Generic, TypeVar

MAX_WAITING: Final = 64
"""How many bounds may wait to be sorted among the others; meanwhile each is looked at."""

T = TypeVar("T")
_Bounded = tuple[float, float, T]
_low, _high = itemgetter(0), itemgetter(1)


class _Sorted(Generic[T]):
    """Values under bounds; never changed. Those with one bound are slices of sorted lists."""

    __slots__ = ("_above", "_below", "_between", "_highs", "_lows", "_maxima", "all")

    def __init__(self, bounded: list[_Bounded[T]]) -> None:
        self.all = bounded
        above = sorted((one for one in bounded if one[1] == math.inf), key=_low)
        below = sorted((one for one in bounded if one[0] == -math.inf and one[1] != math.inf), key=_high)
        between = sorted((one for one in bounded if one[0] != -math.inf and one[1] != math.inf), key=_low)
        self._above = ([one[0] for one in above], [one[2] for one in above])
        self._below = ([one[1] for one in below], [one[2] for one in below])
        self._lows = [one[0] for one in between]
        self._highs = [one[1] for one in between]
        self._between = [one[2] for one in between]
        self._maxima = _maxima(self._highs)

    def find(self, least: float, greatest: float, found: list[T]) -> None:
        """Add what is kept under bounds that some number above and another below are within."""
        bounds, values = self._above
        found.extend(values[: bisect_right(bounds, greatest)])
        bounds, values = self._below
        found.extend(values[bisect_left(bounds, least) :])
        if self._between:
            self._stab(least, bisect_right(self._lows, greatest), found)

    def _stab(self, least: float, end: int, found: list[T]) -> None:
        """Add those of the first `end` whose upper bound is not below `least`."""
        maxima, count = self._maxima, len(self._between)
        ahead = [(1, 0, len(maxima) // 2)]
        while ahead:
            node, start, width = ahead.pop()
            if start >= end or start >= count or maxima[node] < least:
                continue
            if width == 1:
                found.append(self._between[start])
                continue
            half = width // 2
            ahead.append((2 * node, start, half))
            ahead.append((2 * node + 1, start + half, half))


def _maxima(highs: list[float]) -> list[float]:
    """A complete binary tree over the upper bounds, root at 1, each node the greatest of its leaves."""
    width = 1 << max(0, (len(highs) - 1).bit_length())
    tree: list[Any] = [-math.inf] * width + highs + [-math.inf] * (width - len(highs))
    for node in range(width - 1, 0, -1):
        left, right = tree[2 * node], tree[2 * node + 1]
        tree[node] = left if left >= right else right
    return tree


class BoundsTable(Generic[T]):
    """Threads share it. `add` and sorting take the lock; `find` does not: it reads `_state`, whose sorted part is never
    changed, and whose list is only added to until the state is replaced."""

    __slots__ = ("_lock", "_state")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: tuple[_Sorted[T], list[_Bounded[T]]] = (_Sorted([]), [])

    def __len__(self) -> int:
        ordered, waiting = self._state
        return len(ordered.all) + len(waiting)

    def add(self, low: float | None, high: float | None, value: T) -> None:
        """Keep a value under bounds, both included; None is no bound."""
        bounded = (-math.inf if low is None else low, math.inf if high is None else high, value)
        with self._lock:
            self._state[1].append(bounded)

    def find(self, least: float, greatest: float, found: list[T]) -> None:
        """Add the values whose lower bound is at most `greatest`, and whose upper bound at least `least`."""
        ordered, waiting = self._state
        if len(waiting) > MAX_WAITING:
            self._sort()
            ordered, waiting = self._state
        ordered.find(least, greatest, found)
        for low, high, value in list(waiting):
            if low <= greatest and high >= least:
                found.append(value)

    def all(self) -> list[T]:
        """All values."""
        ordered, waiting = self._state
        return [one[2] for one in [*ordered.all, *waiting]]

    def _sort(self) -> None:
        with self._lock:
            ordered, waiting = self._state
            if len(waiting) > MAX_WAITING:
                self._state = (_Sorted([*ordered.all, *waiting]), [])
