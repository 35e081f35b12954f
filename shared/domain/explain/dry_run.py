"""The answer of a dry run: one result for each event, counted in all, and explained where it is asked for.

Explaining costs far more than counting, so only the results of the wanted page are explained.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from shared.domain.events.models import Event
from shared.domain.explain.past import InForce, PastResult
from shared.domain.explain.simulator import Arrival, Considered, DryRunOutcome, Reason, Simulator, Subject
from shared.domain.explain.text import Explanation, explain_absent, explain_outcome, instant
from shared.domain.payloads.sealed import content_type_of, shown_payload

MAX_EVENTS = 1000
MAX_PAGE_CHARS = 8 << 20
"""About how much text a page may have: large payloads end it before its limit."""


@dataclass(frozen=True, slots=True)
class EventFacts:
    """The event that a result is about."""

    id: str
    source: str
    type: str
    time: datetime | None
    received_at: datetime
    project: str | None = None
    run: str | None = None
    """The id of the run, of events about runs."""
    collection: str | None = None
    """The name of the collection, of events about artifacts and collections."""


@dataclass(frozen=True, slots=True)
class RecordedFacts:
    """The delivery that evaluation stored of the event."""

    delivery: str
    status: str
    reason: str | None
    evaluated_at: datetime


@dataclass(frozen=True, slots=True)
class DryRunResult:
    """The outcome of one event, and why."""

    event: EventFacts
    outcome: DryRunOutcome
    reason: Reason | None
    payload: Any
    """As it would be sent, with `***NAME***` in place of each secret: the value of JSON, else the text; None when
    nothing would be."""
    content_type: str | None
    explanation: Explanation
    decisive: tuple[Explanation, ...]
    """The terms that made the outcome."""
    in_force: InForce | None = None
    """Of the past: what the automation was then."""
    recorded: RecordedFacts | None = None
    """Of the past: the delivery that was made of the event."""
    notes: tuple[str, ...] = ()
    """What the result leaves out, in sentences."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How many events were tried, and with which outcomes."""

    events: int
    in_scope: int
    """Of the automation's type, in its scope."""
    matched: int
    """Those of them that pass states and filter; whether they fire is up to the conditions, if there are any."""
    fired: int
    skipped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which results are wanted; what is None stands for any."""

    only: DryRunOutcome | None = None
    reason: Reason | None = None
    event_id: str | None = None
    run: str | None = None
    collection: str | None = None
    same_type: bool = False
    """Without those whose events are of another type than the automation's."""

    def wants(self, considered: Considered) -> bool:
        """Whether a result is one of these."""
        if self.only not in (None, considered.outcome) or self.reason not in (None, considered.reason):
            return False
        if self.same_type and considered.reason is Reason.EVENT_TYPE and self.reason is None and self.only is None:
            return False
        event = considered.arrival.event
        if self.event_id not in (None, event.id):
            return False
        return self.run in (None, run_of(event)) and self.collection in (None, collection_of(event))


@dataclass(frozen=True, slots=True)
class PageWanted:
    """The results that a page has: `limit` at most of those that are wanted.

    Oldest first it begins after the first `skip` of them. Newest first it ends before the place `skip`, counted from
    the oldest; 0 stands for the end.
    """

    only: DryRunOutcome | None = None
    skip: int = 0
    limit: int = 100
    newest_first: bool = False
    wanted: Wanted | None = None

    @property
    def selection(self) -> Wanted:
        """Which results are wanted."""
        return self.wanted or Wanted(only=self.only)


@dataclass(frozen=True, slots=True)
class DryRun:
    """The results of one page, and the counts of all events."""

    summary: Summary
    results: tuple[DryRunResult, ...]
    next: int | None
    """The `skip` of the next page; None when this is the last."""


def run_of(event: Event) -> str | None:
    """The id of the run that an event is about."""
    return getattr(getattr(event.data, "run", None), "id", None)


def collection_of(event: Event) -> str | None:
    """The name of the collection that an event is about."""
    return getattr(getattr(event.data, "collection", None), "name", None)


def dry_run(simulator: Simulator, arrivals: Iterable[Arrival], page: PageWanted) -> DryRun:
    """Let the events pass, in order."""
    subject = simulator.subject
    seen = (_Seen(simulator.consider(arrival), subject) for arrival in arrivals)
    return _collect(seen, page, subject.compiled.automation.name)


def past_run(results: Iterable[PastResult], page: PageWanted, name: str) -> DryRun:
    """The answer of results about the past; `name` is the automation's now."""
    return _collect((_Seen(one.considered, one.subject, one.in_force) for one in results), page, name)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A result before it is explained."""

    considered: Considered
    subject: Subject | None
    in_force: InForce | None = None


def _collect(seen: Iterable[_Seen], page: PageWanted, name: str) -> DryRun:
    counts = dict.fromkeys(DryRunOutcome, 0)
    matched = 0
    filling = _NewestPage(page, name) if page.newest_first else _Page(page, name)
    for one in seen:
        counts[one.considered.outcome] += 1
        matched += one.considered.matched
        filling.offer(one)
    events = sum(counts.values())
    summary = Summary(
        events=events,
        in_scope=events - counts[DryRunOutcome.OUT_OF_SCOPE],
        matched=matched,
        fired=counts[DryRunOutcome.FIRED],
        skipped=counts[DryRunOutcome.SKIPPED],
    )
    results, following = filling.finished()
    return DryRun(summary, tuple(results), following)


def past_result_of(one: PastResult, name: str) -> DryRunResult:
    """The result for an event of the past that was just considered; `name` is the automation's now."""
    return _result(_Seen(one.considered, one.subject, one.in_force), name)


def event_facts(arrival: Arrival) -> EventFacts:
    """The event of an arrival, for people to read."""
    event = arrival.event
    return EventFacts(
        id=event.id,
        source=event.source,
        type=str(event.type),
        time=event.time,
        received_at=_moment(arrival.received_ms),
        project=getattr(event.data, "project", None),
        run=run_of(event),
        collection=collection_of(event),
    )


def _moment(unix_ms: int) -> datetime:
    return datetime.fromtimestamp(unix_ms / 1000, UTC)


def _result(seen: _Seen, name: str) -> DryRunResult:
    considered = seen.considered
    if seen.subject is None:
        explanation, decisive = explain_absent(name, considered)
    else:
        explanation, decisive = explain_outcome(seen.subject, considered, _disabled(seen.in_force))
    recorded = considered.recorded
    facts = None
    if recorded is not None:
        evaluated_at = _moment(recorded.evaluated_ms)
        facts = RecordedFacts(recorded.delivery_id, recorded.status, recorded.reason, evaluated_at)
    return DryRunResult(
        event=event_facts(considered.arrival),
        outcome=considered.outcome,
        reason=considered.reason,
        payload=None if considered.sealed is None else shown_payload(considered.sealed),
        content_type=None if considered.sealed is None else content_type_of(considered.sealed),
        explanation=explanation,
        decisive=decisive,
        in_force=seen.in_force,
        recorded=facts,
        notes=considered.notes,
    )


def _disabled(in_force: InForce | None) -> str | None:
    """Since when an automation was as it was, until when, and who made it so."""
    if in_force is None or in_force.since is None:
        return None
    until = "" if in_force.until is None else f" until {_instant(in_force.until)}"
    return f"it was disabled from {_instant(in_force.since)}{until} by {in_force.by or 'nobody known'}"


def _instant(at: datetime) -> str:
    return instant(round(at.timestamp() * 1000))


class _Page:
    """The wanted results as they come; it ends at its limit, or when it holds a lot of text."""

    def __init__(self, page: PageWanted, name: str) -> None:
        self._results: list[DryRunResult] = []
        self._next: int | None = None
        self._name = name
        self._page = page
        self._seen = 0
        self._chars = 0

    def offer(self, one: _Seen) -> None:
        """Take a result if it belongs to the page."""
        if self._next is not None or not self._page.selection.wants(one.considered):
            return
        position, self._seen = self._seen, self._seen + 1
        if position < self._page.skip:
            return
        if len(self._results) >= self._page.limit or self._chars >= MAX_PAGE_CHARS:
            self._next = position
            return
        result = _result(one, self._name)
        self._results.append(result)
        self._chars += len(one.considered.sealed or "") + _chars(result.explanation)

    def finished(self) -> tuple[list[DryRunResult], int | None]:
        """The results, and the `skip` of the next page."""
        return self._results, self._next


class _NewestPage:
    """The last of the wanted results before a place, newest first. They are explained at the end."""

    def __init__(self, page: PageWanted, name: str) -> None:
        self._kept: deque[_Seen] = deque()
        self._name = name
        self._page = page
        self._seen = 0
        self._chars = 0

    def offer(self, one: _Seen) -> None:
        """Take a result if it belongs to the page, and let the oldest go when there are too many."""
        if not self._page.selection.wants(one.considered):
            return
        position, self._seen = self._seen, self._seen + 1
        if self._page.skip and position >= self._page.skip:
            return
        self._kept.append(replace(one, considered=_with_own_windows(one.considered)))
        self._chars += len(one.considered.sealed or "")
        while len(self._kept) > self._page.limit or (self._chars > MAX_PAGE_CHARS and len(self._kept) > 1):
            self._chars -= len(self._kept.popleft().considered.sealed or "")

    def finished(self) -> tuple[list[DryRunResult], int | None]:
        """The results, and the `skip` of the next page."""
        end = min(self._page.skip or self._seen, self._seen)
        results: list[DryRunResult] = []
        chars = 0
        for one in reversed(self._kept):
            if chars >= MAX_PAGE_CHARS:
                break
            results.append(_result(one, self._name))
            chars += len(one.considered.sealed or "") + _chars(results[-1].explanation)
        return results, end - len(results) or None


def _with_own_windows(considered: Considered) -> Considered:
    """The windows change with the next event, so a result that is explained later needs its own."""
    if considered.samples is None:
        return considered
    return replace(considered, samples=replace(considered.samples, windows=considered.samples.windows.copy()))


def _chars(explanation: Explanation) -> int:
    value = explanation.value
    own = len(explanation.text) + (len(value) if isinstance(value, str) else 50)
    return own + sum(_chars(term) for term in explanation.terms)
