"""The automations of one scope, grouped by the fields that they read, with a memory of their answers.

Aliases, tags, authors and states repeat, and thousands of automations of a scope may read the same field. Then an event
costs one look-up for all of them, and not a test of each. Must not remember an answer that depends on anything but the
values in its key. Must not know what automations do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

from shared.domain.errors import InvalidDefinition
from shared.domain.events.types import RunPhase
from shared.domain.filters.budget import FilterBudget, FilterTooCostly
from shared.domain.filters.terms import Missing
from shared.domain.matching.candidates import CandidateIndex, Fields, Member, Placed

ScopeKey = tuple[str, str, str | None, str | None]
"""Event type, entity, project, collection."""

MANY = 16
"""From as many automations of a scope on, candidates are found by their clues first."""
LEAST_REMEMBERED = 16_384
"""The least number of answers in each half of a memory; with more automations it grows with them."""
COLD = 64
"""The number of misses in a row after which a group's answers are remembered no more. Then its values hardly
repeat, and looking them up costs more than it saves."""
LONGEST_REMEMBERED = 512
"""The longest text that is remembered. A longer one is no name, hardly repeats, and would fill the memory."""

_serials = count()
_REPEATING = frozenset({str, type(None), Missing, RunPhase})
# The fields whose values hardly repeat.
_UNIQUE = frozenset({"version", "aliases", "tags", "reason", "step", "silent_seconds"})


class Group:
    """The automations of one scope that read the same fields: tests, automations and places, in the same order.

    `misses` is the only member that changes. Threads count in it without a lock: one that gets lost delays the decision
    that the group is cold by one event.
    """

    __slots__ = ("_members", "_places", "_tests", "key", "misses", "of_names", "serial", "several")

    def __init__(
        self,
        members: Iterable[tuple[Callable[[Any], bool], int, Any]],
        getters: tuple[Callable[[Any], object], ...],
        *,
        remembered: bool,
        of_names: bool,
    ) -> None:
        """Args:
        members: tests, places and automations.
        getters: of the fields that they ask for.
        remembered: whether their values may be seen again.
        of_names: whether none of the values can be a long text.
        """
        # Three tuples, and not one of triples, which would take the memory of a tuple for each automation.
        self._tests, self._places, self._members = zip(*members, strict=True)
        self.serial = next(_serials)
        self.several = len(getters) > 1
        self.of_names = of_names
        self.misses = 0 if remembered else COLD
        self.key: Callable[[Any], Any] = getters[0] if len(getters) == 1 else _all_of(getters)

    def matches(self, event: Any) -> tuple[Placed, ...]:
        """The automations that match, each tested. Raises FilterTooCostly."""
        found = [place for place, test in enumerate(self._tests) if test(event)]
        return tuple([(self._places[at], self._members[at]) for at in found]) if found else ()

    def affordable_matches(self, event: Any) -> tuple[tuple[Placed, ...], list[Any]]:
        """The automations that match, and those that ask for more work than the event's budget has left."""
        found, refused = [], []
        for place, member, test in zip(self._places, self._members, self._tests, strict=True):
            try:
                if test(event):
                    found.append((place, member))
            except FilterTooCostly:
                refused.append(member)
        return tuple(found), refused


def _all_of(getters: tuple[Callable[[Any], object], ...]) -> Callable[[Any], tuple[object, ...]]:
    return lambda event: tuple([get(event) for get in getters])


def _repeats(group: Group, value: Any) -> bool:
    """Whether values of a group's fields are of a kind that repeats."""
    if group.of_names:
        return _REPEATING.issuperset(map(type, value)) if group.several else value.__class__ in _REPEATING
    return all(map(_is_brief, value)) if group.several else _is_brief(value)


def _is_brief(value: Any) -> bool:
    kind = value.__class__
    return len(value) <= LONGEST_REMEMBERED if kind is str else kind in _REPEATING


class Bucket:
    """The automations of one scope by id, in the order in which they were put there; grouped at the first event.

    Where they are `MANY`, those that candidates can be found by are in an index, and only the others are in groups.
    Threads may group a bucket at the same moment, with equal results; `lookup` and `groups` are replaced, not changed.
    """

    __slots__ = ("groups", "key", "lookup", "members")

    def __init__(self, key: ScopeKey, members: dict[int, Any], lookup: Lookup | None = None) -> None:
        self.key = key
        self.members = members
        self.groups: tuple[Group, ...] | None = None
        self.lookup = lookup

    def copy(self) -> Bucket:
        """A copy with the same automations. Edits of either have no effect on the other."""
        lookup = self.lookup
        return Bucket(self.key, dict(self.members), None if lookup is None else lookup.copy())

    def put(self, one: Member) -> None:
        """Add an automation, after the others."""
        self.groups = None
        self.members[one.id] = one
        if self.lookup is not None:
            self.lookup.waiting[one.id] = one

    def drop(self, automation_id: int) -> None:
        """Remove an automation."""
        self.groups = None
        del self.members[automation_id]
        if self.lookup is not None:
            self.lookup.waiting.pop(automation_id, None)
            self.lookup.grouped.pop(automation_id, None)

    def group_members(
        self,
        fields: Fields,
        unreadable: Callable[[Any, InvalidDefinition], None],
    ) -> tuple[Group, ...]:
        """Group the members, of which those that can't be read are left out and told to `unreadable`."""
        lookup = self.lookup
        if lookup is None and len(self.members) >= MANY:
            lookup = Lookup(CandidateIndex(fields), dict(self.members), {})
        if lookup is not None:
            self.lookup = lookup = lookup.settled(self.members, unreadable)
        alike: dict[tuple[str, ...], list[tuple[Callable[[Any], bool], int, Any]]] = {}
        for place, one in enumerate(self.members.values()) if lookup is None else lookup.grouped.values():
            try:
                test, asked = one.predicate
            except InvalidDefinition as exc:
                unreadable(one, exc)
                continue
            alike.setdefault(asked, []).append((test, place, one))
        self.groups = tuple(
            [
                Group(
                    members,
                    tuple(map(fields.getter, asked)),
                    remembered=bool(asked) and _UNIQUE.isdisjoint(asked),
                    of_names=not any("." in name for name in asked),  # else they are of metadata, config or a run
                )
                for asked, members in alike.items()
            ]
        )
        return self.groups


class Lookup:
    """How candidates are found among the automations of one edition of a scope; edited like the scope's bucket."""

    __slots__ = ("candidates", "grouped", "waiting")

    def __init__(self, candidates: CandidateIndex, waiting: dict[int, Any], grouped: dict[int, Placed]) -> None:
        self.candidates = candidates
        self.waiting = waiting
        """By id, those that have not been read yet."""
        self.grouped = grouped
        """By id, those that candidates can't be found by, with their places."""

    def copy(self) -> Lookup:
        """A copy that shares the candidates."""
        return Lookup(self.candidates, dict(self.waiting), dict(self.grouped))

    def settled(self, members: dict[int, Any], unreadable: Callable[[Any, InvalidDefinition], None]) -> Lookup:
        """The same with none waiting. This one stays as it is."""
        if not self.waiting:
            return self
        candidates, grouped, waiting = self.candidates, dict(self.grouped), self.waiting
        if candidates.is_littered(len(members)):
            candidates, grouped, waiting = candidates.empty_copy(), {}, members
        for one in waiting.values():
            try:
                placed, kept = candidates.add(one, as_in=self.candidates)
            except InvalidDefinition as exc:
                unreadable(one, exc)
                continue
            if not kept:
                grouped[one.id] = placed
        return Lookup(candidates, {}, grouped)


class Memory:
    """The answers of groups, the newest `size` at least and twice as many at most.

    Threads share it without a lock, since each step on a dictionary is atomic. Two that drop the older half at the same
    moment drop some newer answers too, which are worked out again.
    """

    __slots__ = ("_new", "_old", "size")

    def __init__(self) -> None:
        self.size = LEAST_REMEMBERED
        self._new: dict[Any, tuple[Placed, ...]] = {}
        self._old: dict[Any, tuple[Placed, ...]] = {}

    def fit(self, automations: int) -> None:
        """Make room for an answer of each automation."""
        self.size = max(LEAST_REMEMBERED, automations)

    def answers(
        self, groups: Iterable[Group], event: Any, budget: FilterBudget, refused: list[Any]
    ) -> list[Sequence[Placed]]:
        """The automations that match an event, for each group that has any.

        Args:
            groups: the groups of a scope.
            event: the event.
            budget: the work that is left for the event; it must be applied.
            refused: gets the automations whose filters would cost more.
        """
        answers: list[Sequence[Placed]] = []
        for group in groups:
            left = budget.left
            try:
                if group.misses >= COLD:
                    answer = group.matches(event)
                else:
                    value = group.key(event)
                    if _repeats(group, value):
                        key = (group.serial, value)
                        known = self._new.get(key)
                        if known is not None:
                            group.misses = 0
                            answer = known
                        else:
                            answer = self._older(key, group, event)
                    else:
                        group.misses += 1
                        answer = group.matches(event)
            except FilterTooCostly:
                # Now one by one, so that a costly filter keeps none of the others from its answer. Not remembered.
                budget.left = left
                answer, costly = group.affordable_matches(event)
                refused += costly
            if answer:
                answers.append(answer)
        return answers

    def _older(self, key: Any, group: Group, event: Any) -> tuple[Placed, ...]:
        """The answer of a group that is not in the newer half: from the older one, or worked out now."""
        known = self._old.get(key)
        if known is None:
            group.misses += 1
            known = group.matches(event)
        self._keep(key, known)
        return known

    def _keep(self, key: Any, answer: tuple[Placed, ...]) -> None:
        if len(self._new) >= self.size:
            self._old = self._new
            self._new = {}
        self._new[key] = answer
