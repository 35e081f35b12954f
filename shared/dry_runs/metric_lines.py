"""The metrics that the runs of a project logged, as lines, read from the kept events: the newest samples first."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from shared.domain.events.types import EventType
from shared.dry_runs.event_search import EventCriteria, EventFilter, EventSearch
from shared.dry_runs.kept_entries import KeptEntries
from shared.dry_runs.time_range import moment

MAX_SCANNED = 20_000
"""The most entries that one reading looks at; those of all entities count, as they share the streams."""
MAX_SAMPLES = 2_000
"""The newest samples of a line that are kept."""
MAX_METRICS = 100
"""The most metrics of one answer: those that were logged last."""
MAX_RUNS = 20
"""The most runs of one metric: those that logged it last."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One value that a run logged."""

    step: int | None
    value: float | None
    """None if it is not a finite number."""
    received_at: datetime


@dataclass(frozen=True, slots=True)
class MetricLine:
    """What one run logged of a metric."""

    run: str
    name: str
    """The run's name, blank if it has none."""
    samples: tuple[Sample, ...]
    """In the order in which they came."""


@dataclass(frozen=True, slots=True)
class MetricLines:
    """The lines of a project's metrics."""

    metrics: Mapping[str, tuple[MetricLine, ...]]
    """By metric, the one that was logged last first; of each the runs, in the same order."""
    scanned: int
    complete: bool
    """Whether all kept events of the time were looked at."""
    since: datetime | None
    """When the oldest entry came that was looked at; None when there was none."""


@dataclass(slots=True)
class _Line:
    run: str
    name: str
    samples: list[Sample] = field(default_factory=list)


def read_metric_lines(
    entries: KeptEntries, entity: str, project: str, *, since_ms: int, metric: str | None = None, run: str | None = None
) -> MetricLines:
    """The metrics of a project, all or one, of all runs or one. Raises `redis.exceptions.RedisError`."""
    wanted = EventFilter(criteria=EventCriteria(type=EventType.RUN_METRIC, project=project, run=run), entities={entity})
    search = EventSearch(wanted, max_entries=MAX_SCANNED)
    found: OrderedDict[str, OrderedDict[str, _Line]] = OrderedDict()
    for entry in search.among(entries.backwards(None, since_ms)):
        data = None if entry.event is None else entry.event.data
        metrics: Mapping[str, float] = getattr(data, "metrics", {})
        for name, value in metrics.items():
            if metric not in (None, name):
                continue
            if (lines := _kept_under(found, name, MAX_METRICS)) is None:
                continue
            line = _line(lines, data)
            if line is not None and len(line.samples) < MAX_SAMPLES:
                finite = value if math.isfinite(value) else None
                line.samples.append(Sample(getattr(data, "step", None), finite, moment(entry.position.received_ms)))
    return MetricLines(
        {
            name: tuple(MetricLine(one.run, one.name, tuple(reversed(one.samples))) for one in lines.values())
            for name, lines in found.items()
        },
        search.scanned,
        not search.bounded,
        None if search.last is None else moment(search.last.received_ms),
    )


def _kept_under(
    found: OrderedDict[str, OrderedDict[str, _Line]], metric: str, most: int
) -> OrderedDict[str, _Line] | None:
    """The lines of a metric; None for one too many."""
    if metric not in found and len(found) >= most:
        return None
    return found.setdefault(metric, OrderedDict())


def _line(lines: OrderedDict[str, _Line], data: object) -> _Line | None:
    """The line of the run that an event is about; None for one run too many."""
    run = getattr(data, "run", None)
    run_id = str(getattr(run, "id", ""))
    if run_id not in lines:
        if len(lines) >= MAX_RUNS:
            return None
        lines[run_id] = _Line(run_id, str(getattr(run, "display_name", None) or getattr(run, "name", "") or ""))
    return lines[run_id]
