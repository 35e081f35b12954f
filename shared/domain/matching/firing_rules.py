"""The rules by which a match fires or is skipped, and what a firing sends: the same for evaluation and dry runs.

Must not look at anything but the automation, the event and what was kept of earlier firings, and must not change that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from shared.domain.automations.model import Automation, CooldownUnit, WebhookAction
from shared.domain.conditions.summaries import summarize
from shared.domain.conditions.windows import Observation, WindowState
from shared.domain.events.fast_decoding import AnyEvent
from shared.domain.events.partitioning import subject_key
from shared.domain.matching.compiled import CompiledAutomation
from shared.domain.matching.throttling import FiringState, after_firing, cooldown_refusal, rate_refusal
from shared.domain.payloads.content_types import PayloadTypes
from shared.domain.payloads.links import FiringLinks
from shared.domain.payloads.sealed import utf8_bytes
from shared.domain.payloads.templates import DEFAULT_ASKED, PayloadTooLarge, default_payload
from shared.domain.payloads.variables import MetricFacts, payload_values, unfilled_notes

GLOBAL_KEY = ""
"""The key of the state that an automation keeps as a whole. All partitions share its row, and so lock it."""
WEBHOOK_DISABLED = "webhook_disabled"
"""Why a firing is skipped whose webhook is disabled."""
MAX_EVENT_PAYLOAD_BYTES = 8 << 20
"""The largest size of all payloads that one event makes, together: eight of the largest."""


@dataclass(slots=True)
class AutomationState:
    """The state that one automation keeps under one key: the windows of a run, and when it fired.

    It belongs to the batch that read it. The batch replaces its members as it goes, and stores them with its commit.
    """

    windows: WindowState | None = None
    firing: FiringState = field(default_factory=FiringState)


def cooldown_key(compiled: CompiledAutomation, event: AnyEvent) -> str:
    """The key under which a cooldown remembers the last firing: the event's subject, or the automation as a whole."""
    cooldown = compiled.automation.cooldown
    return GLOBAL_KEY if cooldown is None or cooldown.per is CooldownUnit.AUTOMATION else subject_key(event)


def state_keys(compiled: CompiledAutomation, event: AnyEvent) -> set[str]:
    """All keys under which an automation may keep state about an event."""
    keys = set()
    if compiled.conditions is not None:
        keys.add(subject_key(event))
    if compiled.automation.cooldown is not None:
        keys.add(cooldown_key(compiled, event))
    if compiled.automation.rate_limit is not None:
        keys.add(GLOBAL_KEY)
    return keys


@dataclass(frozen=True, slots=True)
class ThrottleResult:
    """Whether a match fires, and what it changes."""

    refusal: str | None
    """Why the firing is skipped, in a word; None when it goes through."""
    states: Mapping[str, FiringState]
    """The states that the firing changes, by their keys, as they are after it; empty when it is skipped."""


_UNCHANGED: Mapping[str, FiringState] = MappingProxyType({})


def apply_throttles(
    compiled: CompiledAutomation,
    event: AnyEvent,
    *,
    received_ms: int,
    webhook_enabled: bool,
    firing_of: Callable[[str], FiringState],
) -> ThrottleResult:
    """Decide by cooldown and rate limit whether a match fires. Nothing is changed: the result has the new states.

    Args:
        compiled: the automation that matched.
        event: the event.
        received_ms: when the stream received the event, in Unix milliseconds.
        webhook_enabled: whether the action's webhook is enabled; true also for an action without a webhook.
        firing_of: the state under one of `state_keys`, before this match.
    """
    if not webhook_enabled:
        return ThrottleResult(WEBHOOK_DISABLED, _UNCHANGED)
    cooldown, rate = compiled.automation.cooldown, compiled.automation.rate_limit
    if cooldown is None and rate is None:
        return _UNTHROTTLED
    states: dict[str, FiringState] = {}
    if cooldown is not None:
        key = cooldown_key(compiled, event)
        cooling = firing_of(key)
        if refusal := cooldown_refusal(cooling, cooldown.period, received_ms):
            return ThrottleResult(refusal, _UNCHANGED)
        states[key] = after_firing(cooling, None, received_ms)
    if rate is not None:
        counting = firing_of(GLOBAL_KEY)
        if refusal := rate_refusal(counting, rate, received_ms):
            return ThrottleResult(refusal, _UNCHANGED)
        # A cooldown of the automation as a whole has the same key, and is counted with it.
        states[GLOBAL_KEY] = after_firing(counting, rate, received_ms)
    return ThrottleResult(None, states)


_UNTHROTTLED = ThrottleResult(None, _UNCHANGED)


def metric_facts(seen: Observation, compiled: CompiledAutomation, step: int | None) -> MetricFacts | None:
    """The facts about a metric for a payload; None when the event brought no sample of a watched metric."""
    if seen.metric_name is None or seen.condition_index is None:
        return None
    condition, value = compiled.automation.conditions[seen.condition_index], seen.metric_value or 0
    return MetricFacts(
        seen.metric_name,
        value,
        seen.metric_threshold,
        step=step,
        previous=seen.metric_previous,
        aggregate=seen.metric_aggregate,
        condition=condition.text,
        summarize=partial(
            summarize, condition, value=value, previous=seen.metric_previous, aggregate=seen.metric_aggregate
        ),
    )


class EventPayloads:
    """The sealed payloads of one event's firings, which together are bounded."""

    __slots__ = ("_console", "_event", "_texts", "bytes")

    def __init__(self, event: AnyEvent, console: str | None = None) -> None:
        """`console` is the console's address, where it is known."""
        self._event = event
        self._console = console
        self._texts: dict[str, str | None] = {}
        self.bytes = 0
        """How long they are together, as UTF-8."""

    def sealed(self, compiled: CompiledAutomation, *, delivery_id: str, metric: MetricFacts | None) -> str | None:
        """The payload of one more firing; None for an action without a webhook.

        Raises:
            PayloadTooLarge: as `Template.render` does, and when with it they would be more than
                `MAX_EVENT_PAYLOAD_BYTES` together; those that are smaller still find room.
        """
        if compiled.webhook_id is None:
            return None
        action, template = compiled.automation.action, compiled.automation.template
        values = self.values(compiled, delivery_id=delivery_id, metric=metric)
        # Large ones are refused before they are made: there may be a thousand.
        if (
            template is not None
            and template.large_places
            and self.bytes + template.least_bytes(values) > MAX_EVENT_PAYLOAD_BYTES
        ):
            raise PayloadTooLarge.among_others(MAX_EVENT_PAYLOAD_BYTES)
        if template is not None:
            sealed = template.render(values)
        elif isinstance(action, WebhookAction):
            sealed = default_payload(values, content_type=action.content_type, types=action.payload_types)
        else:
            sealed = default_payload(values)
        size_bytes = utf8_bytes(sealed)
        if self.bytes + size_bytes > MAX_EVENT_PAYLOAD_BYTES:
            raise PayloadTooLarge.among_others(MAX_EVENT_PAYLOAD_BYTES)
        self.bytes += size_bytes
        return sealed

    def values(self, compiled: CompiledAutomation, *, delivery_id: str, metric: MetricFacts | None) -> dict[str, str]:
        """The values of variables for one firing."""
        console, links = self._console, None
        if console is not None:
            links = FiringLinks(console, compiled.entity, compiled.id, delivery_id)
        return payload_values(
            self._event,
            delivery_id=delivery_id,
            metric=metric,
            asked=asked_by(compiled.automation),
            texts=self._texts,
            links=links,
        )


def notes_on_payload(
    compiled: CompiledAutomation, event: AnyEvent, metric: MetricFacts | None, console: str | None = None
) -> tuple[str, ...]:
    """What a firing's payload leaves blank, in sentences. `console` is the console's address, where it is known."""
    template = compiled.automation.template
    if template is None or compiled.webhook_id is None:
        return ()
    return unfilled_notes(template, EventPayloads(event, console).values(compiled, delivery_id="", metric=metric))


def asked_by(automation: Automation) -> tuple[str, ...]:
    """The variables that an automation's payload asks for, besides those that are always found."""
    if automation.template is not None:
        return automation.template.asked
    action = automation.action
    typed = isinstance(action, WebhookAction) and action.payload_types is PayloadTypes.JSON
    return DEFAULT_ASKED if typed else ()


def sealed_payload(
    compiled: CompiledAutomation,
    event: AnyEvent,
    *,
    delivery_id: str,
    metric: MetricFacts | None,
    console: str | None = None,
) -> str | None:
    """The sealed payload of a firing that is looked at alone; None for an action without a webhook.

    `console` is the console's address, where it is known.

    Raises:
        PayloadTooLarge: as `Template.render` does.
    """
    return EventPayloads(event, console).sealed(compiled, delivery_id=delivery_id, metric=metric)
