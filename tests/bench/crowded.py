"""How 1,000 webhooks fare in other ways than by their rate: latency, fan-out, hostile endpoints, retries."""

from __future__ import annotations

import statistics
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.bench.crowds import Crowd, FanOut
from tests.bench.figures import Figure
from tests.bench.hostiles import hostile_endpoints
from tests.bench.processes import ProcessFailed
from tests.bench.rounds import measure_latency, publish_evenly
from tests.bench.spread import PATIENCE_SECONDS, POLL_SECONDS, Bench, run, running_bench

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.rounds import Latency

WEBHOOKS, HOSTILE = 1_000, 50
LATENCY_EVENTS, PER_SECOND = 200, 20.0
FAN_OUT, FAN_OUT_EVENTS = 200, 40
FAN_OUT_PER_SECOND = (5.0, 20.0)
HOSTILE_PER_SECOND, HOSTILE_TIMEOUT_SECONDS = 20.0, 3
DUE = 100_000
FRESH_EVENTS, FRESH_PER_SECOND = 100, 10.0
QUICK = 10


def measure_latency_of_many(rounds: int, quick: bool) -> list[Figure]:
    """From before `POST /v1/events` to the arrival, 20 events/s over 1,000 webhooks."""
    crowd, area = Crowd("many", WEBHOOKS), "spread-latency"
    count = LATENCY_EVENTS // QUICK if quick else LATENCY_EVENTS
    with running_bench("postgresql") as bench:
        run(bench, [crowd], rounds=0, count=WEBHOOKS * 3)
        found = [_latency(bench, crowd, f"latency{number}", count, PER_SECOND) for number in range(rounds)]
    return [
        Figure(area, "POST /v1/events to arrival, p50", "ms", tuple(one.p50_ms for one in found), at_most=10),
        Figure(area, "the same, p99", "ms", tuple(one.p99_ms for one in found), at_most=30),
        _faults(area, sum(one.accounts.faults for one in found)),
    ]


def measure_fan_out(rounds: int, quick: bool) -> list[Figure]:
    """One event that fires 200 automations on 200 webhooks: when the last of its deliveries arrives, and CPU."""
    crowd, area = FanOut("fan", FAN_OUT), "spread-fan-out"
    spread = Crowd("spread", WEBHOOKS)
    events = FAN_OUT_EVENTS // QUICK if quick else FAN_OUT_EVENTS
    figures = []
    with running_bench("postgresql") as bench:
        alone = run(bench, [spread], rounds=rounds, count=events * FAN_OUT)[spread.name]
        bench.define(crowd)
        for number in range(3):
            _fan_out(bench, crowd, f"warm{number}", 5, FAN_OUT_PER_SECOND[0])
        cpu = []
        for rate in FAN_OUT_PER_SECOND:
            waits = []
            for number in range(rounds):
                found, us = _fan_out(bench, crowd, f"at{rate:g}-{number}", events, rate)
                waits.append(statistics.quantiles(found, n=100, method="inclusive")[98])
                cpu.append(us)
            name = f"event to arrival, p99 of {FAN_OUT} deliveries, {rate:g} events/s"
            figures.append(Figure(area, name, "ms", tuple(waits), at_most=500))
    figures.append(
        Figure(
            area,
            "CPU, servers included",
            "µs a delivery",
            tuple(cpu),
            against=f"spread over {WEBHOOKS:,} webhooks",
            reference=alone.totals_us,
            ratio_at_most=1.5,
        )
    )
    return figures


def measure_hostile(rounds: int, quick: bool) -> list[Figure]:
    """50 of 1,000 webhooks hang, drip, flood or fail, all under load: p99 of the others over its quiet value."""
    healthy, area = Crowd("healthy", WEBHOOKS - HOSTILE), "spread-hostile"
    policy = {"timeout_seconds": HOSTILE_TIMEOUT_SECONDS, "circuit_failures": 0}
    hostile = Crowd("hostile", HOSTILE, policy=policy)
    count = LATENCY_EVENTS // QUICK if quick else LATENCY_EVENTS
    quiet: list[Latency] = []
    beside: list[Latency] = []
    with running_bench("postgresql") as bench, hostile_endpoints() as urls:
        places = list(urls.values())
        run(bench, [healthy], rounds=0, count=WEBHOOKS * 3)
        hostile.define(bench.hookline, lambda number: places[number % len(places)], paused=True)
        for number in range(rounds):
            quiet.append(_latency(bench, healthy, f"quiet{number}", count, PER_SECOND))
            hostile.define(bench.hookline, lambda number: places[number % len(places)])
            with _load(bench, hostile, f"hostile{number}"):
                beside.append(_latency(bench, healthy, f"beside{number}", count, PER_SECOND))
            hostile.define(bench.hookline, lambda number: places[number % len(places)], paused=True)
            time.sleep(HOSTILE_TIMEOUT_SECONDS + 1)
    return [
        Figure(
            area,
            f"p99 beside {HOSTILE} hostile webhooks of {WEBHOOKS:,}",
            "ms",
            tuple(one.p99_ms for one in beside),
            against="the same without them",
            reference=tuple(one.p99_ms for one in quiet),
            ratio_at_most=2,
        ),
    ]


def measure_retries(rounds: int, quick: bool) -> list[Figure]:
    """100,000 deliveries that fall due at once over 1,000 webhooks: drained how fast, and fresh events meanwhile."""
    crowd, fresh, area = Crowd("due", WEBHOOKS), Crowd("fresh", WEBHOOKS), "retries"
    count = DUE // QUICK if quick else DUE
    drained, waits = [], []
    with running_bench("postgresql") as bench:
        found = run(bench, [crowd, fresh], rounds=rounds, count=count // 10)
        url_of = lambda number: f"{bench.endpoint.url}/due/{number}"  # noqa: E731
        for number in range(rounds):
            crowd.define(bench.hookline, url_of, paused=True)
            recorded = bench.hookline.recorded()
            bench.hookline.release(crowd.events(f"retries{number}", count))
            _until(lambda count=count: sum(bench.hookline.unfinished().values()) >= count, "stored deliveries")
            bench.endpoint.reset()
            began = time.monotonic()
            crowd.define(bench.hookline, url_of)
            events = fresh.events(f"meanwhile{number}", FRESH_EVENTS)
            published = publish_evenly(bench.hookline, events, interval_seconds=1 / FRESH_PER_SECOND)
            target = recorded + count + FRESH_EVENTS
            _until(lambda target=target: bench.hookline.recorded() >= target, "records")
            drained.append(count / (time.monotonic() - began))
            arrivals = bench.endpoint.arrivals()
            found_ms = [(arrivals[event] - at) / 1e6 for event, at in published.items()]
            waits.append(statistics.quantiles(found_ms, n=100, method="inclusive")[98])
    return [
        Figure(
            area,
            f"{count:,} due at once over {WEBHOOKS:,} webhooks",
            "deliveries/s",
            tuple(drained),
            against="fresh ones",
            reference=tuple(found[crowd.name].rates),
            ratio_at_least=0.5,
        ),
        Figure(area, "fresh events meanwhile, p99", "ms", tuple(waits), at_most=1_000),
    ]


def _latency(bench: Bench, crowd: Crowd, label: str, count: int, per_second: float) -> Latency:
    return measure_latency(
        bench.hookline,
        bench.endpoint,
        label=label,
        count=count,
        per_second=per_second,
        events=crowd.events(label, count),
    )


def _fan_out(bench: Bench, crowd: Crowd, label: str, count: int, per_second: float) -> tuple[list[float], float]:
    """Milliseconds from before each event to each of its arrivals, and microseconds of CPU a delivery."""
    bench.endpoint.reset()
    published, before = {}, bench.cpu_seconds()
    due = time.monotonic()
    for event in crowd.events(label, count):
        time.sleep(max(0.0, due - time.monotonic()))
        published[event["id"]] = time.monotonic_ns()
        bench.hookline.publish(event)
        due += 1 / per_second
    _until(lambda: bench.endpoint.stats()["distinct"] >= count * crowd.size, "arrivals")
    time.sleep(1)  # the last are recorded
    cpu_us = (bench.cpu_seconds() - before) / (count * crowd.size) * 1e6
    arrivals = bench.endpoint.arrivals().items()
    return [(at - published[one.partition("/")[0]]) / 1e6 for one, at in arrivals], cpu_us


@contextmanager
def _load(bench: Bench, crowd: Crowd, label: str) -> Iterator[None]:
    """Events for a crowd at an even rate, for the time of a `with`."""
    over = threading.Event()

    def publish() -> None:
        number = 0
        while not over.wait(1 / HOSTILE_PER_SECOND):
            bench.hookline.release(crowd.events(f"{label}-{number}", crowd.size)[number % crowd.size :][:1])
            number += 1

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    time.sleep(HOSTILE_TIMEOUT_SECONDS + 1)
    try:
        yield
    finally:
        over.set()
        thread.join()


def _until(condition: object, what: str) -> None:
    assert callable(condition)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise ProcessFailed(f"no {what} within {PATIENCE_SECONDS:g} s")
        time.sleep(POLL_SECONDS)


def _faults(area: str, count: int) -> Figure:
    return Figure(area, "lost, doubled or invented", "deliveries", (float(count),), at_most=0, promise=True)
