"""The areas that `make bench` measures, one module each, and what each can be asked for.

An area's module has `measure(rounds, quick)`, which starts what it needs, measures, stops everything and returns
figures. It is imported only when it is measured.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.figures import Figure

    Measure = Callable[[int, bool], list[Figure]]


@dataclass(frozen=True, slots=True)
class Area:
    """What `--only NAME` measures."""

    name: str
    module: str
    about: str
    function: str = "measure"

    def measure(self, rounds: int, quick: bool) -> list[Figure]:
        """Measure it."""
        function: Measure = getattr(importlib.import_module(self.module), self.function)
        return function(rounds, quick)


AREAS = (
    Area("postgresql", "tests.bench.delivering", "stream to recorded on PostgreSQL"),
    Area("slow-receiver", "tests.bench.delivering", "the same, receiver takes 50 ms", "measure_slow_receiver"),
    Area("sqlite", "tests.bench.delivering", "the same on SQLite, the embedded default", "measure_sqlite"),
    Area("latency", "tests.bench.delivering", "POST to arrival at 20 events/s", "measure_latency"),
    Area("spread", "tests.bench.spread", "1 to 10,000 webhooks: rate and CPU of a delivery"),
    Area("floor", "tests.bench.floor", "CPU that a delivery needs by bare loops, over the whole system's: 1 and 1,000"),
    Area("spread-sqlite", "tests.bench.spread", "1 and 1,000 webhooks on SQLite", "measure_sqlite"),
    Area("spread-latency", "tests.bench.crowded", "POST to arrival over 1,000 webhooks", "measure_latency_of_many"),
    Area("spread-fan-out", "tests.bench.crowded", "one event fires 200 automations on 200 webhooks", "measure_fan_out"),
    Area("spread-hostile", "tests.bench.crowded", "p99 beside 50 hostile webhooks of 1,000", "measure_hostile"),
    Area("retries", "tests.bench.crowded", "100,000 deliveries due at once over 1,000 webhooks", "measure_retries"),
    Area("isolation", "tests.bench.isolation", "p99 beside 20 hostile endpoints over p99 without them"),
    Area("strangers", "tests.bench.strangers", "p99 and memory beside a member who does their worst, over quiet"),
    Area("evaluation", "tests.bench.evaluation", "events evaluated a core: no match, run metrics, matches"),
    Area("growth", "tests.bench.growth", "100,000 automations over 100: rate, reload, memory"),
    Area("fan-out", "tests.bench.fan_out", "30,000 automations of one project that match nothing over 10 such"),
    Area("tenants", "tests.bench.tenants", "10,000 entities with 10 automations each over one with 100,000"),
    Area("runs", "tests.bench.runs", "100,000 watched runs over 100: rate, bytes of a series"),
    Area("publishing", "tests.bench.publishing", "POST /v1/events on one API process"),
    Area("tabs", "tests.bench.tabs", "POST /v1/events beside 100 open pages of the console, over without them"),
    Area("scale", "tests.bench.scale", "1, 2 and 4 workers: CPU of a delivery by role, connections, memory"),
    Area("footprint", "tests.bench.footprint", "bytes of an event in Valkey, of a delivery in PostgreSQL"),
    Area("backlog", "tests.faults.backlog", "1,000,000 events in one partition: memory, fresh events elsewhere"),
    Area("lists", "tests.bench.lists", "p95 of each list: 1,000,000 deliveries, 5,000 automations, 1,000 webhooks"),
    Area("soak", "tests.bench.soak", "five minutes at a steady 1,000/s with retention on: drift over tenths, bloat"),
    Area("volume", "tests.bench.volume", "a table of 1,000,000 deliveries over an empty one"),
)
BY_NAME = {area.name: area for area in AREAS}
