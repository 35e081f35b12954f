"""Finding kept events by what they are about, newest first, within bounds of entries and bytes for each search."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum

from shared.domain.errors import InvalidDefinition
from shared.domain.events.fast_decoding import AnyEvent, read_event
from shared.domain.events.types import EventType
from shared.dry_runs.kept_entries import KeptEntries, KeptEntry, Position

MAX_SCANNED = 20_000
"""The most entries that one search looks at; the next one goes on from there."""
MAX_SCANNED_BYTES = 64 << 20
"""The most bytes of bodies that one search looks at, for the same reason; they are not kept."""
MAX_SOUGHT = 100_000
"""The most entries that the search for one event's id looks at. Most of them are not decoded."""
MAX_SOUGHT_BYTES = 256 << 20


class EntryKind(StrEnum):
    """What an entry of a stream is."""

    EVENT = "event"
    #: An event of an entity that does not exist: nothing comes of it.
    UNKNOWN_ENTITY = "unknown_entity"
    #: No valid event.
    POISON = "poison"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCriteria:
    """What wanted events are about; None stands for anything."""

    type: EventType | None = None
    project: str | None = None
    run: str | None = None
    collection: str | None = None
    author: str | None = None
    source: str | None = None
    id: str | None = None

    def needles(self) -> list[bytes]:
        """Texts that the JSON of each wanted event contains, if it has no escapes."""
        wanted = (self.project, self.run, self.collection, self.author, self.source, self.id)
        return [text.encode() for text in wanted if text is not None]

    def wants(self, event: AnyEvent) -> bool:
        """Whether an event is one of these, whatever its entity."""
        data = event.data
        return (
            self.type in (None, event.type)
            and self.id in (None, event.id)
            and self.source in (None, event.source)
            and self.author in (None, data.author)
            and self.project in (None, getattr(data, "project", None))
            and self.run in (None, getattr(getattr(data, "run", None), "id", None))
            and self.collection in (None, getattr(getattr(data, "collection", None), "name", None))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which entries are wanted: whose, of which kind, and about what."""

    criteria: EventCriteria = EventCriteria()
    entities: Collection[str] | None = None
    """The entities whose events are wanted; None for those of all."""
    kind: EntryKind | None = EntryKind.EVENT
    known: Collection[str] = ()
    """The entities that exist; needed where others are told from them."""


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """An entry that was found."""

    position: Position
    kind: EntryKind
    body: bytes
    event: AnyEvent | None
    """None for poison."""
    reason: str | None
    """Why it is no event."""


class EventSearch:
    """One search. It belongs to one thread; what it looked at is counted as it goes."""

    def __init__(
        self, wanted: EventFilter, *, max_entries: int = MAX_SCANNED, max_bytes: int = MAX_SCANNED_BYTES
    ) -> None:
        self._wanted = wanted
        self._needles = wanted.criteria.needles()
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self.scanned = 0
        """How many entries were looked at."""
        self.bounded = False
        """Whether the search ended at a bound, with entries left."""
        self.last: Position | None = None
        """The last entry that was looked at."""

    def among(self, entries: Iterator[KeptEntry]) -> Iterator[FoundEntry]:
        """Those of these entries that are wanted, as far as the bounds allow."""
        size_bytes = 0
        for entry in entries:
            if self.scanned >= self._max_entries or size_bytes >= self._max_bytes:
                self.bounded = True
                return
            self.scanned += 1
            size_bytes += len(entry.body or b"")
            self.last = entry.position
            found = self._look(entry)
            if found is not None:
                yield found

    def _look(self, entry: KeptEntry) -> FoundEntry | None:
        wanted, body = self._wanted, entry.body or b""
        if self._needles and b"\\" not in body and not all(needle in body for needle in self._needles):
            return None
        try:
            event = read_event(body)
        except InvalidDefinition as exc:
            if wanted.kind in (None, EntryKind.POISON) and wanted.entities is None and not self._needles:
                return FoundEntry(entry.position, EntryKind.POISON, body, None, str(exc))
            return None
        entity = event.data.entity
        kind = EntryKind.EVENT
        if wanted.entities is None:
            kind = EntryKind.EVENT if entity in wanted.known else EntryKind.UNKNOWN_ENTITY
        elif entity not in wanted.entities:
            return None
        if wanted.kind not in (None, kind) or not wanted.criteria.wants(event):
            return None
        return FoundEntry(entry.position, kind, body, event, None)


def find_event(entries: KeptEntries, wanted: EventFilter, *, received_ms: int | None) -> FoundEntry | None:
    """The newest event that is wanted, looked for first where it is known to have come, then from the newest on."""
    if received_ms is not None:
        for found in EventSearch(wanted).among(entries.at(received_ms)):
            return found
    search = EventSearch(wanted, max_entries=MAX_SOUGHT, max_bytes=MAX_SOUGHT_BYTES)
    return next(search.among(entries.backwards(None, 0)), None)
