"""A simulation of evaluation: whether an automation would fire on events, in order, and why.

It needs no database, stream or request.

The rules are evaluation's own (`AutomationIndex`, `CompiledConditions.observe`, `firing_rules`); only the
record of what each of them saw is added. Must not store anything, nor know a secret's value. The words are in
`shared.domain.explain.text`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum

from shared.domain.conditions.run_starts import KnownStarts, event_token
from shared.domain.conditions.windows import CompiledConditions, Observation, WindowState
from shared.domain.events.models import Event, RunMetricEvent, RunStateEvent
from shared.domain.events.partitioning import subject_key
from shared.domain.filters.budget import FilterBudget, FilterTooCostly
from shared.domain.matching.compiled import CompiledAutomation, firing_id, is_of_silence
from shared.domain.matching.firing_rules import (
    GLOBAL_KEY,
    AutomationState,
    apply_throttles,
    cooldown_key,
    metric_facts,
    notes_on_payload,
    sealed_payload,
)
from shared.domain.matching.index import AutomationIndex
from shared.domain.matching.throttling import FiringState, after_firing
from shared.domain.payloads.templates import PayloadTooLarge
from shared.domain.payloads.variables import MetricFacts


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
    #: Of the past: the automation was not created yet.
    NOT_CREATED = "not_created"
    #: Of the past: the automation was deleted.
    DELETED = "deleted"
    #: Of the past: what the automation was then is not kept.
    NOT_KEPT = "not_kept"
    #: Of the past: no worker has evaluated the event yet.
    NOT_EVALUATED = "not_evaluated"
    #: Of the past: no firing is recorded, and the events that were read do not show why.
    NOT_RECORDED = "not_recorded"


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event, and when the stream received it, in Unix milliseconds."""

    event: Event
    received_ms: int
    partition: int | None = None
    """Where it is kept, with `entry_id`; None for an event that was given."""
    entry_id: str | None = None


@dataclass(frozen=True, slots=True)
class WebhookState:
    """Whether the webhook of an action takes deliveries now."""

    name: str
    enabled: bool = True
    paused: bool = False
    disabled_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """The delivery that evaluation stored of an event, also one that was skipped."""

    delivery_id: str
    status: str
    reason: str | None
    """As it is now: of a skipped delivery why it was held back."""
    skipped: Reason | None
    """Why nothing was to be sent; None for what fired."""
    received_ms: int
    """When the stream received the event, in Unix milliseconds."""
    evaluated_ms: int
    """When the delivery was stored, in Unix milliseconds."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The automation of a dry run, with its webhook and the organizations that it needs to know."""

    compiled: CompiledAutomation
    webhook: WebhookState | None = None
    organizations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The organizations above each entity, as `AutomationIndex.place` takes them."""
    console: str | None = None
    """The console's address, which payloads may have links to; None where it is not known."""


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
    recorded: Recorded | None = None
    """What evaluation stored of it, where that was looked up."""
    notes: tuple[str, ...] = ()
    """What the answer leaves out, in sentences."""


class Simulator:
    """One automation with the state that it keeps from event to event. It is used by one thread."""

    def __init__(
        self,
        subject: Subject,
        *,
        kept: Mapping[str, AutomationState] | None = None,
        delivered: Collection[str] = (),
        starts: KnownStarts | None = None,
    ) -> None:
        """Begin with nothing kept, or with what evaluation has stored.

        Args:
            kept: windows and firing times by key; the simulator changes them.
            delivered: the ids of deliveries that exist.
            starts: of runs, up to the first event; the simulator adds to them.
        """
        self.subject = subject
        self._kept = dict(kept or {})
        self._delivered = set(delivered)
        self._starts = starts or KnownStarts()
        self._true_since: dict[str, int | None] = {}
        self._index = AutomationIndex()
        self._index.set_organizations(subject.organizations)
        self._index.put(replace(subject.compiled, matches=lambda _event: True))

    def succeeded_by(self, subject: Subject) -> Simulator:
        """The simulator of the automation's next edition: deliveries are known to it, windows and firings too if the
        epoch is the same."""
        next_one = Simulator(subject, starts=self._starts)
        next_one._delivered = self._delivered
        if subject.compiled.epoch == self.subject.compiled.epoch:
            next_one._kept, next_one._true_since = self._kept, self._true_since
        return next_one

    def in_scope(self, event: Event) -> bool:
        """Whether an event is of the automation's type and in its scope."""
        return next(self._index.matching(event, FilterBudget(), []), None) is not None

    def would_match(self, event: Event) -> bool:
        """Whether type, scope, states and filter hold, and the automation is enabled."""
        compiled = self.subject.compiled
        if not compiled.automation.enabled or not self.in_scope(event):
            return False
        try:
            with FilterBudget().applied():
                return compiled.matches(event)
        except FilterTooCostly:
            return False

    def know_delivery(self, delivery_id: str) -> None:
        """From now on an event that would make this delivery is a repeated one."""
        self._delivered.add(delivery_id)

    def force(self, arrival: Arrival, recorded: Recorded) -> Considered:
        """Let the automation look at an event of which it is recorded what came of it, and go on from there."""
        compiled, event = self.subject.compiled, arrival.event
        self._starts.note(event)
        samples = None
        if compiled.conditions is not None and isinstance(event, RunMetricEvent):
            samples = self._observe(compiled.conditions, event)
            samples.windows.armed = False
        cooling = self._firing_of(cooldown_key(compiled, event)) if compiled.automation.cooldown else None
        counting = self._firing_of(GLOBAL_KEY) if compiled.automation.rate_limit else None
        if recorded.skipped in (None, Reason.PAYLOAD_TOO_LARGE):
            if cooling is not None:
                kept = self._kept_under(cooldown_key(compiled, event))
                kept.firing = after_firing(kept.firing, None, arrival.received_ms)
            if compiled.automation.rate_limit is not None:
                kept = self._kept_under(GLOBAL_KEY)
                kept.firing = after_firing(kept.firing, compiled.automation.rate_limit, arrival.received_ms)
        self._delivered.add(recorded.delivery_id)
        sealed, metric = None, _metric(compiled, event, samples)
        console = self.subject.console
        notes = notes_on_payload(compiled, event, metric, console)
        with suppress(PayloadTooLarge):
            sealed = sealed_payload(compiled, event, delivery_id=recorded.delivery_id, metric=metric, console=console)
        return Considered(
            arrival,
            DryRunOutcome.FIRED if recorded.skipped is None else DryRunOutcome.SKIPPED,
            recorded.skipped,
            matched=True,
            delivery_id=recorded.delivery_id,
            sealed=sealed,
            samples=samples,
            cooling=cooling,
            counting=counting,
            recorded=recorded,
            notes=notes,
        )

    def consider(self, arrival: Arrival) -> Considered:
        """Let the automation look at the next event."""
        compiled, event = self.subject.compiled, arrival.event
        self._starts.note(event)
        if not self.in_scope(event):
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
        start = self._starts.of(key).last
        seen = conditions.observe(
            kept.windows, event.data.step, event.data.metrics, token=event_token(event), start=start
        )
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
        sealed, metric, console = None, _metric(compiled, arrival.event, samples), self.subject.console
        try:
            sealed = sealed_payload(compiled, arrival.event, delivery_id=identity, metric=metric, console=console)
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
            notes=notes_on_payload(compiled, arrival.event, metric, console),
        )

    def _kept_under(self, key: str) -> AutomationState:
        return self._kept.setdefault(key, AutomationState())

    def _firing_of(self, key: str) -> FiringState:
        return self._kept_under(key).firing


def _metric(compiled: CompiledAutomation, event: Event, samples: Samples | None) -> MetricFacts | None:
    if samples is None or not isinstance(event, RunMetricEvent):
        return None
    return metric_facts(samples.observation, compiled, event.data.step)


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
    if not isinstance(event, RunStateEvent):
        return True
    silence = compiled.automation.silent_for
    lasts = silence is None or is_of_silence(event, silence.total_seconds())
    return event.data.state in compiled.automation.states and lasts


def _unmet(seen: Observation) -> Reason:
    if seen.condition_index is None:
        return Reason.NO_NEW_SAMPLE
    return Reason.ALREADY_TRUE if seen.held else Reason.CONDITIONS
