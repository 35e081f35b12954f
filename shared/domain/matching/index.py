"""The index that finds the automations that match an event.

The cost of a look-up does not grow with the automations of others: it asks for the event's own entity, project and
collection and for the organizations above the entity. Answers of the automations of one scope to the same values are
remembered (`scope_groups`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from operator import attrgetter
from typing import Any

from shared.domain.errors import InvalidDefinition
from shared.domain.events.fast_decoding import AnyEvent
from shared.domain.events.types import EventType
from shared.domain.filters.budget import FilterBudget
from shared.domain.filters.fields import field_getter, member_field
from shared.domain.matching.compiled import (
    METRICS,
    SILENCE,
    STATE,
    STEP,
    CompiledAutomation,
    Indexed,
    LazyAutomation,
    as_compiled,
)
from shared.domain.matching.scope_groups import Bucket, Memory, ScopeKey


class _EventFields:
    """How the fields of events of one type are read, with those that only automations have."""

    __slots__ = ("_event_type",)

    def __init__(self, event_type: EventType) -> None:
        self._event_type = event_type

    def getter(self, name: str) -> Callable[[Any], Any]:
        own = _OWN_GETTERS.get((self._event_type, name))
        return field_getter(self._event_type, name) if own is None else own

    def member_of(self, name: str) -> tuple[Callable[[Any], Any], str] | None:
        own = (self._event_type, name) in _OWN_GETTERS
        return None if own else member_field(self._event_type, name)


def _metric_names(event: Any) -> list[str]:
    return list(event.data.metrics)


_OWN_GETTERS: dict[tuple[EventType, str], Callable[[Any], Any]] = {
    (EventType.RUN_STATE, STATE): attrgetter("data.state"),
    (EventType.RUN_STATE, SILENCE): attrgetter("data.silent_seconds"),
    (EventType.RUN_METRIC, METRICS): _metric_names,
    (EventType.RUN_METRIC, STEP): attrgetter("data.step"),
}


def _ignore(_one: Indexed, _refusal: InvalidDefinition) -> None:
    """Passes over an automation that can't be read."""


class AutomationIndex:
    """The enabled automations by event type and scope.

    `unreadable` is called with each automation whose text can't be read, when events come to its scope; it matches
    nothing.

    A worker's threads match in the same index, while one thread edits a copy and then replaces the index by it. So
    nothing that an index has is edited while others may read it, except the groups of a bucket and the memory of
    answers, which threads may fill at the same moment with equal values.
    """

    def __init__(self, unreadable: Callable[[Any, InvalidDefinition], None] = _ignore) -> None:
        self._unreadable = unreadable
        self._by_id: dict[int, Indexed] = {}
        self._by_scope: dict[ScopeKey, Bucket] = {}
        self._own: set[ScopeKey] = set()
        """The buckets that this index may change in place; the others it shares with its copies."""
        self._organizations: Mapping[str, tuple[str, ...]] = {}
        self._memory = Memory()

    def __len__(self) -> int:
        return len(self._by_id)

    def copy(self) -> AutomationIndex:
        """A copy with the same automations. Edits of either have no effect on the other."""
        twin = AutomationIndex(self._unreadable)
        twin._by_id = dict(self._by_id)
        twin._by_scope = dict(self._by_scope)
        twin._organizations = self._organizations
        twin._memory = self._memory
        self._own = set()
        return twin

    def put(self, one: Indexed) -> None:
        """Add an automation, or replace its older edition."""
        self.drop(one.id)
        self._by_id[one.id] = one
        key = one.scope_key
        bucket = self._at(key)
        if isinstance(one, LazyAutomation):
            one.scope_key = bucket.key
        bucket.put(one)
        self._memory.fit(len(self._by_id))

    def known(self, automation_id: int) -> Indexed | None:
        """The automation of this id, if it is there."""
        return self._by_id.get(automation_id)

    def set_organizations(self, organizations: Mapping[str, tuple[str, ...]]) -> None:
        """Replace the organizations above each entity, as `organizations_above` gives them."""
        self._organizations = organizations

    def drop(self, automation_id: int) -> None:
        """Remove an automation, if it is there."""
        known = self._by_id.pop(automation_id, None)
        if known is None:
            return
        known.forget()
        key = known.scope_key
        bucket = self._at(key)
        bucket.drop(automation_id)
        if not bucket.members:
            del self._by_scope[key]
            self._own.discard(key)

    def _at(self, key: ScopeKey) -> Bucket:
        """A scope's bucket, to be changed. It is copied at the first edit in this index, and not at each."""
        bucket = self._by_scope.get(key)
        if bucket is None:
            bucket = self._by_scope[key] = Bucket(key, {})
            self._own.add(key)
        elif key not in self._own:
            bucket = self._by_scope[key] = bucket.copy()
            self._own.add(key)
        return bucket

    def matching(self, event: AnyEvent, budget: FilterBudget, refused: list[Any]) -> Iterator[CompiledAutomation]:
        """The automations whose scope and filter hold for the event; conditions are not looked at.

        Args:
            event: the event.
            budget: bounds the cost of the filters of each entity's automations; the caller applies it.
            refused: gets the automations whose filters would cost more; they do not match.
        """
        data = event.data
        event_type, entity = str.__str__(event.type), data.entity
        project = getattr(data, "project", None)  # a notice is in no project
        buckets = self._by_scope
        found: list[Any] = []
        budget.left = budget.units
        if bucket := buckets.get((event_type, entity, None, None)):
            self._look(bucket, event, found, budget, refused)
        if project is not None and (bucket := buckets.get((event_type, entity, project, None))):
            self._look(bucket, event, found, budget, refused)
        collection = getattr(data, "collection", None)  # a run is in no collection
        if collection is not None and (bucket := buckets.get((event_type, entity, project, collection.name))):
            self._look(bucket, event, found, budget, refused)
        # An organization watches the events of its teams, as a whole; its own projects are no scopes of theirs.
        for organization in self._organizations.get(entity, ()):
            if bucket := buckets.get((event_type, organization, None, None)):
                budget.left = budget.units
                self._look(bucket, event, found, budget, refused)
        return map(as_compiled, found)

    def watches(self, event_type: EventType, entity: str, project: str) -> bool:
        """Whether an automation watches events of this type in a project, whatever its filter says."""
        kind, buckets = str.__str__(event_type), self._by_scope
        if (kind, entity, None, None) in buckets or (kind, entity, project, None) in buckets:
            return True
        return any((kind, one, None, None) in buckets for one in self._organizations.get(entity, ()))

    def _look(
        self, bucket: Bucket, event: AnyEvent, found: list[Any], budget: FilterBudget, refused: list[Any]
    ) -> None:
        """Add the matching automations of a bucket, in the order in which they were put there."""
        groups = bucket.groups
        if groups is None:
            groups = bucket.group_members(_EventFields(event.type), self._unreadable)
        answers = self._memory.answers(groups, event, budget, refused)
        lookup = bucket.lookup
        if lookup is not None:
            members, unreadable = bucket.members, self._unreadable
            if matches := lookup.candidates.matches(members, event, budget, refused, unreadable):
                answers.append(matches)
        if len(answers) == 1:
            found.extend(one for _, one in answers[0])
        elif answers:
            found.extend(one for _, one in sorted(chain.from_iterable(answers), key=_place))


def _place(placed: tuple[int, Any]) -> int:
    return placed[0]


def organizations_above(parents: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The organizations above each entity, nearest first, from the parent of each; a ring is followed once."""
    return {entity: tuple(_chain(parents, entity)) for entity in parents}


def _chain(parents: Mapping[str, str], entity: str) -> Iterator[str]:
    seen = {entity}
    while (parent := parents.get(entity)) is not None and parent not in seen:
        seen.add(parent)
        yield parent
        entity = parent
