"""What 100,000 automations cost over 100: events a second, the reload after one edit, memory for each.

Each size is measured in a worker process of its own. Every automation is met by events before memory is read, so that
what is only made when first needed is counted. An event meets as many automations in either size: what grows is how
many there are elsewhere.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
from typing import TYPE_CHECKING

import psutil
from cryptography.fernet import Fernet
from sqlalchemy import func, select, update

from shared.settings import Settings, load_settings
from shared.storage.database.transactions import write_transaction
from shared.storage.definitions.revisions import next_revision
from shared.storage.schema.tables import automations
from tests.bench import watched
from tests.bench.figures import Figure
from tests.bench.workbench import Workbench, workbench

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection

AREA = "growth"
SMALL, LARGE = 100, 100_000
EVENTS = 10_000
EDITS = 5
PASSED_ON = {"data_dir", "redis_url", "broker_url", "database_url", "partitions", "log_level"}
Measured = dict[str, list[float]]


def measure(rounds: int, quick: bool) -> list[Figure]:
    """All figures of this area."""
    large = LARGE // 10 if quick else LARGE
    few, _ = _sized(SMALL, rounds, quick)
    many, text_bytes = _sized(large, rounds, quick)
    beyond = [(grown - text_bytes) / large for grown in many["memory"]]
    label = f"{large:,} automations"
    return [
        Figure(
            AREA,
            f"events that match nothing, {label}",
            "events/s a core",
            tuple(many["rate"]),
            against=f"{SMALL} automations",
            reference=tuple(few["rate"]),
            ratio_at_least=0.5,
        ),
        Figure(AREA, f"reload after one edit, {label}", "ms", tuple(many["reload"]), at_most=50),
        Figure(AREA, "memory of an automation beyond its text", "bytes", tuple(beyond), at_most=1024),
        Figure(AREA, "text of an automation", "bytes", (text_bytes / large,)),
        Figure(AREA, f"first load, {label}", "s", tuple(many["load"])),
    ]


def _sized(count: int, rounds: int, quick: bool) -> tuple[Measured, int]:
    """The figures of a worker with `count` automations, and the bytes of their texts."""
    with workbench() as bench:
        entity_id = bench.entity(watched.ENTITY)
        hook = bench.webhook(entity_id)
        text_bytes = bench.define(entity_id, watched.automations(count), webhook_id=hook)
        settings = bench.settings.model_dump(include=PASSED_ON)
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        child = context.Process(target=_child, args=(there, settings, count, rounds, quick))
        child.start()
        there.close()
        try:
            measured: Measured = here.recv()
        finally:
            child.join()
    return measured, text_bytes


def _child(pipe: Connection, values: Mapping[str, object], count: int, rounds: int, quick: bool) -> None:
    bench = Workbench(worker_settings(values))
    measured: Measured = {"rate": [], "memory": [], "reload": [], "load": []}
    before = _memory_bytes()
    began = time.perf_counter()
    assert len(bench.process.automations.current()) == count
    measured["load"].append(time.perf_counter() - began)
    projects = max(1, count // watched.PER_PROJECT)
    # Four event types take turns, so that each project sees each of them.
    for start in range(0, projects * 4, EVENTS):
        bench.publish(watched.events(f"meet-{start}", min(EVENTS, projects * 4 - start), projects=projects))
        bench.evaluate()
    measured["memory"].append(float(_memory_bytes() - before))
    for number in range(rounds):
        events = EVENTS // 10 if quick else EVENTS
        bench.publish(watched.events(f"round-{number}", events, projects=projects))
        evaluated, seconds = bench.evaluate()
        assert evaluated == events
        measured["rate"].append(evaluated / seconds)
    for _ in range(EDITS):
        measured["reload"].append(reload_seconds(bench) * 1000)
    bench.process.close()
    pipe.send(measured)


def worker_settings(values: Mapping[str, object]) -> Settings:
    """The settings of a worker, from those of `PASSED_ON`."""
    return load_settings(**values, secret_keys=Fernet.generate_key().decode())


def _memory_bytes() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def reload_seconds(bench: Workbench) -> float:
    """From an edit that is committed to an index that has it."""
    index = bench.process.automations.current()
    edited = bench.scalar(select(func.max(automations.c.id)))
    with write_transaction(bench.process.engine) as connection:
        edit = update(automations).where(automations.c.id == edited)
        revision = next_revision(connection)
        # Of another epoch it is another edition, and not one that is known.
        connection.execute(edit.values(revision=revision, epoch=revision))
    bench.process.automations.invalidate()
    began = time.perf_counter()
    assert bench.process.automations.current() is not index
    return time.perf_counter() - began
