"""Draws events a second over the number of automations of one project, none of which match: `python -m
tests.bench.fan_out_plot PATH`.

Matching alone, with decoding, in this process: no servers, no commits. Beside it stands what testing every automation
would do, as evaluation does in small scopes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from matplotlib import figure as canvas

from shared.domain.automations.model import Grants
from shared.domain.automations.parsing import parse_automation
from shared.domain.events.fast_decoding import read_event
from shared.domain.filters.budget import FilterBudget
from shared.domain.matching import scope_groups
from shared.domain.matching.compiled import compile_automation
from shared.domain.matching.index import AutomationIndex
from tests.bench import watched
from tests.bench.fan_out import KINDS, definitions, events

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZES = (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)
LEAST_SECONDS = 0.2
ROUNDS = 3


def main(path: Path) -> None:
    """Measure and draw."""
    picture = canvas.Figure(figsize=(8, 5), layout="constrained")
    axes = picture.subplots()
    for kind in KINDS:
        print(kind, "found by clues", found := [_rate(kind, size) for size in SIZES], flush=True)
        axes.plot(SIZES, found, marker="o", label=f"by {kind}")
    usual = scope_groups.MANY
    scope_groups.MANY = sys.maxsize
    try:
        print("each tested", tested := [_rate("mixed", size) for size in SIZES], flush=True)
    finally:
        scope_groups.MANY = usual
    axes.plot(SIZES, tested, marker="x", linestyle="--", color="grey", label="mixed, each tested")
    axes.set(xscale="log", yscale="log", xlabel="automations of the project", ylabel="events/s a core, matching alone")
    axes.set_title("Events that match none of a project's automations")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, dpi=110)


def _rate(kind: str, size: int) -> float:
    """The best round, as this process may share its core."""
    index = AutomationIndex()
    for number, raw in enumerate(definitions(kind, size)):
        automation = parse_automation(raw, lambda _name: Grants())
        index.put(
            compile_automation(
                automation, automation_id=number, entity_id=1, entity=watched.ENTITY, epoch=1, webhook_id=1
            )
        )
    bodies = [orjson.dumps(event) for event in events("plot", kind, size, 4_000)]
    _seconds(index, bodies[:1])
    once = _seconds(index, bodies[1:3]) / 2
    count = max(5, min(1_000, int(LEAST_SECONDS / once)))
    return max(count / _seconds(index, bodies[round_ * count : (round_ + 1) * count]) for round_ in range(ROUNDS))


def _seconds(index: AutomationIndex, bodies: Sequence[bytes]) -> float:
    budget = FilterBudget()
    began = time.process_time()
    with budget.applied():
        for body in bodies:
            if next(index.matching(read_event(body), budget, []), None) is not None:
                raise RuntimeError("an event matched that must not")
    return time.process_time() - began


if __name__ == "__main__":
    main(Path(sys.argv[1]))
