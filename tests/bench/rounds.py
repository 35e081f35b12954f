"""One measured round of one contestant: throughput, or latency at a fixed rate.

A round never judges speed. It does judge whether each event arrived exactly once and was recorded exactly once.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tests.bench import neighbours
from tests.bench.events import Event, make_events
from tests.bench.processes import ProcessFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.receiver import Receiver

ARRIVAL_POLL_SECONDS = 0.02
RECORD_POLL_SECONDS = 0.005
STRAGGLER_SECONDS = 0.3
MIN_ARRIVALS = 2


class Contestant(Protocol):
    """What a system has to offer to be measured."""

    @property
    def name(self) -> str:
        """How it is called in the results."""

    def release(self, events: Sequence[Event]) -> float:
        """Hand over all events at once; the monotonic second from which it may be held to them."""

    def publish(self, event: Event) -> None:
        """Hand over one event."""

    def recorded(self) -> int:
        """Deliveries that its database has as delivered."""

    def cpu_seconds(self) -> float:
        """CPU time of its own processes so far, servers not counted."""

    def require_alive(self) -> None:
        """Raise if one of its processes has ended."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """Deliveries that went wrong in a round."""

    lost: int
    """Events that never arrived, or arrived and were not recorded in time."""
    doubled: int
    """Requests beyond the first for an event, and records beyond the events."""
    strays: int
    """Arrivals of events that this round did not publish."""

    @property
    def faults(self) -> int:
        """All of them."""
        return self.lost + self.doubled + self.strays


@dataclass(frozen=True, slots=True)
class Throughput:
    """Deliveries sent and recorded, from the release to the last record."""

    deliveries: int
    seconds: float
    per_second: float
    cpu_us_per_delivery: float
    cores_elsewhere: float
    """Cores that processes outside the benchmark kept busy meanwhile."""
    accounts: Accounts


@dataclass(frozen=True, slots=True)
class Latency:
    """From the moment before publishing an event to its arrival at the receiver."""

    events: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    accounts: Accounts


def measure_throughput(
    system: Contestant,
    receiver: Receiver,
    *,
    label: str,
    count: int,
    delay_seconds: float = 0.0,
    postgres_folder: str | None = None,
    timeout_seconds: float = 120,
) -> Throughput:
    """Release `count` events and wait for the last record.

    While requests are under way only the receiver is polled, so that counting rows slows nobody.
    """
    events = make_events(f"{label}-{system.name}", count)
    receiver.reset(delay_seconds=delay_seconds)
    before, cpu_before = system.recorded(), system.cpu_seconds()
    reading = neighbours.read(postgres_folder)
    began = system.release(events)
    _await(system, receiver, count=count, target=before + count, deadline=began + timeout_seconds)
    seconds = time.monotonic() - began
    elsewhere = neighbours.read(postgres_folder).cores_elsewhere_since(reading)
    cpu = system.cpu_seconds() - cpu_before
    return Throughput(
        deliveries=count,
        seconds=seconds,
        per_second=count / seconds,
        cpu_us_per_delivery=cpu / count * 1e6,
        cores_elsewhere=elsewhere,
        accounts=_audit(system, receiver, events=events, before=before),
    )


def measure_latency(
    system: Contestant,
    receiver: Receiver,
    *,
    label: str,
    count: int,
    per_second: float,
    events: Sequence[Event] | None = None,
) -> Latency:
    """Publish `count` events one by one at an even rate and compare with their arrivals.

    Args:
        events: the events, where they are not those that every contestant gets.
    """
    events = events or make_events(f"{label}-{system.name}", count)
    receiver.reset()
    before = system.recorded()
    published = publish_evenly(system, events, interval_seconds=1 / per_second)
    _await(system, receiver, count=count, target=before + count, deadline=time.monotonic() + 60)
    arrivals = receiver.arrivals()
    waits = sorted((arrivals[event] - at) / 1e6 for event, at in published.items() if event in arrivals)
    if len(waits) < MIN_ARRIVALS:
        raise ProcessFailed(f"{system.name}: {len(waits)} of {count} events arrived")
    percentiles = statistics.quantiles(waits, n=100, method="inclusive")
    return Latency(
        events=count,
        p50_ms=percentiles[49],
        p99_ms=percentiles[98],
        max_ms=waits[-1],
        accounts=_audit(system, receiver, events=events, before=before),
    )


def publish_evenly(system: Contestant, events: Sequence[Event], *, interval_seconds: float) -> dict[str, int]:
    """Publish on schedule; monotonic nanoseconds before each call, by event id."""
    published = {}
    due = time.monotonic()
    for event in events:
        time.sleep(max(0.0, due - time.monotonic()))
        published[event["id"]] = time.monotonic_ns()
        system.publish(event)
        due += interval_seconds
    return published


def _await(system: Contestant, receiver: Receiver, *, count: int, target: int, deadline: float) -> None:
    """Until all have arrived and then are recorded, or the deadline is over: then the audit will tell."""
    while receiver.stats()["distinct"] < count and time.monotonic() < deadline:
        system.require_alive()
        time.sleep(ARRIVAL_POLL_SECONDS)
    while system.recorded() < target and time.monotonic() < deadline:
        time.sleep(RECORD_POLL_SECONDS)


def _audit(system: Contestant, receiver: Receiver, *, events: Sequence[Event], before: int) -> Accounts:
    """Compare what was published with what arrived and what was recorded, a moment later for late doubles."""
    time.sleep(STRAGGLER_SECONDS)
    expected = {event["id"] for event in events}
    arrived = receiver.arrivals().keys()
    recorded = system.recorded() - before
    doubled = int(receiver.stats()["doubled"])
    return Accounts(
        lost=max(len(expected - arrived), len(expected) - recorded),
        doubled=max(doubled, recorded - len(expected)),
        strays=len(arrived - expected),
    )
