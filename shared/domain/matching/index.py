"""Automations compiled for matching, and the index that finds the few that may concern an event.

Looking an event up costs the same whatever else is defined: it asks for its own entity, project and collection, and for
the organizations above the entity, only. What the automations of one scope answered to the same values is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from operator import attrgetter
from typing import Any

from shared.domain.errors import InvalidDefinition
from shared.domain.events.fast_decoding import AnyEvent
from shared.domain.events.types import EventType
from shared.domain.filters.budget import FilterBudget
from shared.domain.filters.fields import field_getter
from shared.domain.matching.compiled import STATE, STEP, CompiledAutomation, Indexed, LazyAutomation, as_compiled
from shared.domain.matching.scope_groups import Bucket, Memory, ScopeKey


def _field_getter(event_type: EventType, name: str) -> Callable[[Any], object]:
    own = _OWN_GETTERS.get((event_type, name))
    return field_getter(event_type, name) if own is None else own


_OWN_GETTERS = {
    (EventType.RUN_STATE, STATE): attrgetter("data.state"),
    (EventType.RUN_METRIC, STEP): attrgetter("data.step"),
}


def _ignore(_one: Indexed, _refusal: InvalidDefinition) -> None:
    """Passes over an automation that can't be read."""


class AutomationIndex:
    """The enabled automations by event type and scope.

    `unreadable` is told of each automation whose text can't be read, when events come to its scope; it matches nothing.
    """

    def __init__(self, unreadable: Callable[[Any, InvalidDefinition], None] = _ignore) -> None:
        self._unreadable = unreadable
        self._by_id: dict[int, Indexed] = {}
        self._by_scope: dict[ScopeKey, Bucket] = {}
        # What this index may change in place; the others of its buckets are shared with copies.
        self._own: set[ScopeKey] = set()
        self._organizations: Mapping[str, tuple[str, ...]] = {}
        self._memory = Memory()

    def __len__(self) -> int:
        return len(self._by_id)

    def copy(self) -> AutomationIndex:
        """An index of its own with the same automations; edits of one are not seen in the other."""
        twin = AutomationIndex(self._unreadable)
        twin._by_id = dict(self._by_id)
        twin._by_scope = dict(self._by_scope)
        twin._organizations = self._organizations
        twin._memory = self._memory
        self._own = set()
        return twin

    def put(self, one: Indexed) -> None:
        """Add an automation, in place of its older self."""
        self.drop(one.id)
        self._by_id[one.id] = one
        key = one.scope_key
        bucket = self._at(key)
        if isinstance(one, LazyAutomation):
            one.scope_key = bucket.key
        bucket.members[one.id] = one
        self._memory.fit(len(self._by_id))

    def set_organizations(self, organizations: Mapping[str, tuple[str, ...]]) -> None:
        """Say which organizations are above each entity (`organizations_above`); what was said before is forgotten."""
        self._organizations = organizations

    def drop(self, automation_id: int) -> None:
        """Forget an automation, if it is there."""
        known = self._by_id.pop(automation_id, None)
        if known is None:
            return
        known.forget()
        key = known.scope_key
        bucket = self._at(key)
        del bucket.members[automation_id]
        if not bucket.members:
            del self._by_scope[key]
            self._own.discard(key)

    def _at(self, key: ScopeKey) -> Bucket:
        """A scope's automations, to be changed: copied once for each copy of the index, not for each edit."""
        bucket = self._by_scope.get(key)
        if bucket is None:
            bucket = self._by_scope[key] = Bucket(key, {})
            self._own.add(key)
        elif key not in self._own:
            bucket = self._by_scope[key] = Bucket(bucket.key, dict(bucket.members))
            self._own.add(key)
        else:
            bucket.groups = None
        return bucket

    def matching(
        self, event: AnyEvent, budget: FilterBudget | None = None, refused: list[Any] | None = None
    ) -> Iterator[CompiledAutomation]:
        """The automations whose scope and filter hold for the event, conditions not yet looked at.

        Args:
            event: the event.
            budget: what the filters of each entity's automations may cost, if it is applied.
            refused: gets the automations whose filters would cost more; they do not match.
        """
        budget, refused = budget or FilterBudget(), [] if refused is None else refused
        data = event.data
        event_type, entity = str.__str__(event.type), data.entity
        project = getattr(data, "project", None)  # a notice is in no project
        buckets = self._by_scope
        found: list[Any] = []
        budget.begin()
        if bucket := buckets.get((event_type, entity, None, None)):
            self._look(bucket, event, found, budget, refused)
        if project is not None and (bucket := buckets.get((event_type, entity, project, None))):
            self._look(bucket, event, found, budget, refused)
        collection = getattr(data, "collection", None)  # a run is in no collection
        if collection is not None and (bucket := buckets.get((event_type, entity, project, collection.name))):
            self._look(bucket, event, found, budget, refused)
        # What a team does is inside its organization; an organization's projects are its own.
        for organization in self._organizations.get(entity, ()):
            if bucket := buckets.get((event_type, organization, None, None)):
                budget.begin()
                self._look(bucket, event, found, budget, refused)
        return map(as_compiled, found)

    def _look(
        self, bucket: Bucket, event: AnyEvent, found: list[Any], budget: FilterBudget, refused: list[Any]
    ) -> None:
        """Add the automations of a bucket that match, in the order in which they were put there."""
        groups = bucket.groups
        if groups is None:
            getter = partial(_field_getter, event.type)
            groups = bucket.group_members(getter, self._unreadable)
        answers = self._memory.answers(groups, event, budget, refused)
        if len(answers) == 1:
            found.extend(one for _, one in answers[0])
        elif answers:
            found.extend(one for _, one in sorted(sum(answers, ()), key=_place))


def _place(placed: tuple[int, Any]) -> int:
    return placed[0]


def organizations_above(parents: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The organizations above each entity, nearest first, from the one it belongs to; a ring is gone round once."""
    return {entity: tuple(_chain(parents, entity)) for entity in parents}


def _chain(parents: Mapping[str, str], entity: str) -> Iterator[str]:
    seen = {entity}
    while (parent := parents.get(entity)) is not None and parent not in seen:
        seen.add(parent)
        yield parent
        entity = parent
