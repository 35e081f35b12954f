"""The capacity model: what the docs measured comes out of it, and more never needs less."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.capacity import main
from tests.bench.capacity_model import Constants, Load, MeasuredRun, plan, predict, spread_factor

ONE_WORKER = MeasuredRun(1, worker_us=254, servers_us=183, harness_us=35, rate=2888)


def test_sizes_are_those_that_the_footprint_measured() -> None:
    deliveries = plan(Load(events_per_second=300, fan_out=1, delivery_retention_days=30), Constants())
    assert deliveries.postgres_bytes == pytest.approx(1.8e12, rel=0.05)
    events = plan(Load(events_per_second=2_000, event_retention_hours=24), Constants())
    assert events.valkey_bytes == pytest.approx(2 * 97e9, rel=0.05)  # half of it stays free


@pytest.mark.parametrize(("workers", "rate", "delivery_us"), [(1, 2888, 437), (2, 3523, 399), (4, 3050, 530)])
def test_runs_are_predicted_by_the_one_with_one_worker(workers: int, rate: float, delivery_us: float) -> None:
    """The figures of the table in docs/scale-out.md."""
    said = predict(ONE_WORKER, workers, 2, Constants())
    assert said.rate == pytest.approx(rate, rel=0.05)
    assert said.delivery_us == pytest.approx(delivery_us, rel=0.1)


def test_on_more_cores_more_workers_are_quicker() -> None:
    rates = [predict(ONE_WORKER, workers, 16, Constants()).rate for workers in (1, 2, 4, 8)]
    assert rates == pytest.approx([2888 * workers for workers in (1, 2, 4, 8)])


def test_many_webhooks_cost_what_was_measured_and_lie_between() -> None:
    constants = Constants()
    assert [spread_factor(constants, count) for count, _ in constants.spread] == [one for _, one in constants.spread]
    found = [spread_factor(constants, count) for count in (1, 10, 99, 500, 5_000, 10_000, 1_000_000)]
    assert found == sorted(found)


@given(
    st.floats(1, 1e6),
    st.floats(0.001, 100),
    st.integers(1, 100_000),
    st.floats(0.001, 60),
    st.integers(1, 50),
    st.floats(1, 4),
)
def test_more_never_needs_less(
    events: float, fan_out: float, webhooks: int, latency: float, cells: int, times: float
) -> None:
    load = Load(events_per_second=events, fan_out=fan_out, webhooks=webhooks, latency_seconds=latency, cells=cells)
    less = plan(load, Constants())
    for more in (
        plan(replace(load, events_per_second=events * times), Constants()),
        plan(replace(load, fan_out=fan_out * times), Constants()),
        plan(load, Constants(slowness=times)),
    ):
        assert more.workers >= less.workers >= 2
        assert more.postgres_cores >= less.postgres_cores * 0.999
        assert more.valkey_nodes >= less.valkey_nodes
        assert max(one.used for one in more.limits) >= max(one.used for one in less.limits) * 0.999
    assert [one.used for one in less.limits] == sorted((one.used for one in less.limits), reverse=True)


def test_a_billion_deliveries_a_day_fit_into_cells_and_not_into_one(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--deliveries-a-day", "1e9", "--peak", "2", "--webhooks", "10000", "--delivery-days", "7"]
    asked += ["--event-hours", "1", "--partitions", "64", "--busiest", "0.01", "--database-gb", "16000"]
    load = Load(events_per_second=1e9 / 86_400 * 2 / 0.3, peak=2, delivery_retention_days=7, database_bytes=16e12)
    whole = replace(load, webhooks=10_000, event_retention_hours=1, partitions=64, busiest_share=0.01)
    assert plan(whole, Constants()).limits[0].used > 1
    assert plan(replace(whole, cells=8), Constants()).limits[0].used < 1
    assert main([*asked, "--cells", "8"]) == 0
    printed = capsys.readouterr().out
    assert "in each of 8 cells" in printed
    assert "23,148" in printed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--events", "0"], "--events: must be a number above 0"),
        (["--events", "nan"], "--events: must be a number above 0"),
        (["--events", "1", "--deliveries-a-day", "1"], "not allowed with"),
        (["--fan-out", "many"], "--fan-out: must be a number"),
        (["--webhooks", "1.5"], "--webhooks: must be a whole number"),
        (["--cells", "0"], "--cells: must be a whole number above 0"),
        (["--busiest", "1.1"], "--busiest: must be a share"),
    ],
)
def test_what_is_no_load_is_refused(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert told in capsys.readouterr().err
