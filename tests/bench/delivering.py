"""Deliveries a second from stream to recorded, and latency, each against the rival in the same rounds."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from tests.bench.arena import Outcome, Scenario, run
from tests.bench.figures import Figure
from tests.bench.rival_system import MANY_PROCESSES, PREFORK, SOLO, THREADS, Pool
from tests.bench.system import Hookline, OverRest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.bench.rounds import Latency, Throughput

HOOKLINE, OVER_REST = Hookline.name, OverRest.name
EVENTS = 20_000
RIVAL_EVENTS = 2_500
SLOW_EVENTS = 1_200
SLOW_RECEIVER_SECONDS = 0.05
LATENCY_EVENTS = 200
QUICK = 20
DELIVERIES = "deliveries/s"


def measure(rounds: int, quick: bool) -> list[Figure]:
    """The whole system on PostgreSQL, with a receiver that answers at once."""
    pools = (PREFORK, SOLO)
    outcome = run(
        Scenario(
            name="postgresql",
            database="postgresql",
            rounds=rounds,
            rivals=pools,
            events=_scaled(EVENTS, quick),
            other_counts=_for(pools, _scaled(RIVAL_EVENTS, quick)),
            with_limits=True,
        )
    )
    area = "postgresql"
    rates = _rates(outcome, HOOKLINE)
    return [
        _against_best(outcome, pools, area=area, at_least=5000, ratio_at_least=8),
        Figure(
            area,
            "the same against Hookline's HTTP client alone",
            DELIVERIES,
            rates,
            against="bare loop of Hookline's HTTP client, a process a worker",
            reference=tuple(outcome.limit),
        ),
        Figure(
            area,
            "the same against httpx",
            DELIVERIES,
            rates,
            against="bare loop of httpx.AsyncClient, 4 in flight, one process",
            reference=tuple(outcome.yardstick),
        ),
        Figure(area, "given its events by POST in batches of 250", DELIVERIES, _rates(outcome, OVER_REST)),
        *_others(outcome, pools, area),
        *_accounts(outcome, area),
    ]


def measure_slow_receiver(rounds: int, quick: bool) -> list[Figure]:
    """The same with a receiver that takes 50 ms, against the rival's pools that suit it best."""
    pools = (MANY_PROCESSES, THREADS)
    outcome = run(
        Scenario(
            name="receiver takes 50 ms",
            database="postgresql",
            rounds=rounds,
            rivals=pools,
            events=_scaled(EVENTS, quick),
            other_counts=_for(pools, _scaled(SLOW_EVENTS, quick)) | {OVER_REST: 0},
            delay_seconds=SLOW_RECEIVER_SECONDS,
        )
    )
    area = "slow-receiver"
    return [
        _against_best(outcome, pools, area=area, at_least=4000, ratio_at_least=12),
        *_others(outcome, pools, area),
        *_accounts(outcome, area),
    ]


def measure_sqlite(rounds: int, quick: bool) -> list[Figure]:
    """The same on the embedded default."""
    pools = (PREFORK,)
    outcome = run(
        Scenario(
            name="sqlite",
            database="sqlite",
            rounds=rounds,
            rivals=pools,
            events=_scaled(EVENTS // 2, quick),
            other_counts=_for(pools, _scaled(RIVAL_EVENTS, quick)) | {OVER_REST: 0},
        )
    )
    area = "sqlite"
    return [
        _against_best(outcome, pools, area=area, at_least=3000),
        *_others(outcome, (), area),
        *_accounts(outcome, area),
    ]


def measure_latency(rounds: int, quick: bool) -> list[Figure]:
    """From before `POST /v1/events` to the arrival, at 20 events/s; the rival's from before it enqueues."""
    outcome = run(
        Scenario(
            name="latency",
            database="postgresql",
            rounds=rounds,
            rivals=(PREFORK,),
            events=0,
            latency_events=_scaled(LATENCY_EVENTS, quick),
        )
    )
    ours, theirs = outcome.latency[HOOKLINE], outcome.latency[PREFORK.system]

    def compared(name: str, pick: Callable[[Latency], float], at_most: float | None = None) -> Figure:
        return Figure(
            "latency",
            name,
            "ms",
            tuple(map(pick, ours)),
            at_most=at_most,
            against=PREFORK.system,
            reference=tuple(map(pick, theirs)),
        )

    return [
        compared("POST /v1/events to arrival, p50", lambda one: one.p50_ms, 10),
        compared("the same, p99", lambda one: one.p99_ms, 30),
        compared("the same, slowest", lambda one: one.max_ms),
        *_accounts(outcome, "latency"),
    ]


def _scaled(count: int, quick: bool) -> int:
    return count // QUICK if quick else count


def _for(pools: Iterable[Pool], count: int) -> dict[str, int]:
    return {pool.system: count for pool in pools}


def _rates(outcome: Outcome, name: str) -> tuple[float, ...]:
    return tuple(one.per_second for one in outcome.throughput[name])


def _against_best(
    outcome: Outcome, pools: Iterable[Pool], *, area: str, at_least: float, ratio_at_least: float | None = None
) -> Figure:
    """Hookline's rate from its streams, against the rival's quickest pool."""
    best = max((pool.system for pool in pools), key=lambda name: statistics.median(_rates(outcome, name)))
    return Figure(
        area,
        "stream to recorded",
        DELIVERIES,
        _rates(outcome, HOOKLINE),
        at_least=at_least,
        against=best,
        reference=_rates(outcome, best),
        ratio_at_least=ratio_at_least,
    )


def _others(outcome: Outcome, pools: Iterable[Pool], area: str) -> list[Figure]:
    """What tells more about the rates: each pool's, the CPU that a delivery takes, how alone this run was."""
    cpu = tuple(one.cpu_us_per_delivery for one in outcome.throughput[HOOKLINE])
    return [
        *(Figure(area, pool.system, DELIVERIES, _rates(outcome, pool.system)) for pool in pools),
        Figure(area, "CPU of Hookline's processes", "µs a delivery", cpu),
        Figure(area, "busy with others meanwhile, at worst", "cores", (max(map(_elsewhere, _all(outcome))),)),
    ]


def _all(outcome: Outcome) -> list[Throughput]:
    return [one for rounds in outcome.throughput.values() for one in rounds]


def _elsewhere(one: Throughput) -> float:
    return one.cores_elsewhere


def _accounts(outcome: Outcome, area: str) -> list[Figure]:
    """What went wrong with whom: none of it may be Hookline's."""
    faults = {name: sum(one.accounts.faults for one in rounds) for name, rounds in outcome.all_rounds()}
    ours = sum(faults.pop(name, 0) for name in (HOOKLINE, OVER_REST))
    name = "lost, doubled or invented"
    return [
        Figure(area, name, "deliveries", (float(ours),), at_most=0, promise=True),
        *(Figure(area, f"{name}: {rival}", "deliveries", (float(count),)) for rival, count in faults.items() if count),
    ]
