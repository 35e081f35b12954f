"""`automations explain` between its options and the dry run: what is asked for, and the answer as trees of terms.

A term is green where it held and red where it did not. Works nothing out itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

from rich.text import Text
from rich.tree import Tree

from shared.domain.explain.dry_run import DryRunResult, PageWanted, Wanted
from shared.domain.explain.simulator import DryRunOutcome, Reason
from shared.domain.explain.text import Explanation
from shared.domain.json_text import write_json
from shared.dry_runs.service import DryRunAnswer
from shared.dry_runs.time_range import parse_time_range
from worker.commands.event_files import read_events
from worker.commands.output import print_rich, shown
from worker.operations.automations import ExplainRequest

MARKS = {True: ("✓", "green"), False: ("✗", "red"), None: ("?", "yellow")}
COLOURS = {
    DryRunOutcome.FIRED: "green",
    DryRunOutcome.SKIPPED: "yellow",
    DryRunOutcome.NO_MATCH: "red",
    DryRunOutcome.OUT_OF_SCOPE: "dim",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """Which results are shown, and how many."""

    only: str | None
    reason: str | None
    event_id: str | None
    run: str | None
    collection: str | None
    limit: int


def trial_of(
    event: IO[bytes] | None, since: str | None, until: str | None, shown: Shown, *, with_state: bool, today: bool
) -> ExplainRequest:
    """What the options ask for: the events of a file, or else a span. Raises InvalidDefinition."""
    source = parse_time_range(since, until, datetime.now(UTC)) if event is None else read_events(event.read())
    wanted = Wanted(
        only=None if shown.only is None else DryRunOutcome(shown.only),
        reason=None if shown.reason is None else Reason(shown.reason),
        event_id=shown.event_id,
        run=shown.run,
        collection=shown.collection,
        same_type=event is None,
    )
    page = PageWanted(limit=shown.limit, newest_first=event is None, wanted=wanted)
    return ExplainRequest(source, with_state, page, today)


def print_answer(automation: str, answer: DryRunAnswer) -> None:
    """Print every result as a tree, and the counts as the last line."""
    print_rich(*(_tree(result) for result in answer.results))
    counts = answer.summary
    line = f"{automation}: of {counts.events} events {counts.in_scope} in scope, {counts.matched} matched"
    fired, skipped = ("fired", "were skipped") if answer.judged_by == "past" else ("would fire", "would be skipped")
    print_rich(shown(f"{line}, {counts.fired} {fired}, {counts.skipped} {skipped}"))
    if answer.next is not None:
        print_rich(shown(f"{len(answer.results)} of them shown; for more see --only and --limit", style="dim"))
    if answer.truncated and answer.read_until is not None:
        until = answer.read_until.isoformat()
        print_rich(shown(f"stopped early, after events received at {until}: continue with --since", style="yellow"))


def _tree(result: DryRunResult) -> Tree:
    colour = COLOURS[result.outcome]
    why = "" if result.reason is None else f" ({result.reason})"
    head = Text.assemble((f"{result.outcome}{why}", colour), shown(f"  {result.event.type} {result.event.id}"))
    tree = Tree(head, guide_style="dim")
    for term in result.explanation.terms:
        _add(tree, term, result.decisive)
    if result.recorded is not None:
        tree.add(shown(f"delivery {result.recorded.delivery}: {result.recorded.status}", style="bold"))
    for note in result.notes:
        tree.add(shown(f"note: {note}", style="yellow"))
    if result.payload is not None:
        tree.add(shown(f"payload {write_json(result.payload).decode()}", style="dim"))
    return tree


def _add(tree: Tree, term: Explanation, decisive: tuple[Explanation, ...]) -> None:
    mark, colour = MARKS[term.held]
    text = Text.assemble((mark, colour), shown(f" {term.text}"))
    if term.value is not None and not term.terms:
        value = json.dumps(term.value, ensure_ascii=False)
        text.append(shown(f"  ← {value}", "bold" if term in decisive else "dim"))
    branch = tree.add(text)
    for inner in term.terms:
        _add(branch, inner, decisive)
