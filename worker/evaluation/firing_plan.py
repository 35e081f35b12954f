"""From matches to deliveries: conditions, cooldowns and rate limits over stored state, inside one transaction."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from shared.domain.events.fast_decoding import AnyEvent, QuickMetricData
from shared.domain.events.models import RunMetricData
from shared.domain.events.partitioning import subject_key
from shared.domain.matching.compiled import CompiledAutomation
from shared.domain.matching.firing_rules import apply_throttles, metric_facts, sealed_payload
from shared.domain.matching.throttling import FiringState
from shared.domain.payloads.templates import PayloadTooLarge
from shared.domain.payloads.variables import MetricFacts
from shared.messaging.streams import Entry
from shared.observability.logs import get_logger
from shared.observability.trace_context import TRACEPARENT, TraceContext, child_context, producer_context
from shared.storage.evaluation.windows import save_windows
from worker.evaluation.stored_state import MatchSet, StoredState

log = get_logger("hookline.evaluate")


class FiringPlan:
    """Considers the matches of one batch in stream order and gathers what is to be stored."""

    def __init__(self, matches: MatchSet, stored: StoredState, now: datetime, *, traced: bool = False) -> None:
        self._now = now
        self._matches = matches
        self._kept = stored.kept
        self._touched: set[tuple[int, str]] = set()
        self._seen = set(stored.seen)
        self.enabled = stored.webhooks
        self.deliveries: list[dict[str, Any]] = []
        self._traced = traced
        self.traces: list[tuple[TraceContext, TraceContext | None, dict[str, Any]]] = []
        """Of each delivery the place of the span that fired it, the one above, and the row."""
        self.webhooks: set[int] = set()
        self.entities: dict[int, str] = {}
        """The names of the deliveries' entities."""
        self.fired: Counter[tuple[str, str]] = Counter()
        self.skipped: Counter[str] = Counter()
        self.samples_ignored = 0

    def consider_all(self) -> None:
        """Let each automation look at the events that are in its scope and pass its filter, in stream order."""
        for (entry, event, compiled), identity in zip(self._matches.all, self._matches.ids, strict=True):
            if identity not in self._seen:
                self._consider(entry, event, compiled, identity)

    def _consider(self, entry: Entry, event: AnyEvent, compiled: CompiledAutomation, identity: str) -> None:
        fires, metric = self._conditions_fire(event, compiled)
        if not fires:
            return
        self._seen.add(identity)
        reason = self._held_back(entry, event, compiled)
        self._deliver(entry, event, compiled, identity=identity, metric=metric, skipped=reason)

    def save(self, connection: Connection) -> None:
        """Store every window and firing time that changed."""
        save_windows(connection, [self._row(key) for key in sorted(self._touched)])

    def _row(self, key: tuple[int, str]) -> dict[str, Any]:
        kept = self._kept[key]
        return {
            "automation_id": key[0],
            "key": key[1],
            "epoch": self._matches.epochs[key[0]],
            "windows": None if kept.windows is None else kept.windows.to_bytes(),
            "last_fired_ms": kept.firing.last_fired_ms,
            "recent_firings": kept.firing.to_bytes() or None,
            "updated_at": self._now,
        }

    def _conditions_fire(self, event: AnyEvent, compiled: CompiledAutomation) -> tuple[bool, MetricFacts | None]:
        if compiled.conditions is None:
            return True, None
        data = event.data
        if not isinstance(data, QuickMetricData | RunMetricData):
            return False, None
        key = (compiled.id, subject_key(event))
        kept = self._kept[key]
        if kept.windows is None:
            kept.windows = compiled.conditions.new_state()
        seen = compiled.conditions.observe(kept.windows, data.step, data.metrics)
        if seen.condition_index is not None:
            self._touched.add(key)
        self.samples_ignored += seen.ignored_samples
        metric = metric_facts(seen) if seen.fired else None
        return metric is not None, metric

    def _held_back(self, entry: Entry, event: AnyEvent, compiled: CompiledAutomation) -> str | None:
        """Why this firing is skipped, or None; a firing that goes through is counted."""
        asked = set()

        def firing_of(key: str) -> FiringState:
            asked.add((compiled.id, key))
            return self._kept[compiled.id, key].firing

        enabled = compiled.webhook_id is None or compiled.webhook_id in self.enabled
        reason = apply_throttles(
            compiled, event, received_ms=entry.received_ms, webhook_enabled=enabled, firing_of=firing_of
        )
        if reason is None:
            self._touched |= asked
        return reason

    def _deliver(
        self,
        entry: Entry,
        event: AnyEvent,
        compiled: CompiledAutomation,
        *,
        identity: str,
        metric: MetricFacts | None,
        skipped: str | None,
    ) -> None:
        row: dict[str, Any] = {
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
        if self._traced:
            parent = producer_context(entry.body or b"")
            own = child_context(parent)
            row[TRACEPARENT] = own.header
            self.traces.append((own, parent, row))
        try:
            row["payload"] = sealed_payload(compiled, event, delivery_id=identity, metric=metric)
        except PayloadTooLarge as exc:
            row |= {"status": "refused", "reason": str(exc), "finished_at": self._now}
        if skipped is not None:
            row |= {"status": "skipped", "reason": skipped, "finished_at": self._now}
            self.skipped[skipped] += 1
        elif row["status"] == "pending":
            self._count(row, event, compiled)
        self.entities[compiled.entity_id] = compiled.entity
        self.deliveries.append(row)

    def _count(self, row: dict[str, Any], event: AnyEvent, compiled: CompiledAutomation) -> None:
        self.fired[(str(event.type), compiled.automation.action.kind)] += 1
        if compiled.webhook_id is None:
            row |= {"status": "delivered", "finished_at": self._now}
        else:
            self.webhooks.add(compiled.webhook_id)
