"""An automation compiled for matching: its scope as a key, its filter as a closure, its conditions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from shared.domain.automations.model import Automation
from shared.domain.bounded_cache import BoundedCache
from shared.domain.conditions.conditions import Condition, needed_values
from shared.domain.conditions.windows import CompiledConditions, compile_conditions
from shared.domain.errors import InvalidDefinition
from shared.domain.events.fast_decoding import AnyEvent
from shared.domain.events.types import EventType, RunPhase
from shared.domain.filters.budget import charge
from shared.domain.filters.clues import Cover, Equal, equality_key
from shared.domain.filters.fields import field_getter
from shared.domain.filters.filters import Filter
from shared.domain.filters.patterns import forget_pattern
from shared.domain.ids import DELIVERY_ID_BYTES, delivery_id
from shared.domain.matching.candidates import Predicate
from shared.domain.matching.scope_groups import ScopeKey

STATE = "state"
"""The pseudo-field of an automation that asks for states of a run."""
SILENCE = "silent_seconds"
"""The pseudo-field of an automation that asks for silent runs."""
METRICS = "metrics"
"""The pseudo-field of an automation with conditions: the names of the metrics that an event brings."""
STEP = "step"
"""The pseudo-field of an automation whose answer must not be remembered, since its cost is counted at each event."""
FREE_VALUES = 800
"""The number of values of a run that an automation may keep without drawing on the budget of the run's events."""
VALUE_BYTES = 32
"""The memory that a kept value takes."""
VALUE_UNITS = 10
"""The cost of each further value at each event, in the units of a filter's budget: it is read, examined and stored."""
HELD_FILTER_CHARS = 8 << 10
"""The longest filter, in characters, whose predicate is kept with its automation; those of longer ones are made again
when they are needed."""
AWAKE_BYTES = 32 << 20
"""The memory for automations that matched lately, and as much again for the predicates that they share."""


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
    matches: Callable[[Any], bool]
    """The test of an event's states and filter. Raises FilterTooCostly."""
    definition_bytes: int = 0
    """The length of the definition as JSON text."""
    effect_bytes: int = 0
    """About how much a match takes: its payload without what metadata brings into it, and the windows of a run."""
    large_places: int = 0
    """How many places its payload has for values that may be large."""

    @property
    def scope_key(self) -> ScopeKey:
        """The key under which the index has it."""
        scope = self.automation.scope
        return scope_key(self.automation.event, self.entity, scope.project, scope.collection)

    @property
    def predicate(self) -> Predicate:
        """The test of an event in its scope, and the fields that the test reads."""
        return self.matches, _fields_asked(self.automation)

    @property
    def covers(self) -> tuple[Cover, ...]:
        """Covers of the test; where it has conditions, also one of the events that bring a metric which they watch."""
        one = self.automation
        return covers_of(one.filter, one.states, (condition.metric for condition in one.conditions))

    def compiled(self) -> CompiledAutomation:
        """Itself."""
        return self

    def forget(self) -> None:
        """Drop what is cached of it elsewhere: nothing."""


def covers_of(expression: Filter, states: Iterable[RunPhase], metrics: Iterable[str]) -> tuple[Cover, ...]:
    """Covers of an automation's test, by its filter, its states and the metrics of its conditions."""
    covers = expression.covers
    if named := sorted(states):
        covers += (tuple(Equal(STATE, equality_key(state)) for state in named),)
    if watched := dict.fromkeys(metrics):
        covers += (tuple(Equal(METRICS, metric) for metric in watched),)
    return covers


@dataclass(frozen=True, slots=True)
class TextReader:
    """How a kept text is read. Both raise InvalidDefinition where this version can't read it."""

    compile: Callable[[bytes], CompiledAutomation]
    covers: Callable[[bytes], tuple[Cover, ...]]
    """What `compile` gives as the covers. It may read less of the text, and so accept more."""


class LazyAutomation:
    """One enabled automation, of which only the text is kept, and its predicate once events come to its scope.

    The rest of its definition is parsed again when it matches; the few that do are cached.

    A worker's threads share it. `_test` and `_fields` are set once, in `predicate`: the fields first, so a thread that
    sees a test sees them too. Two threads that set them at the same moment set equal values.
    """

    __slots__ = ("_fields", "_reader", "_test", "_was_read", "id", "scope_key", "text")

    def __init__(self, automation_id: int, key: ScopeKey, text: bytes, reader: TextReader) -> None:
        """Args:
        text: all that the reader needs, in any form.
        """
        self.id = automation_id
        self.scope_key = key
        self.text = text
        self._reader = reader
        self._test: Callable[[Any], bool] | None = None
        self._fields: tuple[str, ...] = ()
        self._was_read = False

    @property
    def predicate(self) -> Predicate:
        """The test of an event in its scope, and the fields that the test reads. Raises InvalidDefinition."""
        if self._test is None:
            # The rest of it is not kept: of the thousands whose scopes events come to, few ever match.
            compiled = _awake.get(self) or self.compile()
            test, self._fields = compiled.predicate
            held = compiled.automation.filter.chars <= HELD_FILTER_CHARS
            self._test = test if held else partial(_awakened_matches, self)
        return self._test, self._fields

    @property
    def covers(self) -> tuple[Cover, ...]:
        """Covers of the test. Raises InvalidDefinition, but not for all that `predicate` raises it for."""
        self._was_read = True
        return self._reader.covers(self.text)

    def compiled(self) -> CompiledAutomation:
        """The compiled automation, cached or made now. Raises InvalidDefinition."""
        found = _awake.get(self)
        if found is None:
            found = self.compile()
            _awake.put(self, found)
        return found

    def forget(self) -> None:
        """Drop what is cached of it elsewhere, since it was deleted or replaced."""
        if self._was_read:
            with suppress(InvalidDefinition):
                for pattern in self.compiled().automation.filter.patterns:
                    forget_pattern(pattern)
        _awake.forget(self)

    def compile(self) -> CompiledAutomation:
        """Compile the automation from its text. Raises InvalidDefinition."""
        self._was_read = True
        return self._reader.compile(self.text)


def _awakened_matches(dormant: LazyAutomation, event: Any) -> bool:
    return dormant.compiled().matches(event)


def _weight(compiled: CompiledAutomation) -> int:
    """About how many bytes a compiled automation takes (measured)."""
    return 4096 + 8 * compiled.definition_bytes


_awake: BoundedCache[LazyAutomation, CompiledAutomation] = BoundedCache(AWAKE_BYTES, _weight)


Indexed = CompiledAutomation | LazyAutomation


def scope_key(event_type: EventType, entity: str, project: str | None, collection: str | None) -> ScopeKey:
    """The key of a scope; the type is plain text, since members of enumerations are slow to look up by."""
    return (str.__str__(event_type), entity, project, collection)


def compile_automation(
    automation: Automation,
    *,
    automation_id: int,
    entity_id: int,
    entity: str,
    epoch: int,
    webhook_id: int | None,
    definition_bytes: int = 0,
) -> CompiledAutomation:
    """The automation with its filter and conditions as closures."""
    matches = _predicate(automation.event, automation.filter)
    if automation.event is EventType.RUN_STATE:
        matches = partial(_in_states, automation.states, matches)
        if automation.silent_for is not None:
            matches = partial(_silent_for, automation.silent_for.total_seconds(), matches)
    kept_values = _kept_values(automation.conditions)
    if kept_values > FREE_VALUES:
        matches = partial(_counted, (kept_values - FREE_VALUES) * VALUE_UNITS, matches)
    template = automation.template
    return CompiledAutomation(
        id=automation_id,
        entity_id=entity_id,
        entity=entity,
        epoch=epoch,
        webhook_id=webhook_id,
        automation=automation,
        conditions=compile_conditions(automation.conditions) if automation.conditions else None,
        matches=matches,
        definition_bytes=definition_bytes,
        effect_bytes=(0 if template is None else template.literal_chars) + kept_values * VALUE_BYTES,
        large_places=0 if template is None else template.large_places,
    )


def _predicate(event_type: EventType, expression: Filter) -> Callable[[Any], bool]:
    """Automations with the same filter share its predicate."""
    shared = _predicates.get((event_type, expression))
    if shared is None:
        shared = expression.compile(partial(field_getter, event_type)), expression.chars
        _predicates.put((event_type, expression), shared)
    return shared[0]


_predicates: BoundedCache[tuple[EventType, Filter], tuple[Callable[[Any], bool], int]] = BoundedCache(
    AWAKE_BYTES, lambda shared: 2048 + 16 * shared[1]
)


def _in_states(states: frozenset[RunPhase], matches: Callable[[Any], bool], event: Any) -> bool:
    return event.data.state in states and matches(event)


def _silent_for(seconds: float, matches: Callable[[Any], bool], event: Any) -> bool:
    return is_of_silence(event, seconds) and matches(event)


def is_of_silence(event: Any, seconds: float) -> bool:
    """Whether an event says that its run was silent for just so long, or says something else than that it was."""
    return bool(event.data.state != RunPhase.SILENT or event.data.silent_seconds == seconds)


def _counted(units: int, matches: Callable[[Any], bool], event: Any) -> bool:
    if not matches(event):
        return False
    charge(units)
    return True


def _kept_values(conditions: Iterable[Condition]) -> int:
    return sum(needed_values(conditions).values())


def _fields_asked(automation: Automation) -> tuple[str, ...]:
    asked = set(automation.filter.fields)
    if automation.states:
        asked.add(STATE)
    if automation.silent_for is not None:
        asked.add(SILENCE)
    if _kept_values(automation.conditions) > FREE_VALUES:
        asked.add(STEP)
    return _intern(tuple(sorted(asked)))


@lru_cache(maxsize=1024)
def _intern(fields: tuple[str, ...]) -> tuple[str, ...]:
    return fields


def as_compiled(one: Indexed) -> CompiledAutomation:
    return one.compiled()


def firing_id(automation_id: int, event: AnyEvent) -> str:
    """The id of the delivery that this automation makes of this event, always and everywhere the same.

    It depends on the event's source and id only, so an event that a producer publishes again makes no second delivery.
    """
    named = f"{automation_id}\0{event.source}\0{event.id}".encode()
    return delivery_id(hashlib.blake2b(named, digest_size=DELIVERY_ID_BYTES).digest())
