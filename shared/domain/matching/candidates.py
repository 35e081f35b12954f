"""The automations of one large scope that an event may match, found by what their filters ask for.

Testing thousands of filters takes milliseconds. So each automation is kept under the clues of one cover of its filter
(`filters.clues`); an event's values find candidates, and only those are tested. An automation whose filter has no cover
is not kept here: it is tested at every event.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import count
from typing import Any, Protocol

from shared.domain.errors import InvalidDefinition
from shared.domain.filters.budget import FilterBudget, FilterTooCostly
from shared.domain.filters.clue_tables import ClueTable
from shared.domain.filters.clues import Absent, Clue, Cover, Present
from shared.domain.filters.pattern_sets import Allowance

LITTER = 64
"""How many automations that are there no more may be kept beside as many as there are."""

Getter = Callable[[Any], Any]
Predicate = tuple[Callable[[Any], bool], tuple[str, ...]]
"""The test of an automation, and the names of the fields on which its answer depends, and on nothing else."""
Placed = tuple[int, Any]
"""The place of an automation among those of its scope, and the automation."""


class Member(Protocol):
    """An automation, as a scope holds it."""

    @property
    def id(self) -> int:
        """Its number."""

    @property
    def predicate(self) -> Predicate:
        """Its test and the fields that the test reads. Raises InvalidDefinition when its text can't be read."""

    @property
    def covers(self) -> Collection[Cover]:
        """Covers of its test. Raises InvalidDefinition when its text can't be read."""


class Fields(Protocol):
    """How the fields of events of one type are read."""

    def getter(self, name: str) -> Getter:
        """Reads a field."""

    def member_of(self, name: str) -> tuple[Getter, str] | None:
        """Where a field is a member of an object of any members: what reads the object, and the member's path in it."""


class CandidateIndex:
    """Automations by clues. Editions of a scope share it: each passes the automations that it has.

    `add` takes the lock. A look-up takes none and sees whatever was added before it began. Nothing is removed, since
    an older edition may still look for it: what was edited or dropped is found and passed over.
    """

    __slots__ = ("_added", "_chosen", "_fields", "_fixed", "_lock", "_objects", "_places", "_tables", "_unreadable")

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self._lock = threading.Lock()
        self._places = count()
        self._added = 0
        self._chosen: dict[int, tuple[Placed, Cover | None]] = {}
        """By id, the automation that was added last, and the cover under which it is kept."""
        self._unreadable: set[int] = set()
        """The places of those whose test could not be read, which was told."""
        self._tables: dict[str, ClueTable[Placed]] = {}
        self._fixed: list[tuple[Getter, ClueTable[Placed]]] = []
        """The tables that every event looks into."""
        self._objects: dict[Getter, dict[str, list[tuple[Getter, ClueTable[Placed]]]]] = {}
        """By object, then by the member without which none of their fields is there, those that only some look into."""

    def add(self, one: Member, *, as_in: CandidateIndex | None = None) -> tuple[Placed, bool]:
        """Keep an automation, if it has a cover and is not kept yet.

        Args:
            one: the automation.
            as_in: an index under whose cover it is kept, if it is there, so that its text need not be read again.

        Returns:
            It with its place, after all that were added before; and whether it is kept, so that look-ups find it.

        Raises:
            InvalidDefinition: when its text can't be read.
        """
        known = self._chosen_for(one)
        if known is not None:
            return known[0], known[1] is not None
        before = None if as_in is None else as_in._chosen_for(one)
        covers = one.covers if before is None else ()
        with self._lock:
            known = self._chosen_for(one)
            if known is not None:
                return known[0], known[1] is not None
            return self._keep(one, self._best(covers) if before is None else before[1])

    def _chosen_for(self, one: Member) -> tuple[Placed, Cover | None] | None:
        known = self._chosen.get(one.id)
        return known if known is not None and known[0][1] is one else None

    def is_littered(self, count_of_members: int) -> bool:
        """Whether more than half of it is what was edited or dropped since."""
        return self._added > 2 * count_of_members + LITTER

    def empty_copy(self) -> CandidateIndex:
        """An empty index for the same events."""
        return CandidateIndex(self._fields)

    def matches(
        self,
        members: Mapping[int, Member],
        event: Any,
        budget: FilterBudget,
        refused: list[Any],
        unreadable: Callable[[Any, InvalidDefinition], None],
    ) -> list[Placed]:
        """The automations that match, in order.

        Args:
            members: those of the edition that looks, all of which were added or are tested elsewhere.
            event: the event.
            budget: the work that is left for the event; it must be applied.
            refused: gets those whose filters ask for more work than the event's budget has left.
            unreadable: told once of each whose covers could be read and whose test can't; it matches nothing.
        """
        allowance = Allowance(budget.units)
        found = self._find(event, allowance)
        budget.spent += allowance.spent
        if not found:
            return found
        candidates: list[Placed] = sorted({place: one for place, one in found if members.get(one.id) is one}.items())
        matching: list[Placed] = []
        for place, one in candidates:
            if place in self._unreadable:
                continue
            try:
                test, _ = one.predicate
            except InvalidDefinition as exc:
                self._unreadable.add(place)
                unreadable(one, exc)
                continue
            try:
                if test(event):
                    matching.append((place, one))
            except FilterTooCostly:
                refused.append(one)
        return matching

    def _find(self, event: Any, allowance: Allowance) -> list[Placed]:
        """Candidates in any order, some of them several times, and some that are there no more."""
        found: list[Placed] = []
        for get, table in self._fixed:
            table.find(get(event), allowance, found)
        for get_object, by_member in self._objects.items():
            members = get_object(event)
            for member in members if len(members) <= len(by_member) else list(by_member):
                if (tables := by_member.get(member)) is not None and member in members:
                    for get, table in tables:
                        table.find(get(event), allowance, found)
        return found

    def _best(self, covers: Iterable[Cover]) -> Cover | None:
        """The cover by which fewest are found, as far as the tables tell; None where none of them can be kept."""
        best, least = None, float("inf")
        for cover in covers:
            expected = sum(map(self._expected, cover))
            if expected < least:
                best, least = cover, expected
        return best

    def _expected(self, clue: Clue) -> float:
        if isinstance(clue, Present) and self._fields.member_of(clue.field) is None:
            return float("inf")  # it always is
        expected = self._table(clue.field).expected(clue)
        return float("inf") if expected is None else expected

    def _keep(self, one: Member, cover: Cover | None) -> tuple[Placed, bool]:
        placed = (next(self._places), one)
        self._added += 1
        for clue in cover or ():
            table = self._table(clue.field)
            if isinstance(clue, Absent) and not table.asks_for_absence:
                self._fixed.append((self._fields.getter(clue.field), table))
            table.add(clue, placed)
        self._chosen[one.id] = (placed, cover)
        return placed, cover is not None

    def _table(self, name: str) -> ClueTable[Placed]:
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = ClueTable()
            entry = (self._fields.getter(name), table)
            home = self._fields.member_of(name)
            if home is None:
                self._fixed.append(entry)
                return table
            get_object, path = home
            if get_object not in self._objects:
                self._objects = {**self._objects, get_object: {}}
            by_member = self._objects[get_object]
            # A member is found by its whole name, else by the path through objects that begins with its first part.
            for member in {path, path.partition(".")[0]}:
                by_member.setdefault(member, []).append(entry)
        return table
