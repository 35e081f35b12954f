"""A preview of an automation while it is being edited: what it would have done to the events of the last hours.

It reads less than a dry run does, and shows the newest results first: it is made anew at each edit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from redis import Redis

from shared.domain.conditions.run_starts import is_start
from shared.domain.events.models import RunMetricEvent
from shared.domain.events.partitioning import subject_key
from shared.domain.explain.dry_run import DryRunResult, PageWanted, Summary, dry_run, run_of
from shared.domain.explain.series import Series, SeriesCollector
from shared.domain.explain.simulator import Arrival, Considered, DryRunOutcome, Simulator, Subject
from shared.dry_runs.event_history import EventHistoryReader
from shared.dry_runs.service import entities_inside
from shared.dry_runs.time_range import TimeRange, moment

MAX_ENTRIES = 10_000
"""The most stream entries that a preview reads. Those of all entities count, as they share the streams."""
SERIES_POINTS = 400
MAX_EXPLAINED = 200
"""The most results that are explained to find those that are shown."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The counts of all events that were read, and the newest results in scope, newest first."""

    summary: Summary
    results: tuple[DryRunResult, ...]
    since: datetime
    read_until: datetime | None
    """When the stream received the last entry that was read, if reading stopped before the end; else None."""
    run: str | None = None
    """The run that logged a metric of the conditions last; None if none did, or there are no conditions."""
    series: tuple[Series, ...] = ()
    """What the conditions saw of that run."""


def preview(
    subject: Subject, redis: Redis, partitions: int, time_range: TimeRange, *, shown: int, until: float
) -> Preview:
    """Let the events of a time range pass; reading stops at `until`, of the monotonic clock.

    Raises:
        redis.exceptions.RedisError: when the streams can't be read.
    """
    inside = entities_inside(subject)
    reading = EventHistoryReader(redis, partitions, time_range, inside, max_entries=MAX_ENTRIES, until=until)
    arrivals = list(reading.arrivals())
    event_type = subject.compiled.automation.event
    own = [one for one in arrivals if one.event.type == event_type or is_start(one.event)]
    simulator = _WatchingSimulator(subject, _newest_run(subject, own))
    run = dry_run(simulator, own, PageWanted(limit=MAX_EXPLAINED, newest_first=True))
    in_scope = [result for result in run.results if result.outcome is not DryRunOutcome.OUT_OF_SCOPE]
    stopped = reading.truncated and reading.read_until_ms is not None
    return Preview(
        replace(run.summary, events=len(arrivals)),
        tuple(in_scope[:shown]),
        moment(time_range.since_ms),
        moment(reading.read_until_ms) if stopped and reading.read_until_ms is not None else None,
        simulator.run,
        simulator.seen.series(SERIES_POINTS),
    )


class _WatchingSimulator(Simulator):
    """A simulator that notes what the conditions see of one run."""

    def __init__(self, subject: Subject, arrival: Arrival | None) -> None:
        super().__init__(subject)
        self._key = None if arrival is None else subject_key(arrival.event)
        self.run = None if arrival is None else run_of(arrival.event)
        self.seen = SeriesCollector()

    def consider(self, arrival: Arrival) -> Considered:
        """Let the automation look at the next event."""
        considered = super().consider(arrival)
        if self._key is not None and subject_key(arrival.event) == self._key:
            self.seen.observe(self.subject, considered)
        return considered


def _newest_run(subject: Subject, arrivals: Sequence[Arrival]) -> Arrival | None:
    """The newest event in scope that has a metric of the conditions."""
    watched = {condition.metric for condition in subject.compiled.automation.conditions}
    if not watched:
        return None
    looking = Simulator(subject)
    for arrival in reversed(arrivals):
        event = arrival.event
        if isinstance(event, RunMetricEvent) and not watched.isdisjoint(event.data.metrics) and looking.in_scope(event):
            return arrival
    return None
