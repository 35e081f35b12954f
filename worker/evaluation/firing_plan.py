"""From matches to deliveries: conditions, cooldowns and rate limits over stored state, inside one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeVar

from sqlalchemy import Connection

from shared.domain.conditions.windows import RunState, UnreadableState
from shared.domain.events.fast_decoding import AnyEvent, QuickMetricData
from shared.domain.events.models import RunMetricData, subject_key
from shared.domain.matching.firing_rules import Kept, hold_back, kept_keys, metric_facts, sealed_payload
from shared.domain.matching.index import CompiledAutomation, firing_id
from shared.domain.matching.throttling import FiringState
from shared.domain.payloads.templates import PayloadTooLarge
from shared.domain.payloads.variables import MetricFacts
from shared.messaging.streams import Entry
from shared.observability.logs import get_logger
from shared.observability.tracing import TRACEPARENT, TraceContext, child_of, producers
from shared.storage.delivery.claims import EndpointRow, load_endpoints
from shared.storage.evaluation.new_deliveries import known_deliveries
from shared.storage.evaluation.windows import load_windows, save_windows

log = get_logger("hookline.evaluate")

Match = tuple[Entry, AnyEvent, CompiledAutomation]
_T = TypeVar("_T")


class Outdated(Exception):
    """Another worker evaluated with a newer edition of an automation: this one must look for edits first."""


def _readable(read: Callable[[bytes], _T], stored: bytes | None, row: Any) -> _T | None:
    """What was stored; None when there is nothing, and when it can't be read: then it begins anew."""
    try:
        return None if stored is None else read(stored)
    except UnreadableState as exc:
        log.error("windows.unreadable", automation_id=row.automation_id, key=row.key, error=str(exc))
        return None


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored that firings depend on."""

    webhooks: Mapping[int, EndpointRow]
    """Those of the matches' webhooks that are enabled."""
    seen: Collection[str] = ()
    """The deliveries that exist: their events were evaluated before."""
    kept: Mapping[tuple[int, str], Kept] = field(default_factory=dict)
    """What automations keep of earlier events, by automation and key."""


@dataclass(frozen=True)
class Matches:
    """The matches of one batch in stream order, and what is asked of them more than once."""

    all: Sequence[Match]

    @cached_property
    def ids(self) -> list[str]:
        """The delivery that each fires, if it does."""
        return [firing_id(automation.id, event) for _, event, automation in self.all]

    @cached_property
    def keys(self) -> set[tuple[int, str]]:
        """Under which keys automations may keep something about them."""
        return {(automation.id, key) for _, event, automation in self.all for key in kept_keys(automation, event)}

    @cached_property
    def webhooks(self) -> set[int]:
        """The webhooks that they would send to."""
        return {automation.webhook_id for _, _, automation in self.all if automation.webhook_id is not None}

    @cached_property
    def epochs(self) -> dict[int, int]:
        """The epoch of each automation."""
        return {automation.id: automation.epoch for _, _, automation in self.all}


def load_stored(connection: Connection, matches: Matches, now: datetime) -> Stored:
    """What this transaction has stored. The rows of what automations keep stay locked until it ends.

    Raises:
        Outdated: when an automation was edited since these matches were found.
    """
    kept = _load_kept(connection, matches, now)
    seen = known_deliveries(connection, matches.ids)
    return Stored(load_endpoints(connection, matches.webhooks), seen, kept)


def _load_kept(connection: Connection, matches: Matches, now: datetime) -> dict[tuple[int, str], Kept]:
    if not matches.keys:
        return {}
    rows = load_windows(connection, sorted(matches.keys), now)
    return {key: _read(rows.get(key), matches.epochs[key[0]]) for key in matches.keys}


def _read(row: Any, epoch: int) -> Kept:
    if row is not None and row.epoch > epoch:
        raise Outdated
    if row is None or row.epoch < epoch:
        return Kept()
    windows = _readable(RunState.from_bytes, row.windows, row)
    recent = _readable(FiringState.recent_from_bytes, row.recent_firings, row) or ()
    return Kept(windows, FiringState(row.last_fired_ms, recent))


class FiringBatch:
    """Considers the matches of one batch in stream order and gathers what is to be stored."""

    def __init__(self, matches: Matches, stored: Stored, now: datetime, *, traced: bool = False) -> None:
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
        reason = hold_back(compiled, event, received_ms=entry.received_ms, webhook_enabled=enabled, firing_of=firing_of)
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
            parent = producers(entry.body or b"")
            own = child_of(parent)
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
