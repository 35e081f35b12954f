"""The automations of one scope: grouped by the fields that they ask for, their answers to the same values remembered.

Aliases, tags, authors and states repeat, and a scope may have thousands of automations that all look at the same one:
then an event costs them a look-up together and not a test each. Must not remember what depends on anything but the
values in its key; knows nothing of what automations do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, Protocol

from shared.domain.errors import InvalidDefinition
from shared.domain.events.types import RunPhase
from shared.domain.filters.budget import FilterBudget, FilterTooCostly
from shared.domain.filters.terms import Missing

ScopeKey = tuple[str, str, str | None, str | None]
"""Event type, entity, project, collection."""
Predicate = tuple[Callable[[Any], bool], tuple[str, ...]]
"""What an automation asks of an event, and the fields that the answer depends on, and on nothing else."""

LEAST_REMEMBERED = 16_384
"""Answers that a memory holds at least, in each of its two halves."""
COLD = 64
"""A group whose values did not repeat for so many times in a row is not remembered any more."""
LONGEST_REMEMBERED = 512
"""Longer texts are no names, hardly seen twice, and would have the memory grow by what they weigh."""

_serials = count()
_REPEATING = frozenset({str, type(None), Missing, RunPhase})
# Of these, values are hardly seen twice.
_UNIQUE = frozenset({"version", "aliases", "tags", "reason", "step"})


class Member(Protocol):
    """An automation as a bucket holds it."""

    @property
    def predicate(self) -> Predicate:
        """What it asks of an event. Raises InvalidDefinition when it can't be read."""


Placed = tuple[int, Any]
"""An automation, after its place among those of its scope."""


class Group:
    """Automations of one scope that ask for the same fields: tests, automations and places, all in one order."""

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
        # Three tuples, and not one of triples: of a hundred thousand automations each would hold its own.
        self._tests, self._places, self._members = zip(*members, strict=True)
        self.serial = next(_serials)
        self.several = len(getters) > 1
        self.of_names = of_names
        self.misses = 0 if remembered else COLD
        self.key: Callable[[Any], Any] = getters[0] if len(getters) == 1 else _all_of(getters)

    def matches(self, event: Any) -> tuple[Placed, ...]:
        """Those that match, each asked. Raises FilterTooCostly."""
        found = [place for place, test in enumerate(self._tests) if test(event)]
        return tuple([(self._places[at], self._members[at]) for at in found]) if found else ()

    def affordable_matches(self, event: Any) -> tuple[tuple[Placed, ...], list[Any]]:
        """Those that match, and the members that ask for more work than their event's budget has left for them."""
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
    """Whether the values of a group's fields are such as are seen again."""
    if group.of_names:
        return _REPEATING.issuperset(map(type, value)) if group.several else value.__class__ in _REPEATING
    return all(map(_is_brief, value)) if group.several else _is_brief(value)


def _is_brief(value: Any) -> bool:
    kind = value.__class__
    return len(value) <= LONGEST_REMEMBERED if kind is str else kind in _REPEATING


class Bucket:
    """The automations of one scope, by id, in the order in which they came; grouped when the first event comes."""

    __slots__ = ("groups", "key", "members")

    def __init__(self, key: ScopeKey, members: dict[int, Any]) -> None:
        self.key = key
        self.members = members
        self.groups: tuple[Group, ...] | None = None

    def group_members(
        self,
        getter: Callable[[str], Callable[[Any], object]],
        unreadable: Callable[[Any, InvalidDefinition], None],
    ) -> tuple[Group, ...]:
        """Group the members, of which those that can't be read are left out and told to `unreadable`."""
        alike: dict[tuple[str, ...], list[tuple[Callable[[Any], bool], int, Any]]] = {}
        for place, one in enumerate(self.members.values()):
            try:
                test, fields = one.predicate
            except InvalidDefinition as exc:
                unreadable(one, exc)
                continue
            alike.setdefault(fields, []).append((test, place, one))
        self.groups = tuple(
            [
                Group(
                    members,
                    tuple(map(getter, fields)),
                    remembered=bool(fields) and _UNIQUE.isdisjoint(fields),
                    of_names=not any("." in name for name in fields),  # else they are of metadata, config or a run
                )
                for fields, members in alike.items()
            ]
        )
        return self.groups


class Memory:
    """Answers of groups, the newest `size` at least and twice as many at most. Threads may share it."""

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
    ) -> list[tuple[Placed, ...]]:
        """The members that match an event, of each group that has any.

        Args:
            groups: those of a scope.
            event: the event.
            budget: what is left for it, and is applied.
            refused: gets the members whose filters would cost more.
        """
        answers = []
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
        """An answer that is not among the newest: from the older ones, or the group's own."""
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
