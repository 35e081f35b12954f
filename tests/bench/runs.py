"""Run metrics over 100,000 runs that are watched at the same time, over 100: events a second, bytes of a series.

Windows are full before the first round: they are stored as evaluation stores them.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, text

from shared.domain.conditions.windows import Series, WindowState
from shared.storage.database.transactions import write_transaction
from shared.storage.evaluation.windows import save_windows
from shared.storage.schema.tables import automations
from tests.bench import watched
from tests.bench.figures import Figure
from tests.bench.workbench import Workbench, workbench

if TYPE_CHECKING:
    from collections.abc import Iterator

AREA = "runs"
FEW, MANY = 100, 100_000
EVENTS = 20_000
ROWS = 2_000
Json = dict[str, Any]


def measure(rounds: int, quick: bool) -> list[Figure]:
    """All figures of this area."""
    many = MANY // 10 if quick else MANY
    events = EVENTS // 10 if quick else EVENTS
    rates: dict[int, list[float]] = {FEW: [], many: []}
    with workbench() as bench:
        entity_id = bench.entity(watched.ENTITY)
        bench.define(entity_id, [watched.metric_automation()], webhook_id=bench.webhook(entity_id))
        automation_id, epoch = _only_automation(bench)
        empty = _table_bytes(bench)
        for start in range(0, many, ROWS):
            with write_transaction(bench.process.engine) as connection:
                save_windows(connection, list(_windows(automation_id, epoch, range(start, min(many, start + ROWS)))))
        stored = (_table_bytes(bench) - empty) / many
        draw = random.Random(1)
        for number in range(-1, rounds):  # the first warms up
            for runs, found in rates.items():
                bench.publish(_samples(f"{number}-{runs}", events, runs, draw, step=watched.WINDOW * (number + 2)))
                evaluated, seconds = bench.evaluate()
                if evaluated != events:
                    raise RuntimeError(f"{evaluated} of {events} events were evaluated")
                if number >= 0:
                    found.append(evaluated / seconds)
        churned = (_table_bytes(bench) - empty) / many
    return [
        Figure(
            AREA,
            f"run metrics over {many:,} runs, windows of {watched.WINDOW}",
            "events/s a core",
            tuple(rates[many]),
            against=f"over {FEW} runs",
            reference=tuple(rates[FEW]),
            ratio_at_least=0.5,
        ),
        Figure(AREA, "a watched series in PostgreSQL, with its indexes", "bytes", (stored,), at_most=400),
        Figure(AREA, "the same after the rounds", "bytes", (churned,)),
    ]


def _only_automation(bench: Workbench) -> tuple[int, int]:
    with bench.process.engine.connect() as connection:
        row = connection.execute(select(automations.c.id, automations.c.epoch)).one()
    return row.id, row.epoch


def _table_bytes(bench: Workbench) -> int:
    return int(bench.scalar(select(func.pg_total_relation_size(text("'metric_windows'")))))


def _windows(automation_id: int, epoch: int, runs: range) -> Iterator[Json]:
    draw = random.Random(runs.start)
    for run in runs:
        values = [draw.random() for _ in range(watched.WINDOW)]
        state = WindowState([False], {"loss": Series(watched.WINDOW - 1, values)})
        yield {
            "automation_id": automation_id,
            "key": f"{watched.ENTITY}/training/run:run-{run}",
            "epoch": epoch,
            "windows": state.to_bytes(),
            "last_fired_ms": None,
            "recent_firings": None,
            "updated_at": datetime.now(UTC),
        }


def _samples(label: str, count: int, runs: int, draw: random.Random, *, step: int) -> list[Json]:
    """Events of runs by chance, so that runs of a batch are spread over the table."""
    made = watched.samples(label, count, first_step=step)
    for number, event in enumerate(made):
        event["data"]["run"]["id"] = f"run-{draw.randrange(runs)}"
        event["data"]["step"] = step + number
        event["data"]["metrics"]["loss"] = draw.random()
    return made
