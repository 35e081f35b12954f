"""Many patterns searched for in one text at once, by RE2's sets: about as long as searching for one of them.

A set cannot be added to, so patterns are kept in several sets: new ones wait until there are some, and are compiled
together with the sets that are not much larger. Each pattern is compiled a few times, and a text is searched by few
sets.

A set never takes longer than its patterns by themselves. But what a filter's patterns do is counted as that filter's
work, and what a set does is nobody's. So a long text is searched within an allowance of its own, and beyond it all
patterns are taken to occur, perhaps.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Final, Generic, TypeVar

import re2

from shared.domain.filters.budget import EVENT_UNITS
from shared.domain.filters.patterns import REMEMBERED_TEXT_CHARS, pattern_of

MAX_MEMBER_SIZE: Final = 100
"""The most instructions of a pattern in a set. A larger one is rare, and would take the memory of many."""
MAX_SET_SIZE: Final = 65_536
"""The most instructions of all patterns of a set together: compiling as many takes 10 ms."""
MAX_WAITING: Final = 4
"""How many patterns may wait to be compiled; meanwhile each is taken to occur, perhaps."""
MERGED_TIMES: Final = 4
"""New patterns are compiled together with sets of up to as many times their size: the more, the fewer sets there are to
search, and the more often each pattern is compiled."""
MEMORY_BYTES_PER_INSTRUCTION: Final = 256
LEAST_MEMORY_BYTES: Final = 256 << 10
"""The memory of a set in RE2, at most: its program, and the states that it discovers while searching."""
SPENT_PART: Final = 8
"""One unit in so many is counted as spent. A set takes as long as is counted only with patterns that are made for it,
and texts that are all new. Usually it takes a hundredth."""

T = TypeVar("T")


class Allowance:
    """The units that are left for searching the long texts of one event. It belongs to one thread."""

    __slots__ = ("left", "units")

    def __init__(self, units: int = EVENT_UNITS) -> None:
        self.units = units
        self.left = units

    @property
    def spent(self) -> int:
        """What is counted as spent, in the units of a filter's budget."""
        return (self.units - self.left) // SPENT_PART

    def covers(self, size: int, text: str) -> bool:
        """Take what searching a text costs; False, and nothing is taken, where more than is left."""
        if len(text) <= REMEMBERED_TEXT_CHARS:
            return True
        units = size * (len(text) if text.isascii() else 3 * len(text))
        if units > self.left:
            return False
        self.left -= units
        return True


def fits_a_set(pattern: str) -> bool:
    """Whether an accepted pattern is small enough."""
    return pattern_of(pattern).size <= MAX_MEMBER_SIZE


_Sized = tuple[str, int]
"""A pattern and the number of its instructions."""


class _CompiledSet:
    """Patterns that are searched for together."""

    __slots__ = ("_set", "patterns", "size")

    def __init__(self, patterns: Sequence[str], size: int) -> None:
        """Raises re2.error where they take more memory than they may."""
        self.patterns = patterns
        self.size = size
        """The instructions of all patterns together."""
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        options.max_mem = LEAST_MEMORY_BYTES + MEMORY_BYTES_PER_INSTRUCTION * size
        self._set = re2.Set.SearchSet(options)
        # It occurs in every text: a search that does not find it ran out of memory and says nothing.
        self._set.Add("")
        for pattern in patterns:
            self._set.Add(pattern)
        self._set.Compile()

    def found_in(self, text: str) -> Sequence[str]:
        """The patterns that occur in the text."""
        numbers: Sequence[int] | None = self._set.Match(text.encode("utf-8", "surrogatepass"))  # type: ignore[assignment]
        if numbers is None:
            return self.patterns
        return [self.patterns[number - 1] for number in numbers if number] if len(numbers) > 1 else ()


class PatternTable(Generic[T]):
    """What is kept under patterns, to be found by a text.

    Threads share it. `add` and compiling take the lock; a search does not: it reads `_state`, whose sets are never
    changed, and whose list is only added to until the state is replaced.
    """

    __slots__ = ("_kept", "_lock", "_state")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, list[T]] = {}
        self._state: tuple[tuple[_CompiledSet, ...], list[_Sized]] = ((), [])
        """The sets, and the patterns that wait."""

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, pattern: str, value: T) -> None:
        """Keep a value under a pattern that `fits_a_set`."""
        with self._lock:
            known = self._kept.get(pattern)
            if known is not None:
                known.append(value)
                return
            self._kept[pattern] = [value]
            self._state[1].append((pattern, pattern_of(pattern).size))

    def find(self, text: str, allowance: Allowance, found: list[T]) -> None:
        """Add the values whose patterns occur in a text, and perhaps others."""
        sets, waiting = self._state
        if len(waiting) > MAX_WAITING:
            self._compile()
            sets, waiting = self._state
        for one in sets:
            patterns = one.found_in(text) if allowance.covers(one.size, text) else one.patterns
            for pattern in patterns:
                found.extend(self._kept[pattern])
        for pattern, _ in list(waiting):
            found.extend(self._kept[pattern])

    def all(self) -> Iterator[T]:
        """All values."""
        for pattern in list(self._kept):
            yield from self._kept[pattern]

    def _compile(self) -> None:
        with self._lock:
            kept, waiting = self._state
            if len(waiting) <= MAX_WAITING:
                return
            *others, newest = [*kept, *_compiled(waiting)]
            while (
                others
                and others[-1].size <= MERGED_TIMES * newest.size
                and others[-1].size + newest.size <= MAX_SET_SIZE
            ):
                joined = others.pop()
                newest = _CompiledSet([*joined.patterns, *newest.patterns], joined.size + newest.size)
            others.append(newest)
            self._state = (tuple(sorted(others, key=_size, reverse=True)), [])


def _size(one: _CompiledSet) -> int:
    return one.size


def _compiled(patterns: Sequence[_Sized]) -> Iterator[_CompiledSet]:
    """One set, or as many as are needed."""
    size = 0
    part: list[str] = []
    for pattern, own in patterns:
        if part and size + own > MAX_SET_SIZE:
            yield _CompiledSet(part, size)
            part, size = [], 0
        part.append(pattern)
        size += own
    yield _CompiledSet(part, size)
