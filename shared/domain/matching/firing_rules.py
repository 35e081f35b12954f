"""How a match becomes a firing or is held back, and what a firing sends: the same rules for evaluation and dry runs.

Must not look at anything but the automation, the event and what was kept of earlier firings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from shared.domain.automations.model import CooldownUnit
from shared.domain.conditions.windows import Observation, WindowState
from shared.domain.events.fast_decoding import AnyEvent
from shared.domain.events.partitioning import subject_key
from shared.domain.matching.compiled import CompiledAutomation
from shared.domain.matching.throttling import FiringState, cooldown_refusal, rate_refusal, record_firing
from shared.domain.payloads.sealed import utf8_bytes
from shared.domain.payloads.templates import PayloadTooLarge, default_payload
from shared.domain.payloads.variables import MetricFacts, payload_values

GLOBAL_KEY = ""
"""The key of what an automation keeps for itself as a whole, shared by all partitions."""
WEBHOOK_DISABLED = "webhook_disabled"
MAX_EVENT_PAYLOAD_BYTES = 8 << 20
"""What all payloads that one event makes may be together: eight of the largest."""


@dataclass(slots=True)
class AutomationState:
    """What one automation keeps under one key: the windows of a run, and when it fired."""

    windows: WindowState | None = None
    firing: FiringState = field(default_factory=FiringState)


def cooldown_key(compiled: CompiledAutomation, event: AnyEvent) -> str:
    """The key under which the firing that starts a cooldown is remembered."""
    cooldown = compiled.automation.cooldown
    return GLOBAL_KEY if cooldown is None or cooldown.per is CooldownUnit.AUTOMATION else subject_key(event)


def state_keys(compiled: CompiledAutomation, event: AnyEvent) -> set[str]:
    """The keys under which an automation may keep something about an event."""
    keys = set()
    if compiled.conditions is not None:
        keys.add(subject_key(event))
    if compiled.automation.cooldown is not None:
        keys.add(cooldown_key(compiled, event))
    if compiled.automation.rate_limit is not None:
        keys.add(GLOBAL_KEY)
    return keys


def apply_throttles(
    compiled: CompiledAutomation,
    event: AnyEvent,
    *,
    received_ms: int,
    webhook_enabled: bool,
    firing_of: Callable[[str], FiringState],
) -> str | None:
    """Why a firing is skipped, or None: then it is recorded in the states that `firing_of` gives for each key.

    Args:
        received_ms: when the stream received the event, in Unix milliseconds.
        webhook_enabled: true also for an action without a webhook.
    """
    if not webhook_enabled:
        return WEBHOOK_DISABLED
    cooldown, rate = compiled.automation.cooldown, compiled.automation.rate_limit
    cooling = None if cooldown is None else cooldown_key(compiled, event)
    if cooldown is not None and cooling is not None:
        reason = cooldown_refusal(firing_of(cooling), cooldown.period, received_ms)
        if reason is not None:
            return reason
    if rate is not None:
        if reason := rate_refusal(firing_of(GLOBAL_KEY), rate, received_ms):
            return reason
        record_firing(firing_of(GLOBAL_KEY), rate, received_ms)
    if cooling is not None and (rate is None or cooling != GLOBAL_KEY):
        record_firing(firing_of(cooling), None, received_ms)
    return None


def metric_facts(seen: Observation) -> MetricFacts | None:
    """What a payload says of the metric that an event brought; None when it brought none that is watched."""
    if seen.metric_name is None:
        return None
    return MetricFacts(seen.metric_name, seen.metric_value or 0.0, seen.metric_threshold or 0.0)


class EventPayloads:
    """The sealed payloads of one event's firings, which together are bounded."""

    __slots__ = ("_event", "_texts", "bytes")

    def __init__(self, event: AnyEvent) -> None:
        self._event = event
        self._texts: dict[str, str] = {}
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
        template = compiled.automation.template
        asked = () if template is None else template.metadata
        values = payload_values(self._event, delivery_id=delivery_id, metric=metric, metadata=asked, texts=self._texts)
        # Large ones are refused before they are made: there may be a thousand.
        if asked and template is not None and self.bytes + template.least_bytes(values) > MAX_EVENT_PAYLOAD_BYTES:
            raise PayloadTooLarge.among_others(MAX_EVENT_PAYLOAD_BYTES)
        sealed = default_payload(values) if template is None else template.render(values)
        size_bytes = utf8_bytes(sealed)
        if self.bytes + size_bytes > MAX_EVENT_PAYLOAD_BYTES:
            raise PayloadTooLarge.among_others(MAX_EVENT_PAYLOAD_BYTES)
        self.bytes += size_bytes
        return sealed


def sealed_payload(
    compiled: CompiledAutomation, event: AnyEvent, *, delivery_id: str, metric: MetricFacts | None
) -> str | None:
    """The sealed payload of a firing that is looked at alone; None for an action without a webhook.

    Raises:
        PayloadTooLarge: as `Template.render` does.
    """
    return EventPayloads(event).sealed(compiled, delivery_id=delivery_id, metric=metric)
