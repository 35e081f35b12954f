"""A simulation of evaluation: whether an automation would fire on events, in order, and why.

It needs no database, stream or request.

The rules are evaluation's own (`AutomationIndex`, `CompiledConditions.observe`, `firing_rules`); only the
record of what each of them saw is added. Must not store anything, nor know a secret's value. The words are in
`shared.domain.explain.text`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from shared.domain.conditions.windows import CompiledConditions, Observation, WindowState
from shared.domain.events.models import Event, RunMetricEvent, RunStateEvent
from shared.domain.events.partitioning import subject_key
from shared.domain.filters.budget import FilterBudget, FilterTooCostly
from shared.domain.matching.compiled import CompiledAutomation, firing_id
from shared.domain.matching.firing_rules import (
    GLOBAL_KEY,
    AutomationState,
    apply_throttles,
    cooldown_key,
    metric_facts,
    sealed_payload,
)
from shared.domain.matching.index import AutomationIndex
from shared.domain.matching.throttling import FiringState
from shared.domain.payloads.templates import PayloadTooLarge


class DryRunOutcome(StrEnum):
    """The outcome of one event."""

    #: A delivery that is sent, or recorded when the action has no webhook.
    FIRED = "fired"
    #: A delivery that is held back, or that could not be rendered.
    SKIPPED = "skipped"
    #: Scope and type fit, something else does not.
    NO_MATCH = "no_match"
    #: Another type of event, or another place.
    OUT_OF_SCOPE = "out_of_scope"


class Reason(StrEnum):
    """Why an event has its outcome. For skipped events it is the reason in the history of deliveries."""

    EVENT_TYPE = "event_type"
    SCOPE = "scope"
    AUTOMATION_DISABLED = "automation_disabled"
    STATE = "state"
    FILTER = "filter"
    #: The filter asks for more work on this event than one may cost: it does not match.
    FILTER_TOO_COSTLY = "filter_too_costly"
    #: An event of this source and id has made a delivery of this automation.
    REPEATED = "repeated"
    #: No metric that a condition watches has a sample newer than its last.
    NO_NEW_SAMPLE = "no_new_sample"
    CONDITIONS = "conditions"
    #: The conditions hold, as they did before this event.
    ALREADY_TRUE = "already_true"
    WEBHOOK_DISABLED = "webhook_disabled"
    COOLDOWN = "cooldown"
    RATE_LIMIT = "rate_limit"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    #: It fires, and the delivery waits until the webhook is resumed.
    WEBHOOK_PAUSED = "webhook_paused"


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event, and when the stream received it, in Unix milliseconds."""

    event: Event
    received_ms: int


@dataclass(frozen=True, slots=True)
class WebhookState:
    """Whether the webhook of an action takes deliveries now."""

    name: str
    enabled: bool = True
    paused: bool = False
    disabled_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """The automation of a dry run, with its webhook and the organizations that it needs to know."""

    compiled: CompiledAutomation
    webhook: WebhookState | None = None
    organizations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The organizations above each entity, as `AutomationIndex.place` takes them."""


@dataclass(frozen=True, slots=True)
class Samples:
    """The metric conditions after an event."""

    observation: Observation
    windows: WindowState
    """As they are after the event; they change with the next one."""
    true_since_step: int | None
    """The step at which the conditions became true, if they were true before this event and that step was seen."""


@dataclass(frozen=True, slots=True)
class Considered:
    """The result for one event. Explain it before the next event is considered, since its windows change then."""

    arrival: Arrival
    outcome: DryRunOutcome
    reason: Reason | None
    matched: bool = False
    """Type, scope, state and filter hold, and the automation is enabled."""
    delivery_id: str | None = None
    sealed: str | None = None
    """The sealed payload of what fired or was skipped."""
    samples: Samples | None = None
    cooling: FiringState | None = None
    """Before this event, under the cooldown's key; None when there is no cooldown, or it was not asked."""
    counting: FiringState | None = None
    """Before this event, for the rate limit; None as above."""


class Simulator:
    """One automation with the state that it keeps from event to event. It is used by one thread."""

    def __init__(
        self, subject: Subject, *, kept: Mapping[str, AutomationState] | None = None, delivered: Collection[str] = ()
    ) -> None:
        """Begin with nothing kept, or with what evaluation has stored.

        Args:
            kept: windows and firing times by key; the simulator changes them.
            delivered: the ids of deliveries that exist.
        """
        self.subject = subject
        self._kept = dict(kept or {})
        self._delivered = set(delivered)
        self._true_since: dict[str, int] = {}
        self._index = AutomationIndex()
        self._index.set_organizations(subject.organizations)
        self._index.put(replace(subject.compiled, matches=lambda _event: True))

    def consider(self, arrival: Arrival) -> Considered:
        """Let the automation look at the next event."""
        compiled, event = self.subject.compiled, arrival.event
        if next(self._index.matching(event, FilterBudget(), []), None) is None:
            other_type = event.type != compiled.automation.event
            return _out_of_scope(arrival, Reason.EVENT_TYPE if other_type else Reason.SCOPE)
        if not compiled.automation.enabled:
            return _no_match(arrival, Reason.AUTOMATION_DISABLED)
        try:
            with FilterBudget().applied():
                matches = compiled.matches(event)
        except FilterTooCostly:
            return _no_match(arrival, Reason.FILTER_TOO_COSTLY)
        if not matches:
            return _no_match(arrival, Reason.FILTER if _in_states(compiled, event) else Reason.STATE)
        identity = firing_id(compiled.id, event)
        if identity in self._delivered:
            return _no_match(arrival, Reason.REPEATED, delivery_id=identity, matched=True)
        return self._consider_match(arrival, identity)

    def _consider_match(self, arrival: Arrival, identity: str) -> Considered:
        conditions, event = self.subject.compiled.conditions, arrival.event
        if conditions is None or not isinstance(event, RunMetricEvent):
            return self._fire(arrival, identity, None)
        samples = self._observe(conditions, event)
        if not samples.observation.fired:
            return _no_match(arrival, _unmet(samples.observation), samples=samples, matched=True)
        return self._fire(arrival, identity, samples)

    def _observe(self, conditions: CompiledConditions, event: RunMetricEvent) -> Samples:
        key = subject_key(event)
        kept = self._kept_under(key)
        if kept.windows is None:
            kept.windows = conditions.new_state()
        seen = conditions.observe(kept.windows, event.data.step, event.data.metrics)
        since = self._true_since.get(key)
        if not seen.held:
            self._true_since.pop(key, None)
        elif seen.fired:
            self._true_since[key] = event.data.step
        return Samples(seen, kept.windows, since if seen.held else None)

    def _fire(self, arrival: Arrival, identity: str, samples: Samples | None) -> Considered:
        compiled, webhook = self.subject.compiled, self.subject.webhook
        cooling = self._firing_of(cooldown_key(compiled, arrival.event)) if compiled.automation.cooldown else None
        counting = self._firing_of(GLOBAL_KEY) if compiled.automation.rate_limit else None
        throttled = apply_throttles(
            compiled,
            arrival.event,
            received_ms=arrival.received_ms,
            webhook_enabled=webhook is None or webhook.enabled,
            firing_of=self._firing_of,
        )
        for key, state in throttled.states.items():
            self._kept_under(key).firing = state
        self._delivered.add(identity)
        reason = None if throttled.refusal is None else Reason(throttled.refusal)
        sealed, metric = None, None if samples is None else metric_facts(samples.observation)
        try:
            sealed = sealed_payload(compiled, arrival.event, delivery_id=identity, metric=metric)
        except PayloadTooLarge:
            reason = reason or Reason.PAYLOAD_TOO_LARGE
        outcome = DryRunOutcome.FIRED if reason is None else DryRunOutcome.SKIPPED
        if reason is None and webhook is not None and webhook.paused:
            reason = Reason.WEBHOOK_PAUSED
        return Considered(
            arrival,
            outcome,
            reason,
            matched=True,
            delivery_id=identity,
            sealed=sealed,
            samples=samples,
            cooling=cooling,
            counting=counting,
        )

    def _kept_under(self, key: str) -> AutomationState:
        return self._kept.setdefault(key, AutomationState())

    def _firing_of(self, key: str) -> FiringState:
        return self._kept_under(key).firing


def _out_of_scope(arrival: Arrival, reason: Reason) -> Considered:
    return Considered(arrival, DryRunOutcome.OUT_OF_SCOPE, reason)


def _no_match(
    arrival: Arrival,
    reason: Reason,
    *,
    matched: bool = False,
    delivery_id: str | None = None,
    samples: Samples | None = None,
) -> Considered:
    return Considered(
        arrival, DryRunOutcome.NO_MATCH, reason, matched=matched, delivery_id=delivery_id, samples=samples
    )


def _in_states(compiled: CompiledAutomation, event: Event) -> bool:
    return not isinstance(event, RunStateEvent) or event.data.state in compiled.automation.states


def _unmet(seen: Observation) -> Reason:
    if seen.condition_index is None:
        return Reason.NO_NEW_SAMPLE
    return Reason.ALREADY_TRUE if seen.held else Reason.CONDITIONS
