"""When a run started again: from then on it may log steps that it has logged before.

A run starts with each `RUN_STATE running` event that is not a repeat: a job that was preempted goes on from its last
checkpoint. A repeat, by source and id, is no start; so a heartbeat may be the same event again.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from shared.domain.errors import UnreadableState
from shared.domain.events.partitioning import subject_key
from shared.domain.events.types import EventType, RunPhase

MAX_REMEMBERED = 16
"""How many starts of a run are known again when their events are repeated."""
NO_START = 0


class _Event(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def type(self) -> EventType: ...
    @property
    def data(self) -> Any: ...


def event_token(event: _Event) -> int:
    """A number of 32 bits, never 0, that stands for an event: the same for the same source and id."""
    return zlib.crc32(f"{event.source}\0{event.id}".encode()) or 1


def is_start(event: _Event) -> bool:
    """Whether an event says that its run starts."""
    return event.type == EventType.RUN_STATE and event.data.state == RunPhase.RUNNING


@dataclass(frozen=True, slots=True)
class RunStarts:
    """The starts of one run, as tokens of their events, oldest first."""

    tokens: tuple[int, ...] = ()

    @property
    def last(self) -> int:
        """The newest start; `NO_START` when none is known."""
        return self.tokens[-1] if self.tokens else NO_START

    def after(self, event: _Event) -> RunStarts:
        """The starts with one more, or the same when the event is a repeat."""
        token = event_token(event)
        return self if token in self.tokens else RunStarts((*self.tokens, token)[-MAX_REMEMBERED:])

    def to_bytes(self) -> bytes:
        """The tokens as little-endian numbers of 32 bits."""
        return struct.pack(f"<{len(self.tokens)}I", *self.tokens)

    @classmethod
    def from_bytes(cls, data: bytes) -> RunStarts:
        """Read what `to_bytes` wrote. Raises `UnreadableState`."""
        try:
            return cls(struct.unpack(f"<{len(data) // 4}I", data))
        except struct.error as error:
            raise UnreadableState("damaged starts of a run") from error


class KnownStarts:
    """The starts of several runs, by subject key. It belongs to one thread."""

    def __init__(self, known: Mapping[str, RunStarts] | None = None) -> None:
        self._of = dict(known or {})

    def note(self, event: _Event) -> str | None:
        """Add the start that an event tells of. Returns the key of its run; None when it tells of none, or again."""
        if not is_start(event):
            return None
        key = subject_key(event)
        before = self.of(key)
        self._of[key] = after = before.after(event)
        return None if after is before else key

    def of(self, key: str) -> RunStarts:
        """The starts of a run."""
        return self._of.get(key, _NONE)


_NONE = RunStarts()
