"""Metrics that prometheus_client lacks, against its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.samples import Sample

from shared.observability.metric_types import BatchHistogram, OptionalGauge, PatientHistogram, with_zero_series

BUCKETS = (0.5, 1, 2.5)
AMOUNTS = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, 2.0, 2.5, 3.0, 100.0]))


@given(AMOUNTS, AMOUNTS)
def test_many_observations_at_once_are_as_many_one_by_one(first: list[float], second: list[float]) -> None:
    batched = BatchHistogram("h", "Of a test.", buckets=BUCKETS, registry=None)
    single = Histogram("h", "Of a test.", buckets=BUCKETS, registry=None)
    for amounts in (first, second):
        batched.observe_all(amounts)
        for amount in amounts:
            single.observe(amount)
    assert _shown(batched) == _shown(single)


def _shown(histogram: Histogram) -> list[Sample]:
    (metric,) = histogram.collect()
    return [sample for sample in metric.samples if not sample.name.endswith("_created")]


def test_a_gauge_shows_nothing_before_it_is_set() -> None:
    registry = CollectorRegistry()
    gauge = OptionalGauge("g", "Of a test.", registry=registry)
    assert list(registry.collect()) == []
    gauge.set(0)
    assert registry.get_sample_value("g") == 0


def test_a_gauge_with_labels_shows_those_that_were_set() -> None:
    registry = CollectorRegistry()
    gauge = OptionalGauge("g", "Of a test.", ["of"], registry=registry)
    gauge.labels(of="a").set(3)
    assert registry.get_sample_value("g", {"of": "a"}) == 3
    assert registry.get_sample_value("g", {"of": "b"}) is None


def test_a_primed_counter_begins_at_0() -> None:
    registry = CollectorRegistry()
    with_zero_series(Counter("c", "Of a test.", ["of"], registry=registry), of=("a", "b"))
    assert registry.get_sample_value("c_total", {"of": "b"}) == 0


def test_durations_are_written_together_and_a_slow_one_at_once() -> None:
    histogram = BatchHistogram("patient_seconds", "A test.", ["kind"], buckets=(0.1, 1), registry=None)
    patient = PatientHistogram(histogram)

    def written() -> float:
        return sum(one.value for metric in histogram.collect() for one in metric.samples if one.name.endswith("_count"))

    patient.observe("a", 0.01)  # the first, after a second of nothing
    assert written() == 1
    for _ in range(50):
        patient.observe("a", 0.01)
    patient.write()
    assert written() == 51
    patient.observe("b", 0.5)
    assert written() == 52
