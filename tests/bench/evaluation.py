"""Events evaluated per CPU second of a worker: matching nothing, run metrics with watched series, firing deliveries.

The rival is the loop that anyone writes first: `json.loads`, then every automation in turn with `re`. The limits are
the parts that no evaluation can do without: reading the stream, and decoding JSON.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import orjson
from sqlalchemy import func, select

from shared.domain.events.partitioning import START
from shared.messaging.streams import read_after
from shared.storage.schema.tables import deliveries
from tests.bench import watched
from tests.bench.events import ALIAS_PATTERN, EVENT_TYPE, PAYLOAD, PROJECT, make_events
from tests.bench.figures import Figure
from tests.bench.workbench import Workbench, workbench

if TYPE_CHECKING:
    from collections.abc import Callable

AREA = "evaluation"
AUTOMATIONS = 1000
EVENTS = 20_000
UNIT = "events/s a core"
FIRING = {
    "name": "deploy-production",
    "event": EVENT_TYPE,
    "scope": {"project": PROJECT},
    "filter": {"alias": {"$regex": ALIAS_PATTERN}},
    "action": {"webhook": "hook", "payload": PAYLOAD},
}


def measure(rounds: int, quick: bool) -> list[Figure]:
    """All figures of this area."""
    count = EVENTS // 40 if quick else EVENTS
    warm_up = count // 10
    with workbench() as bench:
        entity_id = bench.entity(watched.ENTITY)
        hook = bench.webhook(entity_id)
        bench.define(entity_id, watched.automations(AUTOMATIONS), webhook_id=hook)
        bench.define(entity_id, [watched.metric_automation()], webhook_id=hook)
        idle = _idle(bench, rounds, count, warm_up)
        metrics = _metrics(bench, rounds, count)
        limits = _limits(bench, rounds)
        bench.define(entity_id, [FIRING], webhook_id=hook)
        firing = _firing(bench, rounds, count // 2, warm_up)
    return [
        Figure(
            AREA,
            f"events that match nothing, {AUTOMATIONS:,} automations",
            UNIT,
            idle,
            at_least=40_000,
            against="json.loads, and re in a loop",
            reference=_naive(rounds, count // 20),
        ),
        *limits,
        Figure(AREA, f"run metrics, {watched.RUNS} series of {watched.WINDOW}", UNIT, metrics, at_least=15_000),
        Figure(AREA, "events that fire a delivery each", UNIT, firing, at_least=14_000),
    ]


def _idle(bench: Workbench, rounds: int, count: int, warm_up: int) -> tuple[float, ...]:
    projects = AUTOMATIONS // watched.PER_PROJECT
    bench.publish(watched.events("warm", warm_up, projects=projects))
    bench.evaluate()
    rates = []
    for number in range(rounds):
        bench.publish(watched.events(f"idle-{number}", count, projects=projects))
        rates.append(_rate(bench, count))
    return tuple(rates)


def _metrics(bench: Workbench, rounds: int, count: int) -> tuple[float, ...]:
    """The windows of all series are full before the first round."""
    warm = watched.RUNS * watched.WINDOW
    bench.publish(watched.samples("warm-metric", warm, first_step=0))
    bench.evaluate()
    rates, step = [], warm // watched.RUNS
    for number in range(rounds):
        bench.publish(watched.samples(f"metric-{number}", count, first_step=step))
        step += count // watched.RUNS
        rates.append(_rate(bench, count))
    return tuple(rates)


def _firing(bench: Workbench, rounds: int, count: int, warm_up: int) -> tuple[float, ...]:
    """Every event fires: its payload is rendered, and its delivery inserted."""
    bench.process.automations.invalidate()
    bench.publish(make_events("warm-firing", warm_up))
    bench.evaluate()
    rates = []
    for number in range(rounds):
        bench.publish(make_events(f"firing-{number}", count))
        rates.append(_rate(bench, count))
    expected = warm_up + rounds * count
    if (made := bench.scalar(select(func.count()).select_from(deliveries))) != expected:
        raise RuntimeError(f"{made} of {expected} deliveries were made")
    return tuple(rates)


def _rate(bench: Workbench, count: int) -> float:
    evaluated, seconds = bench.evaluate()
    if evaluated != count:
        raise RuntimeError(f"{evaluated} of {count} events were evaluated")
    return evaluated / seconds


def _limits(bench: Workbench, rounds: int) -> list[Figure]:
    batch = bench.settings.evaluate_batch
    entries = read_after(bench.process.redis, 0, START, batch)
    reads = _timed(rounds, lambda: read_after(bench.process.redis, 0, START, batch), len(entries))
    decodes = _timed(rounds, lambda: [orjson.loads(entry.body or b"") for entry in entries], len(entries))
    return [
        Figure(AREA, "limit: only reading the stream", UNIT, reads),
        Figure(AREA, "limit: only decoding, orjson", UNIT, decodes),
    ]


def _timed(rounds: int, work: Callable[[], object], count: int, repeats: int = 20) -> tuple[float, ...]:
    rates = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(repeats):
            work()
        rates.append(count * repeats / (time.process_time() - began))
    return tuple(rates)


def _naive(rounds: int, count: int) -> tuple[float, ...]:
    bodies = [orjson.dumps(one) for one in watched.events("naive", count, projects=AUTOMATIONS // watched.PER_PROJECT)]
    patterns = [
        (raw["event"], raw["scope"]["project"], re.compile("^prod(uction)?$"))
        for raw in watched.automations(AUTOMATIONS)
    ]

    def loop() -> int:
        found = 0
        for body in bodies:
            event = json.loads(body)
            data = event["data"]
            for event_type, project, pattern in patterns:
                if event["type"] == event_type and data["project"] == project:
                    found += pattern.search(data.get("alias", "")) is not None
        return found

    return _timed(rounds, loop, count, repeats=1)
