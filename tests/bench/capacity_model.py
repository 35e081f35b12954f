"""The capacity model: from a load to cores, processes, servers and sizes, and what of it breaks first.

Pure: what it knows of Hookline are the `Constants`, which `python -m tests.bench.capacity --check` measures. It adds up
what is spent for each event and delivery, and compares it with what one of a kind can give.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, fields

DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Constants:
    """What an event or a delivery takes: CPU in microseconds, sizes in bytes. docs/scale-out.md says from where."""

    worker_us: float = 83.0
    """A delivery in a worker, from the stream to recorded, with one webhook."""
    postgres_us: float = 61.0
    valkey_us: float = 6.0
    dispatcher_us: float = 4.0
    no_match_us: float = 7.6
    """An event that fires nothing, in a worker."""
    publish_us: float = 10.4
    """An event in the API, in batches of 100."""
    slowness: float = 1.0
    """How many times slower the cores are than those of the figures above."""
    spread: tuple[tuple[int, float], ...] = ((1, 1.0), (100, 1.70), (1_000, 1.84), (10_000, 3.49))
    """How many times the CPU of one webhook's delivery it is over so many webhooks."""
    spare: float = 0.76
    """The share of the cores that is used when all of them have work: the rest are waits for each other."""
    overlap: float = 0.36
    """The share of a worker's waits on full cores in which others work: what one worker alone leaves unused."""
    crowding: float = 0.12
    """How much more CPU a delivery takes in a worker for each process above one for each core, as a share."""
    event_overhead_bytes: float = 28.0
    """An event in Valkey's memory beside its JSON."""
    delivery_overhead_bytes: float = 1_683.0
    """A finished delivery in PostgreSQL with its attempt, indexes and dead rows, beside its payload."""
    wal_bytes: float = 3_100.0
    """What a delivery writes to PostgreSQL's log, with a payload of 600 bytes."""
    transactions: float = 0.044
    """PostgreSQL's transactions for a delivery: a batch shares a few."""
    valkey_commands: float = 1.3
    """Valkey's commands for an event that fires one delivery, its XADD among them."""
    window_bytes: float = 510.0
    """A watched series in PostgreSQL."""
    postgres_connections: float = 3.0
    """Of a worker process under load."""
    valkey_connections: float = 14.0
    worker_mib: float = 180.0
    xadd_per_second: float = 150_000.0
    """Events a second that one Valkey takes, which uses one core."""
    partition_events_per_second: float = 10_000.0
    """Events a second of one partition: one drain evaluates it."""
    retention_rows_per_second: float = 29_000.0


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for."""

    events_per_second: float = 1_000.0
    """At the peak."""
    peak: float = 1.0
    """The peak over the average of a day."""
    fan_out: float = 0.3
    """Deliveries for each event."""
    webhooks: int = 100
    busiest_share: float = 0.1
    """The busiest webhook's share of the deliveries."""
    latency_seconds: float = 0.2
    """How long receivers take on average."""
    event_bytes: float = 530.0
    payload_bytes: float = 600.0
    event_retention_hours: float = 24.0
    delivery_retention_days: float = 30.0
    watched_series: int = 0
    partitions: int = 16
    host_cores: int = 8
    database_cores: int = 32
    database_bytes: float = 4e12
    redis_bytes: float = 64e9
    max_connections: int = 1_000
    """`HOOKLINE_MAX_CONNECTIONS`."""
    max_in_flight: int = 256
    drains_per_webhook: int = 2
    cells: int = 1

    @property
    def deliveries_per_second(self) -> float:
        """At the peak, in all cells."""
        return self.events_per_second * self.fan_out

    def of_a_cell(self) -> Load:
        """The load of one of the cells, which share it evenly."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        webhooks, series = math.ceil(self.webhooks / self.cells), math.ceil(self.watched_series / self.cells)
        shared = {"events_per_second": self.events_per_second / self.cells, "webhooks": webhooks, "cells": 1}
        # The busiest webhook is in one of the cells, as a whole.
        busiest = min(1.0, self.busiest_share * self.cells)
        return Load(**(values | shared | {"watched_series": series, "busiest_share": busiest}))


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that one of a kind gives, what the load takes of it, and what to do where it is too little."""

    what: str
    wanted: float
    given: float
    unit: str
    remedy: str

    @property
    def used(self) -> float:
        """The share that is used; above 1 it breaks."""
        return self.wanted / self.given if self.given else math.inf


@dataclass(frozen=True, slots=True)
class Plan:
    """What one installation needs for a load: a cell, where there are several."""

    deliveries_per_second: float
    delivery_us: float
    """CPU of a delivery in all of Hookline's and the servers' processes."""
    workers: int
    worker_hosts: int
    api_processes: int
    worker_cores: float
    postgres_cores: float
    valkey_cores: float
    in_flight: float
    postgres_connections: int
    valkey_connections: int
    postgres_transactions_per_second: float
    valkey_commands_per_second: float
    postgres_bytes: float
    wal_bytes_per_second: float
    valkey_bytes: float
    valkey_nodes: int
    """Nodes of a Redis Cluster that take writes; 1 is a server alone."""
    limits: tuple[Limit, ...]
    """The one that breaks first comes first."""


def spread_factor(constants: Constants, webhooks: int) -> float:
    """How many times one webhook's CPU a delivery takes over so many: between measured numbers by their logarithm."""
    known = constants.spread
    place = bisect_left([count for count, _ in known], max(1, webhooks))
    if place == 0:
        return known[0][1]
    (few, less), (many, more) = known[place - 1 : place + 1] if place < len(known) else known[-2:]
    return less + (more - less) * math.log(webhooks / few) / math.log(many / few)


def plan(load: Load, constants: Constants) -> Plan:
    """What each cell of the installation needs."""
    one = load.of_a_cell()
    events, rate = one.events_per_second, one.deliveries_per_second
    second = 1e6 / constants.slowness
    """The microseconds of the measured cores that a core here does in a second."""
    times = spread_factor(constants, one.webhooks)
    worker_cores = (events * constants.no_match_us + rate * constants.worker_us * times) / second
    postgres_cores = rate * constants.postgres_us * times / second
    valkey_cores = max(events / constants.xadd_per_second * constants.slowness, events * constants.valkey_us / second)
    api_cores = events * constants.publish_us / second
    in_flight = rate * one.latency_seconds
    workers = max(2, math.ceil(worker_cores / constants.spare), math.ceil(in_flight / one.max_connections))
    average, average_events = rate / one.peak, events / one.peak
    row_bytes = one.payload_bytes + constants.delivery_overhead_bytes
    postgres_bytes = average * DAY_SECONDS * one.delivery_retention_days * row_bytes
    postgres_bytes += one.watched_series * constants.window_bytes
    stream_bytes = (
        average_events * one.event_retention_hours * 3600 * (one.event_bytes + constants.event_overhead_bytes)
    )
    nodes = max(1, math.ceil(stream_bytes * 2 / one.redis_bytes), math.ceil(valkey_cores / constants.spare))
    api_processes = max(2, math.ceil(api_cores / constants.spare))
    processes = workers + api_processes + 2
    # Up to one worker process for each core they are not in each other's way; a host has no more.
    worker_hosts = max(2, math.ceil(workers / one.host_cores))
    connections = math.ceil(processes * constants.postgres_connections)
    wal = rate * (constants.wal_bytes + 2 * (one.payload_bytes - 600))
    return Plan(
        deliveries_per_second=rate,
        delivery_us=constants.slowness
        * (
            (constants.worker_us + constants.postgres_us) * times
            + constants.valkey_us
            + constants.dispatcher_us
            + (constants.no_match_us + constants.publish_us) / max(one.fan_out, 1e-9)
        ),
        workers=workers,
        worker_hosts=worker_hosts,
        api_processes=api_processes,
        worker_cores=worker_cores,
        postgres_cores=postgres_cores,
        valkey_cores=valkey_cores,
        in_flight=in_flight,
        postgres_connections=connections,
        valkey_connections=math.ceil(processes * constants.valkey_connections),
        postgres_transactions_per_second=rate * constants.transactions,
        valkey_commands_per_second=events * constants.valkey_commands,
        postgres_bytes=postgres_bytes,
        wal_bytes_per_second=wal,
        valkey_bytes=stream_bytes * 2,
        valkey_nodes=nodes,
        limits=_limits(one, constants, postgres_bytes, postgres_cores, valkey_cores, stream_bytes),
    )


def _limits(
    one: Load,
    constants: Constants,
    postgres_bytes: float,
    postgres_cores: float,
    valkey_cores: float,
    stream_bytes: float,
) -> tuple[Limit, ...]:
    rate, events = one.deliveries_per_second, one.events_per_second
    in_flight = one.max_in_flight * one.drains_per_webhook
    limits = (
        Limit(
            "PostgreSQL's CPU",
            postgres_cores,
            one.database_cores * constants.spare,
            "cores",
            "a larger server, then cells",
        ),
        Limit(
            "PostgreSQL's disk", postgres_bytes, one.database_bytes, "bytes", "shorter delivery retention, then cells"
        ),
        Limit(
            "deleting what is past its retention",
            rate / one.peak * 2,
            constants.retention_rows_per_second,
            "rows/s",
            "cells",
        ),
        Limit(
            "one Valkey's memory, half of it free",
            stream_bytes * 2,
            one.redis_bytes,
            "bytes",
            "shorter event retention, then a Redis Cluster",
        ),
        Limit("one Valkey's CPU", valkey_cores, constants.spare, "cores", "a Redis Cluster"),
        Limit(
            "evaluation of a partition",
            events / one.partitions,
            constants.partition_events_per_second * constants.spare / constants.slowness,
            "events/s",
            "more partitions",
        ),
        Limit(
            "requests in flight to the busiest webhook",
            rate * one.busiest_share * one.latency_seconds,
            in_flight,
            "requests",
            "HOOKLINE_MAX_IN_FLIGHT, HOOKLINE_DRAINS_PER_WEBHOOK",
        ),
    )
    return tuple(sorted(limits, key=lambda limit: limit.used, reverse=True))


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """What a run with some worker processes on one machine showed: CPU of a delivery in microseconds, deliveries/s."""

    workers: int
    worker_us: float
    servers_us: float
    """PostgreSQL, Valkey, dispatcher and API."""
    harness_us: float
    """What feeds and receives, on the same cores."""
    rate: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of a run."""

    workers: int
    delivery_us: float
    rate: float


def predict(one_worker: MeasuredRun, workers: int, cores: int, constants: Constants) -> Prediction:
    """The CPU of a delivery and the rate with more workers on this machine, by a run with one worker on it.

    A worker process uses one core at most; all of them, the servers and the harness share the cores. From the run with
    one worker come the machine's speed and how much of what bounded it was reached. Where the cores are the bound, some
    of what one worker left of them is used by the others.
    """
    if workers == 1:
        return Prediction(1, one_worker.worker_us + one_worker.servers_us, one_worker.rate)
    more = constants.crowding * max(0, workers - cores)
    worker_us, servers_us = one_worker.worker_us * (1 + more), one_worker.servers_us * (1 + more / 4)
    harness_us = one_worker.harness_us
    alone = min(
        _of_workers(1, one_worker.worker_us), _of_cores(cores, one_worker.worker_us, one_worker.servers_us, harness_us)
    )
    reached = min(1.0, one_worker.rate / alone)
    together = reached + (1 - reached) * constants.overlap
    rate = min(
        _of_workers(workers, worker_us) * reached, _of_cores(cores, worker_us, servers_us, harness_us) * together
    )
    return Prediction(workers, worker_us + servers_us, rate)


def _of_workers(workers: int, worker_us: float) -> float:
    """The deliveries/s that so many processes can't pass."""
    return workers / worker_us * 1e6


def _of_cores(cores: int, worker_us: float, servers_us: float, harness_us: float) -> float:
    """The deliveries/s that the cores can't pass."""
    return cores / (worker_us + servers_us + harness_us) * 1e6
