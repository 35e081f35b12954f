"""Everything that is kept under clues of one field, to be found by the field's value.

What is found is a superset: what a clue is true of, and what would take long to look up. A long text or list finds all
instead, and the filters themselves decide, within their budget.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Final, Generic, TypeVar

from shared.domain.filters.bounds_table import BoundsTable
from shared.domain.filters.clues import Absent, Between, Clue, Equal, Found, Marker, Prefix, Present, equality_key
from shared.domain.filters.pattern_sets import Allowance, PatternTable, fits_a_set
from shared.domain.filters.terms import FEW_ELEMENTS, MISSING

MAX_ELEMENTS: Final = 4_096
"""The longest list whose elements are looked up; a longer one finds all."""
EXPECTED_PATTERNS: Final = 8
EXPECTED_BOUNDS: Final = 1 / 8
EXPECTED_DOUBLE_BOUNDS: Final = 1 / 64
"""How many values a look-up is expected to find: of patterns, and of each that is under a bound, or under two. One can
not know: a pattern or a bound that most events pass is as easily written as one that none passes."""

T = TypeVar("T")


class ClueTable(Generic[T]):
    """Values by the clues of one field. Threads share it: one adds while others look up.

    A look-up sees what was added before it began. Lists and dictionaries are only added to, each in one step.
    """

    __slots__ = ("_absent", "_bounds", "_equal", "_patterns", "_prefixes", "_present")

    def __init__(self) -> None:
        self._equal: dict[Hashable, list[T]] = {}
        self._prefixes: dict[int, dict[str, list[T]]] = {}
        """By length, then by text."""
        self._patterns: PatternTable[T] | None = None
        self._bounds: BoundsTable[T] | None = None
        self._present: list[T] = []
        self._absent: list[T] = []

    @property
    def asks_for_absence(self) -> bool:
        """Whether a subject without the field finds anything."""
        return bool(self._absent)

    def expected(self, clue: Clue) -> float | None:
        """About how many values a look-up finds that finds this clue; None where the clue cannot be kept."""
        match clue:
            case Equal(_, key):
                return len(self._equal.get(key, ()))
            case Prefix(_, prefix):
                return len(self._prefixes.get(len(prefix), {}).get(prefix, ()))
            case Found(_, pattern):
                return EXPECTED_PATTERNS if fits_a_set(pattern) else None
            case Between(_, low, high):
                kept = 0 if self._bounds is None else len(self._bounds)
                return kept * (EXPECTED_BOUNDS if low is None or high is None else EXPECTED_DOUBLE_BOUNDS)
            case Present():
                return len(self._present) + FEW_ELEMENTS
            case Absent():
                return len(self._absent) + FEW_ELEMENTS

    def add(self, clue: Clue, value: T) -> None:
        """Keep a value under a clue that can be kept. Must not be called by two threads at the same time."""
        match clue:
            case Equal(_, key):
                _append(self._equal, key, value)
            case Prefix(_, prefix):
                by_length = self._prefixes.get(len(prefix))
                if by_length is None:
                    # Replaced, since look-ups iterate over it.
                    self._prefixes = {**self._prefixes, len(prefix): {prefix: [value]}}
                else:
                    _append(by_length, prefix, value)
            case Found(_, pattern):
                if self._patterns is None:
                    self._patterns = PatternTable()
                self._patterns.add(pattern, value)
            case Between(_, low, high):
                if self._bounds is None:
                    self._bounds = BoundsTable()
                self._bounds.add(low, high, value)
            case Present():
                self._present.append(value)
            case Absent():
                self._absent.append(value)

    def find(self, subject_value: object, allowance: Allowance, found: list[T]) -> None:
        """Add what is kept under clues that are true of the field's value, and perhaps more; some of it twice."""
        kind = subject_value.__class__
        if kind is str:
            self._find_text(subject_value, allowance, found)  # type: ignore[arg-type]
        elif kind is float or kind is int:
            self._find_number(subject_value, found)  # type: ignore[arg-type]
        elif subject_value is MISSING:
            found.extend(self._absent)
            return
        elif isinstance(subject_value, (list, tuple)):
            self._find_list(subject_value, allowance, found)
        elif subject_value is None:
            found.extend(self._equal.get(Marker.NULL, ()))
            return
        else:
            self._find_scalar(subject_value, allowance, found)
        if self._present:
            found.extend(self._present)

    def _find_scalar(self, value: object, allowance: Allowance, found: list[T]) -> None:
        if isinstance(value, str):
            self._find_text(str.__str__(value), allowance, found)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            self._find_number(value, found)
        else:
            found.extend(self._equal.get(equality_key(value), ()))

    def _find_text(self, text: str, allowance: Allowance, found: list[T]) -> None:
        hit = self._equal.get(text)
        if hit is not None:
            found.extend(hit)
        for length, by_text in self._prefixes.items():
            hit = by_text.get(text[:length])
            if hit is not None:
                found.extend(hit)
        if self._patterns is not None:
            self._patterns.find(text, allowance, found)

    def _find_number(self, number: float, found: list[T]) -> None:
        hit = self._equal.get(number)
        if hit is not None:
            found.extend(hit)
        if self._bounds is not None:
            self._bounds.find(number, number, found)

    def _find_list(self, elements: list[Any] | tuple[Any, ...], allowance: Allowance, found: list[T]) -> None:
        if len(elements) > MAX_ELEMENTS:
            found.extend(self.all())
            return
        equal = self._equal
        found.extend(equal.get(equality_key(elements), ()))
        texts, numbers = [], []
        for element in elements:
            hit = equal.get(equality_key(element))
            if hit is not None:
                found.extend(hit)
            if isinstance(element, str):
                texts.append(str.__str__(element))
            elif isinstance(element, (int, float)) and not isinstance(element, bool) and element == element:
                numbers.append(element)
        if texts:
            self._find_texts(texts, allowance, found)
        if numbers and self._bounds is not None:
            self._bounds.find(min(numbers), max(numbers), found)

    def _find_texts(self, texts: list[str], allowance: Allowance, found: list[T]) -> None:
        for length, by_text in self._prefixes.items():
            for text in texts:
                hit = by_text.get(text[:length])
                if hit is not None:
                    found.extend(hit)
        if self._patterns is None:
            return
        if len(texts) > FEW_ELEMENTS:
            found.extend(self._patterns.all())
            return
        for text in texts:
            self._patterns.find(text, allowance, found)

    def all(self) -> Iterator[T]:
        """All that is kept; some of it several times."""
        for kept in list(self._equal.values()):
            yield from kept
        for by_text in self._prefixes.values():
            for kept in list(by_text.values()):
                yield from kept
        parts: list[Iterable[T]] = [self._present, self._absent]
        if self._patterns is not None:
            parts.append(self._patterns.all())
        if self._bounds is not None:
            parts.append(self._bounds.all())
        for part in parts:
            yield from part


def _append(table: dict[Any, list[T]], key: Hashable, value: T) -> None:
    known = table.get(key)
    if known is None:
        table[key] = [value]
    else:
        known.append(value)
