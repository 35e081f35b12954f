"""Automations compiled for matching, and the index that finds the few that may concern an event.

Looking an event up costs the same whatever else is defined: it asks for its own entity, project and collection, and for
the organizations above the entity, only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from shared.domain.automations import Automation
from shared.domain.events import Event, EventType, RunMetricData, RunStateData, RunStateEvent
from shared.domain.fields import field_getter
from shared.domain.ids import DELIVERY_ID_BYTES, delivery_id
from shared.domain.windows import CompiledConditions, compile_conditions

ScopeKey = tuple[EventType, str, str | None, str | None]


@dataclass(frozen=True, slots=True)
class CompiledAutomation:
    """One enabled automation, ready to be matched."""

    id: int
    entity_id: int
    entity: str
    epoch: int
    webhook_id: int | None
    automation: Automation
    conditions: CompiledConditions | None
    matches: Callable[[Event], bool]

    @property
    def scope_key(self) -> ScopeKey:
        """Where the index keeps it."""
        scope = self.automation.scope
        return (self.automation.event, self.entity, scope.project, scope.collection)


def compile_automation(
    automation: Automation, *, automation_id: int, entity_id: int, entity: str, epoch: int, webhook_id: int | None
) -> CompiledAutomation:
    """The automation with its filter and conditions as closures."""
    matches = automation.filter.compile(lambda name: field_getter(automation.event, name))
    if automation.event is EventType.RUN_STATE:
        matches = _in_states(automation, matches)
    return CompiledAutomation(
        id=automation_id,
        entity_id=entity_id,
        entity=entity,
        epoch=epoch,
        webhook_id=webhook_id,
        automation=automation,
        conditions=compile_conditions(automation.conditions) if automation.conditions else None,
        matches=matches,
    )


def _in_states(automation: Automation, matches: Callable[[Event], bool]) -> Callable[[Event], bool]:
    states = automation.states

    def in_states(event: Event) -> bool:
        return isinstance(event, RunStateEvent) and event.data.state in states and matches(event)

    return in_states


class AutomationIndex:
    """The enabled automations by event type and scope."""

    def __init__(self) -> None:
        self._by_id: dict[int, CompiledAutomation] = {}
        self._by_scope: dict[ScopeKey, dict[int, CompiledAutomation]] = {}
        # What this index may change in place; the others of its dictionaries are shared with copies.
        self._own: set[ScopeKey] = set()
        self._organizations: Mapping[str, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def copy(self) -> AutomationIndex:
        """An index of its own with the same automations; edits of one are not seen in the other."""
        twin = AutomationIndex()
        twin._by_id = dict(self._by_id)
        twin._by_scope = dict(self._by_scope)
        twin._organizations = self._organizations
        self._own = set()
        return twin

    def put(self, compiled: CompiledAutomation) -> None:
        """Add an automation, in place of its older self."""
        self.drop(compiled.id)
        self._by_id[compiled.id] = compiled
        self._at(compiled.scope_key)[compiled.id] = compiled

    def place(self, organizations: Mapping[str, tuple[str, ...]]) -> None:
        """Say which organizations are above each entity (`organizations_above`); what was said before is forgotten."""
        self._organizations = organizations

    def drop(self, automation_id: int) -> None:
        """Forget an automation, if it is there."""
        known = self._by_id.pop(automation_id, None)
        if known is None:
            return
        key = known.scope_key
        left = self._at(key)
        del left[automation_id]
        if not left:
            del self._by_scope[key]
            self._own.discard(key)

    def _at(self, key: ScopeKey) -> dict[int, CompiledAutomation]:
        """A scope's automations, to be changed: copied once for each copy of the index, not for each edit."""
        if key not in self._own:
            self._by_scope[key] = dict(self._by_scope.get(key, _NONE))
            self._own.add(key)
        return self._by_scope[key]

    def matching(self, event: Event) -> Iterator[CompiledAutomation]:
        """The automations whose scope and filter hold for the event, conditions not yet looked at."""
        data = event.data
        scopes: tuple[ScopeKey, ...] = (
            (event.type, data.entity, None, None),
            (event.type, data.entity, data.project, None),
        )
        if not isinstance(data, RunMetricData | RunStateData):
            scopes += ((event.type, data.entity, data.project, data.collection.name),)
        # What a team does is inside its organization; an organization's projects are its own.
        if above := self._organizations.get(data.entity):
            scopes += tuple((event.type, organization, None, None) for organization in above)
        for scope in scopes:
            for compiled in self._by_scope.get(scope, _NONE).values():
                if compiled.matches(event):
                    yield compiled


_NONE: dict[int, CompiledAutomation] = {}


def organizations_above(parents: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The organizations above each entity, nearest first, from the one it belongs to; a ring is gone round once."""
    return {entity: tuple(_chain(parents, entity)) for entity in parents}


def _chain(parents: Mapping[str, str], entity: str) -> Iterator[str]:
    seen = {entity}
    while (parent := parents.get(entity)) is not None and parent not in seen:
        seen.add(parent)
        yield parent
        entity = parent


def firing_id(automation_id: int, event: Event) -> str:
    """The id of the delivery that this automation makes of this event: the same whenever and wherever it is worked out.

    Since it depends on the event's source and id only, an event that a producer publishes again makes no second one.
    """
    named = f"{automation_id}\0{event.source}\0{event.id}".encode()
    return delivery_id(hashlib.blake2b(named, digest_size=DELIVERY_ID_BYTES).digest())
