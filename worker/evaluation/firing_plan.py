"""From matches to deliveries: conditions, cooldowns and rate limits over stored state. It stores nothing by itself."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from shared.domain.conditions.run_starts import KnownStarts, event_token
from shared.domain.conditions.windows import WindowState
from shared.domain.events.fast_decoding import AnyEvent, QuickMetricData
from shared.domain.events.models import RunMetricData
from shared.domain.events.partitioning import subject_key, subject_names
from shared.domain.matching.compiled import CompiledAutomation
from shared.domain.matching.firing_rules import EventPayloads, apply_throttles, metric_facts
from shared.domain.payloads.templates import PayloadTooLarge
from shared.domain.payloads.variables import MetricFacts
from shared.messaging.streams import Entry
from shared.observability.trace_context import TraceContext, child_context, producer_context
from shared.storage.evaluation.ignored_samples import IgnoredSample
from shared.storage.evaluation.new_deliveries import NewDelivery
from shared.storage.evaluation.windows import OF_RUNS
from worker.evaluation.stored_state import MatchSet, StoredState


class FiringTrace(NamedTuple):
    """Where the span of a firing belongs."""

    own: TraceContext
    parent: TraceContext | None
    delivery: NewDelivery


@dataclass(frozen=True, slots=True)
class FiringPlan:
    """What the matches of one batch come to. It is complete: stored, sent and reported as it is."""

    deliveries: Sequence[NewDelivery]
    """In stream order. Those that are skipped or refused are stored too, so that people find them."""
    windows: Sequence[dict[str, Any]]
    """The rows of metric windows and firing times that changed."""
    entities: Mapping[int, str]
    """The names of the deliveries' entities, by their ids."""
    fired: Counter[tuple[str, str]]
    """How many fired, by event type and kind of action."""
    samples_ignored: int
    """Metric samples that came too late to count."""
    traces: Sequence[FiringTrace]
    """One for each delivery, in workers that trace."""
    ignored: Mapping[int, IgnoredSample]
    """By automation the newest sample that it ignored because of its step."""

    @property
    def webhooks(self) -> set[int]:
        """The webhooks that have deliveries to send now."""
        return {
            one["webhook_id"] for one in self.deliveries if one["status"] == "pending" and one["webhook_id"] is not None
        }

    @property
    def skipped(self) -> Counter[str]:
        """How many firings were skipped, by reason."""
        return Counter(one["reason"] or "" for one in self.deliveries if one["status"] == "skipped")

    @property
    def refused(self) -> list[str]:
        """The ids of deliveries that can never be sent: their payload is too large."""
        return [one["id"] for one in self.deliveries if one["status"] == "refused"]


def plan_firings(
    matches: MatchSet, stored: StoredState, now: datetime, *, traced: bool, console: str | None = None
) -> FiringPlan:
    """Let each automation look at the events that are in its scope and pass its filter, in stream order.

    Args:
        matches: the batch's.
        stored: what the firings depend on. Its states of automations are moved on, so it serves one plan only.
        now: the time at which deliveries are made.
        traced: whether each firing gets a span.
        console: the console's address, where it is known.
    """
    planner = _Planner(matches, stored, now, traced=traced, console=console)
    starts = deque(matches.starts)
    for place, ((entry, event, compiled), identity) in enumerate(zip(matches.all, matches.ids, strict=True)):
        while starts and starts[0][0] <= place:
            planner.note_start(starts.popleft()[1])
        planner.consider(entry, event, compiled, identity)
    for _, event in starts:
        planner.note_start(event)
    return planner.plan()


class _Planner:
    """Considers matches one after another. It lives within one call of `plan_firings`, on one thread."""

    def __init__(
        self, matches: MatchSet, stored: StoredState, now: datetime, *, traced: bool, console: str | None
    ) -> None:
        self._matches = matches
        self._stored = stored
        self._now = now
        self._traced = traced
        self._console = console
        self._seen = set(stored.seen)
        """The deliveries that exist, and those of this batch: an event may be in it twice."""
        self._touched: set[tuple[int, str]] = set()
        """The automations' states that changed, by automation and key."""
        self._deliveries: list[NewDelivery] = []
        self._entities: dict[int, str] = {}
        self._fired: Counter[tuple[str, str]] = Counter()
        self._samples_ignored = 0
        self._ignored: dict[int, IgnoredSample] = {}
        self._starts = KnownStarts(stored.starts)
        self._started: set[str] = set()
        """The keys of runs that started anew in this batch."""
        self._traces: list[FiringTrace] = []
        self._event: AnyEvent | None = None
        self._payloads: EventPayloads | None = None
        """Those of `_event`: the matches of one event come one after another."""

    def plan(self) -> FiringPlan:
        windows = [self._start_row(key) for key in sorted(self._started)]
        windows += [self._window_row(key) for key in sorted(self._touched)]
        return FiringPlan(
            self._deliveries,
            windows,
            self._entities,
            self._fired,
            self._samples_ignored,
            self._traces,
            self._ignored,
        )

    def note_start(self, event: AnyEvent) -> None:
        """A run starts: its samples may have steps from now on that it has had."""
        key = self._starts.note(event)
        if key is not None:
            self._started.add(key)

    def consider(self, entry: Entry, event: AnyEvent, compiled: CompiledAutomation, identity: str) -> None:
        """Whether a match fires, and what follows from it."""
        if identity in self._seen:
            return
        fires, metric = self._conditions_fire(event, compiled)
        if not fires:
            return
        self._seen.add(identity)
        skipped = self._throttled(entry, event, compiled)
        self._deliver(entry, event, compiled, identity=identity, metric=metric, skipped=skipped)

    def _start_row(self, key: str) -> dict[str, Any]:
        return {
            "automation_id": OF_RUNS,
            "key": key,
            "epoch": 0,
            "windows": self._starts.of(key).to_bytes(),
            "last_fired_ms": None,
            "recent_firings": None,
            "updated_at": self._now,
        }

    def _window_row(self, key: tuple[int, str]) -> dict[str, Any]:
        state = self._stored.kept[key]
        return {
            "automation_id": key[0],
            "key": key[1],
            "epoch": self._matches.epochs[key[0]],
            "windows": None if state.windows is None else state.windows.to_bytes(),
            "last_fired_ms": state.firing.last_fired_ms,
            "recent_firings": state.firing.to_bytes() or None,
            "updated_at": self._now,
        }

    def _conditions_fire(self, event: AnyEvent, compiled: CompiledAutomation) -> tuple[bool, MetricFacts | None]:
        if compiled.conditions is None:
            return True, None
        data = event.data
        if not isinstance(data, QuickMetricData | RunMetricData):
            return False, None
        run = subject_key(event)
        key = (compiled.id, run)
        state = self._stored.kept[key]
        if state.windows is None:
            state.windows = compiled.conditions.new_state()
        observed = compiled.conditions.observe(
            state.windows,
            data.step,
            data.metrics,
            token=None if data.step else event_token(event),
            start=self._starts.of(run).last,
        )
        if observed.condition_index is not None:
            self._touched.add(key)
        if observed.ignored_samples:
            self._samples_ignored += observed.ignored_samples
            self._note_ignored(compiled, data, state.windows)
        metric = metric_facts(observed, compiled, data.step) if observed.fired else None
        return metric is not None, metric

    def _note_ignored(
        self, compiled: CompiledAutomation, data: QuickMetricData | RunMetricData, windows: WindowState
    ) -> None:
        """Of which metric a sample came too late; a repeat of an event without a step is no matter."""
        for metric, series in windows.series.items():
            if data.step is not None and metric in data.metrics and data.step <= series.last_step and series.last_step:
                about = data.project, data.run.id, metric, data.step, series.last_step
                self._ignored[compiled.id] = IgnoredSample(compiled.epoch, *about)

    def _throttled(self, entry: Entry, event: AnyEvent, compiled: CompiledAutomation) -> str | None:
        """Why this firing is skipped, or None; a firing that goes through is counted."""
        throttled = apply_throttles(
            compiled,
            event,
            received_ms=entry.received_ms,
            webhook_enabled=compiled.webhook_id is None or compiled.webhook_id in self._stored.webhooks,
            firing_of=lambda key: self._stored.kept[compiled.id, key].firing,
        )
        for key, state in throttled.states.items():
            self._stored.kept[compiled.id, key].firing = state
            self._touched.add((compiled.id, key))
        return throttled.refusal

    def _payloads_of(self, event: AnyEvent) -> EventPayloads:
        if self._payloads is None or event is not self._event:
            self._event, self._payloads = event, EventPayloads(event, self._console)
        return self._payloads

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
        payload, status, reason = None, "pending", None
        try:
            payload = self._payloads_of(event).sealed(compiled, delivery_id=identity, metric=metric)
        except PayloadTooLarge as exc:
            status, reason = "refused", str(exc)
        if skipped is not None:
            status, reason = "skipped", skipped
        elif status == "pending":
            self._fired[(str(event.type), compiled.automation.action.kind)] += 1
            if compiled.webhook_id is None:
                status = "delivered"
        project, run, collection = subject_names(event)
        delivery: NewDelivery = {
            "id": identity,
            "entity_id": compiled.entity_id,
            "automation_id": compiled.id,
            "webhook_id": compiled.webhook_id,
            "status": status,
            "reason": reason,
            "payload": payload,
            "event_id": event.id,
            "event_source": event.source,
            "event_type": str(event.type),
            "event_project": project,
            "event_run": run,
            "event_collection": collection,
            "event_received_at": datetime.fromtimestamp(entry.received_ms / 1000, UTC),
            "created_at": self._now,
            "finished_at": None if status == "pending" else self._now,
        }
        if self._traced:
            parent = producer_context(entry.body or b"")
            own = child_context(parent)
            delivery["traceparent"] = own.header
            self._traces.append(FiringTrace(own, parent, delivery))
        self._entities[compiled.entity_id] = compiled.entity
        self._deliveries.append(delivery)
