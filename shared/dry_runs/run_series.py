"""What the metric conditions of a saved automation saw of one run, read from the kept events of the run's partition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic

from redis import Redis
from sqlalchemy import Connection, Engine

from shared.domain.conditions.run_starts import is_start
from shared.domain.errors import InvalidDefinition
from shared.domain.events.decoding import decode_event
from shared.domain.events.models import RunMetricEvent
from shared.domain.events.partitioning import partition_of_key, run_key, subject_key
from shared.domain.explain.past import Period, Presence, Timeline
from shared.domain.explain.series import MAX_SAMPLES, Series, SeriesCollector
from shared.domain.explain.simulator import Arrival
from shared.dry_runs.kept_entries import KeptEntries, KeptEntry
from shared.dry_runs.service import PastRun, past_results, prepare_past, saved_subject
from shared.dry_runs.time_range import TimeRange, moment
from shared.settings import Settings
from shared.storage.definitions.automations import StoredAutomation
from shared.storage.evaluation.event_log import EventLog

MAX_READ = 200_000
"""The most entries of the partition that are read; those of other runs are not decoded."""
MAX_READ_BYTES = 256 << 20
MAX_SECONDS = 10.0
"""As long as a dry run may take: large windows make a sample dear."""


@dataclass(frozen=True, slots=True)
class SeriesWanted:
    """Which run's series, of how many points about."""

    project: str
    run: str
    points: int
    today: bool = False
    """Whether what the automation is now looks at all events, and not what it was then."""


@dataclass(frozen=True, slots=True)
class RunSeries:
    """The series of a run."""

    series: tuple[Series, ...]
    events: int
    """How many metric events of the run were read."""
    windows_began_at: datetime | None
    """When the first of them came: windows begin empty there."""
    truncated: bool
    """Whether reading stopped before the end of the range."""
    read_until: datetime | None
    """When the last entry came that was read; where to go on when `truncated`."""


def prepare_series(
    connection: Connection,
    stored: StoredAutomation,
    wanted: SeriesWanted,
    time_range: TimeRange,
    settings: Settings,
    now: datetime,
) -> PastRun:
    """Look up what the automation was in a time range, or with `today` what it is.

    Raises:
        InvalidDefinition: with `today`, when this version can't read it.
    """
    past = prepare_past(connection, stored, time_range, settings, now)
    if not wanted.today:
        return past
    subject = saved_subject(connection, stored)
    period = Period(0, Presence.IN_FORCE, lambda: subject)
    # Nothing that is recorded counts: what was made of the events is another question.
    never = time_range.until_ms + 1
    return replace(past, timeline=Timeline(stored.id, [period]), complete_since_ms=never, offsets=None)


def read_series(run: PastRun, wanted: SeriesWanted, redis: Redis, partitions: int, engine: Engine) -> RunSeries:
    """The series of a run of the automation's entity. Raises `redis.exceptions.RedisError`."""
    reading = _RunReader(run, wanted, redis, partitions, EventLog(engine))
    collector = SeriesCollector()
    for result in past_results(run, reading, engine, recorded=not wanted.today):
        collector.take(result)
    return RunSeries(
        collector.series(wanted.points),
        reading.events,
        None if reading.first_ms is None else moment(reading.first_ms),
        reading.truncated,
        None if reading.last_ms is None else moment(reading.last_ms),
    )


class _RunReader:
    """One pass over the metric events of a run, and those that say that it starts."""

    def __init__(self, run: PastRun, wanted: SeriesWanted, redis: Redis, partitions: int, log: EventLog) -> None:
        self._key = run_key(run.entity, wanted.project, wanted.run)
        self._run_id = wanted.run.encode()
        partition = partition_of_key(self._key, partitions)
        span = run.range.since_ms, run.range.until_ms
        self._entries = KeptEntries(redis, partitions, log).of_partition(partition, span)
        self._until = monotonic() + MAX_SECONDS
        self.events = 0
        self.read_bytes = 0
        self.truncated = False
        self.first_ms: int | None = None
        self.last_ms: int | None = None

    def arrivals(self) -> Iterator[Arrival]:
        """The events, oldest first."""
        for number, entry in enumerate(self._entries):
            late = number > 0 and monotonic() > self._until
            if late or number >= MAX_READ or self.read_bytes >= MAX_READ_BYTES or self.events >= MAX_SAMPLES:
                self.truncated = True
                return
            self.read_bytes += len(entry.body or b"")
            self.last_ms = entry.position.received_ms
            arrival = self._sample(entry)
            if arrival is None:
                continue
            if isinstance(arrival.event, RunMetricEvent):
                self.events += 1
                self.first_ms = arrival.received_ms if self.first_ms is None else self.first_ms
            yield arrival

    def _sample(self, entry: KeptEntry) -> Arrival | None:
        body = entry.body or b""
        if self._run_id not in body and b"\\" not in body:
            return None
        try:
            event = decode_event(body)
        except InvalidDefinition:
            return None
        if not (isinstance(event, RunMetricEvent) or is_start(event)) or subject_key(event) != self._key:
            return None
        return Arrival(event, entry.position.received_ms, entry.position.partition, entry.position.entry_id)
