"""One batch of stream entries, decoded and matched. Must not look at anything stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.domain.errors import InvalidDefinition
from shared.domain.events.fast_decoding import AnyEvent, read_event
from shared.domain.matching.compiled import CompiledAutomation
from shared.domain.matching.index import AutomationIndex
from shared.messaging.streams import Entry
from shared.storage.definitions.catalog import CatalogNames
from shared.storage.evaluation.poison import PoisonEntry
from worker.evaluation.catalog_discovery import catalog_entry_of


def match_entries(entries: Sequence[Entry], index: AutomationIndex) -> Batch:
    """Decode entries and find the automations whose scope and filter hold. What is no event becomes poison."""
    batch = Batch(last_id=entries[-1].id, count=len(entries))
    # Looked up once and not for each event: most events match nothing, and this loop is their whole cost.
    types: list[str] = []
    received, names, matches, matching = batch.received_ms, batch.names, batch.matches, index.matching
    for entry in entries:
        try:
            event = read_event(entry.body if entry.body is not None else b"")
        except InvalidDefinition as exc:
            batch.poison.append(PoisonEntry(entry.id, str(exc), entry.body or b""))
            continue
        types.append(str.__str__(event.type))
        received.append(entry.received_ms)
        if learned := catalog_entry_of(event):
            names.add(learned)
        for automation in matching(event):
            matches.append((entry, event, automation))
    batch.types.update(types)
    return batch


@dataclass(slots=True)
class Batch:
    """Entries of a partition, decoded and matched, before any stored state is looked at."""

    last_id: str
    """The id of the last entry, to which the partition's offset moves."""
    count: int
    """How many entries, poison included."""
    matches: list[tuple[Entry, AnyEvent, CompiledAutomation]] = field(default_factory=list)
    """In stream order: what an automation keeps of one event counts for the next."""
    poison: list[PoisonEntry] = field(default_factory=list)
    """Entries that are no events. They are kept apart, so that they hold nothing up."""
    types: Counter[str] = field(default_factory=Counter)
    received_ms: list[int] = field(default_factory=list)
    """When the stream received each event, in Unix milliseconds."""
    names: set[CatalogNames] = field(default_factory=set)
    """The projects and collections that the events name."""
