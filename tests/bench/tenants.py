"""10,000 entities with ten automations each over one entity with as many: events a second, memory, reload after edits.

The automations are the same, in as many projects; only the entity is each project's own. Each is measured in a worker
process of its own, in turn. Every project is met by events before memory is read.
"""

from __future__ import annotations

import gc
import multiprocessing
from typing import TYPE_CHECKING, Any

import psutil

from tests.bench import watched
from tests.bench.figures import Figure
from tests.bench.growth import PASSED_ON, reload_seconds, worker_settings
from tests.bench.workbench import Workbench, workbench

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from multiprocessing.connection import Connection

AREA = "tenants"
TENANTS = 10_000
EACH = 10
EVENTS = 10_000
EDITS = 5
Json = dict[str, Any]
Measured = dict[str, list[float]]


def measure(rounds: int, quick: bool) -> list[Figure]:
    """All figures of this area."""
    tenants = TENANTS // 10 if quick else TENANTS
    many = _measured([f"team-{number}" for number in range(tenants)], tenants, rounds)
    one = _measured([watched.ENTITY], tenants, rounds)
    label = f"{tenants:,} entities with {EACH} automations each"
    return [
        Figure(
            AREA,
            f"events that match nothing, {label}",
            "events/s a core",
            tuple(many["rate"]),
            against=f"one entity with {tenants * EACH:,}",
            reference=tuple(one["rate"]),
            ratio_at_least=0.8,
        ),
        Figure(AREA, f"memory of a worker, {label}", "MiB", tuple(many["memory"]), at_most=300),
        Figure(AREA, f"reload after one edit, {label}", "ms", tuple(many["reload"]), at_most=50),
    ]


def _measured(entities: Sequence[str], projects: int, rounds: int) -> Measured:
    """The figures of a worker whose automations are spread over these entities in turn."""
    with workbench() as bench:
        _define(bench, entities, projects)
        settings = bench.settings.model_dump(include=PASSED_ON)
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        child = context.Process(target=_child, args=(there, settings, entities, projects, rounds))
        child.start()
        there.close()
        try:
            measured: Measured = here.recv()
        finally:
            child.join()
    return measured


def _define(bench: Workbench, entities: Sequence[str], projects: int) -> None:
    ids = bench.entities(entities)
    hook = bench.webhook(ids[0])
    definitions = list(watched.automations(projects * EACH))
    for number, one in enumerate(definitions):
        one["scope"] = {"project": watched.project(number // EACH)}
    owned = ((ids[number // EACH % len(ids)], one) for number, one in enumerate(definitions))
    bench.define_each(owned, webhook_id=hook)


def _events(label: str, count: int, entities: Sequence[str], projects: int, *, first: int = 0) -> list[Json]:
    made = watched.events(label, count, projects=projects)
    for number, event in enumerate(made):
        project = (first + number) * 7919 % projects
        event["data"] |= {"entity": entities[project % len(entities)], "project": watched.project(project)}
    return made


def _child(pipe: Connection, values: Mapping[str, object], entities: Sequence[str], projects: int, rounds: int) -> None:
    bench = Workbench(worker_settings(values))
    measured: Measured = {"rate": [], "memory": [], "reload": []}
    # Four event types take turns, so that each project sees each of them.
    for turn in range(4):
        bench.publish(_events(f"meet-{turn}", projects, entities, projects, first=turn))
        bench.evaluate()
    gc.collect()
    measured["memory"].append(psutil.Process().memory_info().rss / 2**20)
    for number in range(rounds):
        bench.publish(_events(f"round-{number}", EVENTS, entities, projects))
        evaluated, seconds = bench.evaluate()
        assert evaluated == EVENTS
        measured["rate"].append(evaluated / seconds)
    measured["reload"] += [reload_seconds(bench) * 1000 for _ in range(EDITS)]
    bench.process.close()
    pipe.send(measured)
