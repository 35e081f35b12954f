"""From matches to deliveries: conditions, cooldowns and rate limits over stored state, inside one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from shared.domain.automations import CooldownUnit
from shared.domain.events import Event, RunMetricEvent, subject_key
from shared.domain.firing import FiringState, cooldown_refusal, rate_refusal, record_firing
from shared.domain.matching import CompiledAutomation, firing_id
from shared.domain.payloads import PayloadTooLarge, default_payload
from shared.domain.variables import MetricFacts, payload_values
from shared.domain.windows import RunState, UnreadableState
from shared.logs import get_logger
from shared.storage.evaluation import known_deliveries, live_webhooks, load_windows, save_windows
from shared.streams import Entry

log = get_logger(__name__)

Match = tuple[Entry, Event, CompiledAutomation]

WHOLE = ""
"""The key of what an automation keeps for itself as a whole, shared by all partitions."""


class Outdated(Exception):
    """Another worker evaluated with a newer edition of an automation: this one must look for edits first."""


@dataclass(slots=True)
class Kept:
    """What one automation keeps under one key: the windows of a run, and when it fired."""

    windows: RunState | None = None
    firing: FiringState = field(default_factory=FiringState)


class FiringBatch:
    """Considers the matches of one batch in stream order and gathers what is to be stored."""

    def __init__(self, connection: Connection, matches: Sequence[Match], now: datetime) -> None:
        self._connection = connection
        self._now = now
        self._matches = matches
        self._epochs = {automation.id: automation.epoch for _, _, automation in matches}
        self._kept = self._load(matches)
        self._touched: set[tuple[int, str]] = set()
        self._ids = [firing_id(automation.id, event) for _, event, automation in matches]
        self._seen = known_deliveries(connection, self._ids)
        self._enabled = live_webhooks(connection, {a.webhook_id for _, _, a in matches if a.webhook_id is not None})
        self.deliveries: list[dict[str, Any]] = []
        self.webhooks: set[int] = set()
        self.fired: Counter[tuple[str, str]] = Counter()
        self.skipped: Counter[str] = Counter()
        self.samples_ignored = 0

    def consider_all(self) -> None:
        """Let each automation look at the events that are in its scope and pass its filter, in stream order."""
        for (entry, event, compiled), identity in zip(self._matches, self._ids, strict=True):
            if identity not in self._seen:
                self._consider(entry, event, compiled, identity)

    def _consider(self, entry: Entry, event: Event, compiled: CompiledAutomation, identity: str) -> None:
        fires, metric = self._conditions_fire(event, compiled)
        if not fires:
            return
        self._seen.add(identity)
        reason = self._held_back(entry, event, compiled)
        self._deliver(entry, event, compiled, identity=identity, metric=metric, skipped=reason)

    def save(self) -> None:
        """Store every window and firing time that changed."""
        save_windows(self._connection, [self._row(key) for key in sorted(self._touched)])

    def _load(self, matches: Sequence[Match]) -> dict[tuple[int, str], Kept]:
        keys = {(automation.id, key) for _, event, automation in matches for key in _keys(automation, event)}
        if not keys:
            return {}
        rows = load_windows(self._connection, sorted(keys), self._now)
        return {key: self._read(rows.get(key), key[0]) for key in keys}

    def _read(self, row: Any, automation_id: int) -> Kept:
        if row is not None and row.epoch > self._epochs[automation_id]:
            raise Outdated
        if row is None or row.epoch < self._epochs[automation_id]:
            return Kept()
        windows = None
        if row.windows is not None:
            try:
                windows = RunState.from_bytes(row.windows)
            except UnreadableState as exc:
                log.error("windows.unreadable", automation_id=automation_id, key=row.key, error=str(exc))
        recent = FiringState.recent_from_bytes(row.recent_firings) if row.recent_firings else ()
        return Kept(windows, FiringState(row.last_fired_ms, recent))

    def _row(self, key: tuple[int, str]) -> dict[str, Any]:
        kept = self._kept[key]
        return {
            "automation_id": key[0],
            "key": key[1],
            "epoch": self._epochs[key[0]],
            "windows": None if kept.windows is None else kept.windows.to_bytes(),
            "last_fired_ms": kept.firing.last_fired_ms,
            "recent_firings": kept.firing.to_bytes() or None,
            "updated_at": self._now,
        }

    def _conditions_fire(self, event: Event, compiled: CompiledAutomation) -> tuple[bool, MetricFacts | None]:
        if compiled.conditions is None:
            return True, None
        if not isinstance(event, RunMetricEvent):
            return False, None
        key = (compiled.id, subject_key(event))
        kept = self._kept[key]
        if kept.windows is None:
            kept.windows = compiled.conditions.new_state()
        seen = compiled.conditions.observe(kept.windows, event.data.step, event.data.metrics)
        if seen.condition_index is not None:
            self._touched.add(key)
        self.samples_ignored += seen.ignored_samples
        if not seen.fired or seen.metric_name is None:
            return False, None
        return True, MetricFacts(seen.metric_name, seen.metric_value or 0.0, seen.metric_threshold or 0.0)

    def _held_back(self, entry: Entry, event: Event, compiled: CompiledAutomation) -> str | None:
        """Why this firing is skipped, or None; a firing that goes through is counted."""
        if compiled.webhook_id is not None and compiled.webhook_id not in self._enabled:
            return "webhook_disabled"
        cooldown, rate = compiled.automation.cooldown, compiled.automation.rate_limit
        now_ms = entry.received_ms
        cooling = None
        if cooldown is not None:
            cooling = (compiled.id, _cooldown_key(compiled, event))
            if reason := cooldown_refusal(self._kept[cooling].firing, cooldown.period, now_ms):
                return reason
        if rate is not None:
            counting = (compiled.id, WHOLE)
            if reason := rate_refusal(self._kept[counting].firing, rate, now_ms):
                return reason
            record_firing(self._kept[counting].firing, rate, now_ms)
            self._touched.add(counting)
        if cooling is not None and (rate is None or cooling[1] != WHOLE):
            record_firing(self._kept[cooling].firing, None, now_ms)
            self._touched.add(cooling)
        return None

    def _deliver(
        self,
        entry: Entry,
        event: Event,
        compiled: CompiledAutomation,
        *,
        identity: str,
        metric: MetricFacts | None,
        skipped: str | None,
    ) -> None:
        row = {
            "id": identity,
            "entity_id": compiled.entity_id,
            "automation_id": compiled.id,
            "webhook_id": compiled.webhook_id,
            "status": "pending",
            "reason": None,
            "payload": None,
            "event_id": event.id,
            "event_source": event.source,
            "event_type": str(event.type),
            "event_received_at": datetime.fromtimestamp(entry.received_ms / 1000, UTC),
            "created_at": self._now,
            "finished_at": None,
        }
        try:
            row["payload"] = _payload(event, compiled, identity, metric)
        except PayloadTooLarge as exc:
            row |= {"status": "refused", "reason": str(exc), "finished_at": self._now}
        if skipped is not None:
            row |= {"status": "skipped", "reason": skipped, "finished_at": self._now}
            self.skipped[skipped] += 1
        elif row["status"] == "pending":
            self._count(row, event, compiled)
        self.deliveries.append(row)

    def _count(self, row: dict[str, Any], event: Event, compiled: CompiledAutomation) -> None:
        action = "no_op" if compiled.webhook_id is None else "webhook"
        self.fired[(str(event.type), action)] += 1
        if compiled.webhook_id is None:
            row |= {"status": "delivered", "finished_at": self._now}
        else:
            self.webhooks.add(compiled.webhook_id)


def _payload(event: Event, compiled: CompiledAutomation, identity: str, metric: MetricFacts | None) -> str | None:
    if compiled.webhook_id is None:
        return None
    values = payload_values(event, delivery_id=identity, metric=metric)
    template = compiled.automation.template
    return default_payload(values) if template is None else template.render(values)


def _cooldown_key(compiled: CompiledAutomation, event: Event) -> str:
    cooldown = compiled.automation.cooldown
    return WHOLE if cooldown is None or cooldown.per is CooldownUnit.AUTOMATION else subject_key(event)


def _keys(compiled: CompiledAutomation, event: Event) -> set[str]:
    """The keys under which an automation may keep something about an event."""
    keys = set()
    if compiled.conditions is not None:
        keys.add(subject_key(event))
    if compiled.automation.cooldown is not None:
        keys.add(_cooldown_key(compiled, event))
    if compiled.automation.rate_limit is not None:
        keys.add(WHOLE)
    return keys
