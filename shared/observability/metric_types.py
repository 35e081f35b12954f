"""Two kinds of metric that prometheus_client lacks. Must not name a metric: `shared.observability.metrics` does."""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import Gauge, Histogram, Metric

from shared.observability.exemplars import ExemplarFile, exemplar

_exemplars = ExemplarFile()


class BatchHistogram(Histogram):
    """A histogram that takes many observations in one call, with one write for each bucket instead of two for each."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Observe each of the amounts, which must not be negative."""
        if not amounts:
            return
        self._sum.inc(sum(amounts))
        for bucket, count in Tally(bisect_left(self._upper_bounds, amount) for amount in amounts).items():
            self._buckets[bucket].inc(count)

    def add_exemplars(self, amounts: Iterable[tuple[float, str]]) -> None:
        """Let observations lead to their traces: the newest of each bucket, as (amount, trace id).

        prometheus_client keeps none where processes share their metrics, so they are kept beside (`metric_files`).
        """
        for amount, trace in amounts:
            bucket = bisect_left(self._upper_bounds, amount)
            self._buckets[bucket].set_exemplar(exemplar(trace, amount))
            _exemplars.keep(self._name, self._upper_bounds[bucket], trace, amount)
        _exemplars.write()


class PatientHistogram:
    """Observes durations of a histogram with one label a second's worth at a time, since each write takes microseconds.

    A slow one is written at once. What is left when nothing more comes waits for the next: a fraction of a second's
    worth of quick ones. Any thread may observe.
    """

    def __init__(self, histogram: BatchHistogram) -> None:
        self._histogram = histogram
        self._lock = threading.Lock()
        self._waiting: dict[str, list[float]] = {}
        self._written = 0.0
        os.register_at_fork(after_in_child=self._forget)  # what waits is the parent's to write

    def observe(self, label: str, seconds: float) -> None:
        """Observe one duration."""
        now = time.monotonic()
        with self._lock:
            self._waiting.setdefault(label, []).append(seconds)
            if seconds < _SLOW_SECONDS and now - self._written < _PATIENCE_SECONDS:
                return
            waiting, self._waiting, self._written = self._waiting, {}, now
        self._write(waiting)

    def write(self) -> None:
        """Write what waits."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        self._write(waiting)

    def _write(self, waiting: Mapping[str, Sequence[float]]) -> None:
        for label, amounts in waiting.items():
            self._histogram.labels(label).observe_all(amounts)

    def _forget(self) -> None:
        self._lock, self._waiting = threading.Lock(), {}


_PATIENCE_SECONDS = 1.0
_SLOW_SECONDS = 0.1


class OptionalGauge(Gauge):
    """A gauge that shows nothing until it is set.

    Of several processes only some know a value; the others would claim that it is 0.
    """

    _known = False

    def set(self, value: float) -> None:
        """Set the gauge."""
        self._known = True
        super().set(value)

    def inc(self, amount: float = 1) -> None:
        """Add to the gauge, which is 0 before."""
        self._known = True
        super().inc(amount)

    def collect(self) -> Iterable[Metric]:
        """The series to expose: none until the gauge is set; of a gauge with labels those of its children."""
        return super().collect() if self._known or self._labelnames else []


def with_zero_series(counter: Any, **labels: Iterable[str]) -> Any:
    """The counter, with a series at 0 for each value of its label: an increase from nothing is no increase."""
    ((name, values),) = labels.items()
    for value in values:
        counter.labels(**{name: value})
    return counter
