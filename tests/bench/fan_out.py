"""Many automations of one project, and events that match none of them: by what filters ask for, and how many there are.

All are known to one worker; the sizes take their rounds in turn. No value repeats, so no answer that is remembered
flatters either size.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import func, select, update

from shared.domain.events.fast_decoding import read_event
from shared.domain.filters.budget import FilterBudget
from shared.storage.database.transactions import write_transaction
from shared.storage.definitions.revisions import next_revision
from shared.storage.schema.tables import automations
from tests.bench import watched
from tests.bench.figures import Figure
from tests.bench.workbench import Workbench, workbench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AREA = "fan-out"
FEW = 10
SIZES = {3_000: 0.5, 30_000: 0.3}
"""How many automations, and the share of the rate with few that must be left."""
EVENTS = 4_000
EDITS = 5
UNIT = "events/s a core"
Json = dict[str, Any]

KINDS: dict[str, Callable[[int], Json]] = {
    "equality": lambda number: {"alias": f"release-{number}"},
    "pattern": lambda number: {"alias": {"$regex": f"^x-{number}-"}},
    "bound": lambda number: {"metadata.val_accuracy": {"$gt": 1 + number}},
}
_OTHERS: tuple[Callable[[int], Json], ...] = (
    *KINDS.values(),
    lambda number: {"alias": {"$regex": f"team-{number}-(dev|prod)$"}},
    lambda number: {"artifact_type": "model", "alias": {"$in": [f"champion-{number}", f"winner-{number}"]}},
    lambda number: {f"metadata.gate-{number}": {"$gte": 1}, "author": "alice"},
    lambda number: {"metadata.val_accuracy": {"$gte": 2 + number, "$lt": 3 + number}},
    lambda number: {"$or": [{"tags": f"golden-{number}"}, {"alias": {"$contains": f"-{number}-"}}]},
)
KINDS["mixed"] = lambda number: _OTHERS[number % len(_OTHERS)](number)


def measure(rounds: int, quick: bool) -> list[Figure]:
    """All figures of this area."""
    count = EVENTS // 10 if quick else EVENTS
    sizes = {size // 10 if quick else size: least for size, least in SIZES.items()}
    rates: dict[tuple[str, int], list[float]] = {}
    with workbench() as bench:
        entity_id = bench.entity(watched.ENTITY)
        hook = bench.webhook(entity_id)
        for kind in KINDS:
            for size in (FEW, *sizes):
                bench.define(entity_id, definitions(kind, size), webhook_id=hook)
                bench.publish(events(f"warm-{kind}-{size}", kind, size, 20))
        bench.evaluate()
        for number in range(rounds):
            for kind in KINDS:
                for size in (FEW, *sizes):
                    bench.publish(events(f"{number}-{kind}-{size}", kind, size, count))
                    evaluated, seconds = bench.evaluate()
                    if evaluated != count:
                        raise RuntimeError(f"{evaluated} of {count} events were evaluated")
                    rates.setdefault((kind, size), []).append(evaluated / seconds)
        reloads = [_reload_seconds(bench, number, max(sizes)) * 1000 for number in range(EDITS)]
    figures = [
        Figure(
            AREA,
            f"{size:,} automations of a project by {kind}, none matching",
            UNIT,
            tuple(rates[kind, size]),
            against=f"{FEW} automations",
            reference=tuple(rates[kind, FEW]),
            ratio_at_least=least,
        )
        for kind in KINDS
        for size, least in sizes.items()
    ]
    label = f"reload after one edit, and the next event of its project of {max(sizes):,}"
    return [*figures, Figure(AREA, label, "ms", tuple(reloads), at_most=50)]


def definitions(kind: str, size: int) -> Iterator[Json]:
    """That many automations of one kind, in a project of their own."""
    for number in range(size):
        yield {
            "name": f"{kind}-{size}-{number}",
            "event": "ADD_ARTIFACT_ALIAS",
            "scope": {"project": f"{kind}-{size}"},
            "filter": KINDS[kind](number),
            "action": {"webhook": "hook", "payload": {"version": "${artifact_version_string}"}},
        }


def events(label: str, kind: str, size: int, count: int) -> list[Json]:
    """Events of that project, which none of its automations matches."""
    made = watched.events(label, 2 * count, projects=1)
    added = [event for event in made if event["type"] == "ADD_ARTIFACT_ALIAS"]
    for number, event in enumerate(added):
        event["data"] |= {"project": f"{kind}-{size}", "alias": f"nightly-{label}-{number}"}
        event["data"]["artifact"]["metadata"]["val_accuracy"] = (number + 1) / (count + 2)
    return added


def _reload_seconds(bench: Workbench, number: int, size: int) -> float:
    """From an edit that is committed to the first event of its project that was matched with it."""
    edited = bench.scalar(select(func.max(automations.c.id)))
    with write_transaction(bench.process.engine) as connection:
        edit = update(automations).where(automations.c.id == edited)
        revision = next_revision(connection)
        # Another epoch makes it another edition, which is read, compiled and looked up anew.
        connection.execute(edit.values(revision=revision, epoch=revision))
    event = read_event(orjson.dumps(events(f"edit-{number}", "mixed", size, 1)[0]))
    budget = FilterBudget()
    bench.process.automations.invalidate()
    began = time.perf_counter()
    with budget.applied():
        matched = list(bench.process.automations.current().matching(event, budget, []))
    seconds = time.perf_counter() - began
    assert not matched
    return seconds
