"""The answer of a dry run: one result for each event, counted in all, and explained where it is asked for.

Explaining costs far more than counting, so only the results of the wanted page are explained.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.domain.explain.simulator import Arrival, Considered, DryRunOutcome, Reason, Simulator, Subject
from shared.domain.explain.text import Explanation, explain_outcome
from shared.domain.json_text import read_json
from shared.domain.payloads.sealed import mask_payload

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


@dataclass(frozen=True, slots=True)
class DryRunResult:
    """The outcome of one event, and why."""

    event: EventFacts
    outcome: DryRunOutcome
    reason: Reason | None
    payload: Any
    """As it would be sent, with `***NAME***` in place of each secret; None when nothing would be."""
    explanation: Explanation
    decisive: tuple[Explanation, ...]
    """The terms that made the outcome."""


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


@dataclass(frozen=True, slots=True)
class PageWanted:
    """The results that a page has: those of one outcome or all, after the first `skip` of them, `limit` at most."""

    only: DryRunOutcome | None = None
    skip: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class DryRun:
    """The results of one page, and the counts of all events."""

    summary: Summary
    results: tuple[DryRunResult, ...]
    next: int | None
    """How many results to skip for the next page; None when this is the last."""


def dry_run(simulator: Simulator, arrivals: Iterable[Arrival], page: PageWanted) -> DryRun:
    """Let the events pass, in order."""
    counts = dict.fromkeys(DryRunOutcome, 0)
    matched = 0
    filling = _Page(simulator.subject, page)
    for arrival in arrivals:
        considered = simulator.consider(arrival)
        counts[considered.outcome] += 1
        matched += considered.matched
        filling.offer(considered)
    events = sum(counts.values())
    summary = Summary(
        events=events,
        in_scope=events - counts[DryRunOutcome.OUT_OF_SCOPE],
        matched=matched,
        fired=counts[DryRunOutcome.FIRED],
        skipped=counts[DryRunOutcome.SKIPPED],
    )
    return DryRun(summary, tuple(filling.results), filling.next)


def result_of(subject: Subject, considered: Considered) -> DryRunResult:
    """The result for an event that was just considered."""
    event, received_ms = considered.arrival.event, considered.arrival.received_ms
    explanation, decisive = explain_outcome(subject, considered)
    return DryRunResult(
        event=EventFacts(
            id=event.id,
            source=event.source,
            type=str(event.type),
            time=event.time,
            received_at=datetime.fromtimestamp(received_ms / 1000, UTC),
        ),
        outcome=considered.outcome,
        reason=considered.reason,
        payload=None if considered.sealed is None else read_json(mask_payload(considered.sealed)),
        explanation=explanation,
        decisive=decisive,
    )


class _Page:
    """The wanted results as they come; it ends at its limit, or when it holds a lot of text."""

    def __init__(self, subject: Subject, page: PageWanted) -> None:
        self.results: list[DryRunResult] = []
        self.next: int | None = None
        self._subject = subject
        self._page = page
        self._seen = 0
        self._chars = 0

    def offer(self, considered: Considered) -> None:
        """Take a result if it belongs to the page."""
        if self.next is not None or self._page.only not in (None, considered.outcome):
            return
        position, self._seen = self._seen, self._seen + 1
        if position < self._page.skip:
            return
        if len(self.results) >= self._page.limit or self._chars >= MAX_PAGE_CHARS:
            self.next = position
            return
        result = result_of(self._subject, considered)
        self.results.append(result)
        self._chars += len(considered.sealed or "") + _chars(result.explanation)


def _chars(explanation: Explanation) -> int:
    value = explanation.value
    own = len(explanation.text) + (len(value) if isinstance(value, str) else 50)
    return own + sum(_chars(term) for term in explanation.terms)
