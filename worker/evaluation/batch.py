"""One batch of stream entries, decoded and matched. Must not look at anything stored."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.domain.conditions.run_starts import is_start
from shared.domain.errors import InvalidDefinition
from shared.domain.events.fast_decoding import AnyEvent, read_event
from shared.domain.events.partitioning import subject_key
from shared.domain.events.types import EventType, RunPhase
from shared.domain.filters.budget import FilterBudget
from shared.domain.matching.compiled import CompiledAutomation
from shared.domain.matching.index import AutomationIndex
from shared.domain.payloads.sealed import MAX_INSERTED_BYTES
from shared.messaging.streams import Entry
from shared.storage.definitions.catalog import CatalogNames
from shared.storage.evaluation.poison import PoisonEntry
from worker.evaluation.catalog_discovery import catalog_entry_of
from worker.evaluation.work_shares import WorkShares

_RUN_STATE = str(EventType.RUN_STATE)
_SIGNS_OF_LIFE = frozenset({str(EventType.RUN_METRIC), str(EventType.RUN_ALERT)})
MAX_MATCHES = 5_000
"""A batch ends soon after its matches pass this: each becomes a row."""
MATCH_SECONDS = 1.0
"""A batch ends soon after this is over, so that its lease lasts and others have their turn."""
LARGE_EVENT_BYTES = 128 << 10
"""Entries beyond this are evaluated alone: decoded, JSON may take more than twenty times its length."""
EFFECT_BYTES = 2 << 20
"""What a batch's events may have in memory beside themselves, as payloads and windows: the batch ends before the event
that would pass it, and an event that alone may pass it is evaluated alone."""


def match_entries(
    entries: Sequence[Entry],
    index: AutomationIndex,
    shares: WorkShares,
    *,
    alone: bool = False,
    watching: bool = False,
) -> Batch:
    """Decode entries and find the automations whose scope and filter hold. What is no event becomes poison.

    Args:
        entries: what comes next; not all of it may fit into one batch.
        index: the automations.
        shares: what the filters of each entity may still cost.
        alone: whether the first entry is taken whatever it makes, and no other. Otherwise a first entry that may make
            more than fits is left out too, and the batch is empty.
        watching: whether it matters when something of a run came.
    """
    batch = Batch(last_id=entries[0].id, count=0)
    # Looked up once and not for each event: most events match nothing, and this loop is their whole cost.
    types: list[str] = []
    runs_seen = batch.runs_seen
    received, names, matches, matching = batch.received_ms, batch.names, batch.matches, index.matching
    budget, refused, clock = FilterBudget(), batch.too_costly, time.monotonic
    deadline = clock() + MATCH_SECONDS
    most_effect_bytes = math.inf if alone else EFFECT_BYTES
    effect_bytes = count = 0
    spenders = shares.spenders
    with budget.applied():
        for number, entry in enumerate(entries[:1] if alone else entries, 1):
            body = entry.body if entry.body is not None else b""
            try:
                event = read_event(body)
            except InvalidDefinition as exc:
                batch.poison.append(PoisonEntry(entry.id, str(exc), body))
                count = number
                continue
            if spenders:
                budget.units = shares.units(event.data.entity)
            for automation in matching(event, budget, refused):
                matches.append((entry, event, automation))
                effect_bytes += automation.effect_bytes
                if automation.large_places:
                    effect_bytes += min(automation.large_places * len(body), MAX_INSERTED_BYTES)
                if effect_bytes > most_effect_bytes:
                    break
            else:
                if budget.spent:
                    shares.spend(event.data.entity, budget.spent)
                    budget.spent = 0
                event_type = str.__str__(event.type)
                types.append(event_type)
                if event_type == _RUN_STATE:
                    batch.note_state(entry, event, index)
                elif watching and event_type in _SIGNS_OF_LIFE:
                    data: Any = event.data
                    runs_seen[data.entity, data.project, data.run.id] = entry.received_ms, event
                received.append(entry.received_ms)
                if learned := catalog_entry_of(event):
                    names.add(learned)
                count = number
                # Not asked at each event: a few are soon matched, whatever they cost.
                if not number & 7 and (len(matches) > MAX_MATCHES or clock() > deadline):
                    break
                continue
            while matches and matches[-1][0] is entry:
                matches.pop()
            break
    if count:
        batch.count, batch.last_id = count, entries[count - 1].id
    batch.effect_bytes = effect_bytes
    batch.types.update(types)
    return batch


def entry_number(entry_id: str) -> int:
    """A number that orders the entries of a partition as their ids do; the first million of a millisecond."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds) << 20 | min(int(number or 0), (1 << 20) - 1)


@dataclass(slots=True)
class Batch:
    """Entries of a partition, decoded and matched, before any stored state is looked at."""

    last_id: str
    """The id of the last entry, to which the partition's offset moves."""
    count: int
    """How many entries, poison included; 0 where the first may take so much that it has to be evaluated alone."""
    matches: list[tuple[Entry, AnyEvent, CompiledAutomation]] = field(default_factory=list)
    """In stream order: what an automation keeps of one event counts for the next."""
    poison: list[PoisonEntry] = field(default_factory=list)
    """Entries that are no events. They are kept apart, so that they hold nothing up."""
    types: Counter[str] = field(default_factory=Counter)
    received_ms: list[int] = field(default_factory=list)
    """When the stream received each event, in Unix milliseconds."""
    effect_bytes: int = 0
    """About how much payloads and windows of the matches take at most."""
    too_costly: list[Any] = field(default_factory=list)
    """Automations whose filters would have taken more work on an event than one may cost; they did not match it."""
    names: set[CatalogNames] = field(default_factory=set)
    """The projects and collections that the events name."""
    starts: list[tuple[int, AnyEvent]] = field(default_factory=list)
    """The events that say that a run starts whose metrics automations watch, each with how many matches came before."""

    runs_seen: dict[tuple[str, str, str], tuple[int, AnyEvent]] = field(default_factory=dict)
    """By entity, project and run, where that matters: when something came of it last, in Unix milliseconds; what."""
    run_states: list[tuple[str, int, int, AnyEvent]] = field(default_factory=list)
    """The states of runs: the run's subject, the order of its entry, when it came, and the event."""

    def note_state(self, entry: Entry, event: Any, index: AutomationIndex) -> None:
        """Keep what a state of a run means for what comes after it."""
        if event.data.state == RunPhase.SILENT:
            return
        self.run_states.append((subject_key(event), entry_number(entry.id), entry.received_ms, event))
        if is_start(event) and index.watches(EventType.RUN_METRIC, event.data.entity, event.data.project):
            self.starts.append((len(self.matches), event))
