"""A request of a run's stream, `POST /files/{entity}/{project}/{run}/file_stream`: what it says, and its events. Pure.

Of its files the history becomes events and the summary is kept; system metrics and the console's lines are dropped.
The form is that of https://github.com/wandb/wandb, `core/internal/filestream/filestreamrequest.go`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Annotated, Any, Final

import msgspec

from dispatcher.wandb_runs.configs import read_summary
from dispatcher.wandb_runs.events import RunEvents, phase_of_exit
from dispatcher.wandb_runs.history import read_line
from shared.domain.errors import InvalidDefinition
from shared.domain.events.fast_decoding import AnyEvent, read_event
from shared.domain.events.limits import MAX_BATCH_EVENTS
from shared.domain.events.types import RunPhase
from shared.domain.json_text import write_json
from shared.storage.definitions.wandb_runs import Streamed

MAX_STREAM_BYTES: Final = 32 << 20
"""The client sends lines of 10 MiB in one request, and JSON in JSON takes some more."""
MAX_LINES: Final = 200_000
BATCH_BYTES: Final = 4 << 20
WRITER_HEADER: Final = "X-WANDB-ASYNC-CLIENT-ID"
"""What a client sends in `mode="shared"`, in which several processes write to one run."""
BEATS: Final = 4
"""How many times in a heartbeat a run says that it runs."""
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class Chunk(msgspec.Struct, frozen=True):
    """Lines of a file, from the one with the number `offset` on."""

    content: Annotated[list[str], msgspec.Meta(max_length=MAX_LINES)] = msgspec.field(default_factory=list)
    offset: _Count = 0


class Files(msgspec.Struct, frozen=True):
    """The files that matter."""

    history: Chunk | None = msgspec.field(default=None, name="wandb-history.jsonl")
    summary: Chunk | None = msgspec.field(default=None, name="wandb-summary.json")


class StreamRequest(msgspec.Struct, frozen=True):
    """A request; without any member it is a beat."""

    files: Files | None = None
    preempting: bool | None = None
    complete: bool | None = None
    exitcode: Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)] | None = None

    @property
    def history(self) -> Chunk:
        """The lines of the history."""
        return (self.files and self.files.history) or Chunk()


_decode: Final = msgspec.json.Decoder(StreamRequest).decode


def read_request(body: bytes) -> StreamRequest:
    """A request from its body. Raises InvalidDefinition."""
    try:
        return _decode(body or b"{}")
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        # Names of members, and what is accepted there: never a value.
        said = str(exc) if isinstance(exc, msgspec.ValidationError) else "is not JSON"
        raise InvalidDefinition.at((), said) from None


def writer_of(header: str) -> str:
    """What stands for one of several processes that write to a run, in ids of events; blank without the header.

    Each process sends a random one of its own (https://github.com/wandb/wandb, `core/internal/sharedmode`).
    """
    return f"w{blake2b(header.encode(), digest_size=8).hexdigest()}" if header else ""


Batch = tuple[list[AnyEvent], list[bytes]]


@dataclass(slots=True)
class Plan:
    """The events of a request, in batches, and what is to be written down once they are published."""

    of: RunEvents
    request: StreamRequest
    heartbeat: timedelta
    now: datetime
    unread_lines: int = 0
    """Lines that are no JSON objects, or whose events nothing could read."""
    _summary: dict[str, Any] | None = field(init=False, default=None)
    _told_at: datetime | None = None
    _last_step: int | None = None
    published_lines: int = 0
    """So many lines of the history are published, as whoever publishes them says."""
    sure_lines: int = field(init=False, default=0)
    """So many lines of the history have all their events in the batches that were given: a repeat may skip them."""
    _at: int = field(init=False, default=0)
    """The line that is being read."""

    def __post_init__(self) -> None:
        chunk = self.request.files and self.request.files.summary
        self._summary = read_summary(chunk.content[-1]) if chunk and chunk.content else None

    @property
    def goes_on(self) -> bool:
        """Whether its lines go on where those that are known end: else they are another process's, and none is known.

        Several writers number their lines each for itself; and a process may not notice that its run began anew.
        """
        chunk = self.request.history
        return bool(chunk.content) and not self.of.writer and chunk.offset <= self.of.run.history_lines

    def batches(self) -> Iterator[Batch]:
        """The events as publishing takes them, made while they are asked for: all of them could be very large."""
        events: list[AnyEvent] = []
        texts: list[bytes] = []
        size_bytes = 0
        for candidate in self._candidates():
            text = write_json(candidate)
            try:
                event = read_event(text)
            except InvalidDefinition:
                self.unread_lines += 1
                continue
            if texts and (len(texts) >= MAX_BATCH_EVENTS or size_bytes + len(text) > BATCH_BYTES):
                self.sure_lines = self._at
                yield events, texts
                events, texts, size_bytes = [], [], 0
            events.append(event)
            texts.append(text)
            size_bytes += len(text)
        if texts:
            self.sure_lines = self._at
            yield events, texts

    def written(self) -> Streamed | None:
        """What to write down after the last batch; None where nothing is new."""
        run, chunk = self.of.run, self.request.history
        if self.request == StreamRequest() and run.streamed and self._told_at is None:
            return None
        return Streamed(
            history_lines=chunk.offset + len(chunk.content) if self.goes_on else run.history_lines,
            last_step=self._last_step,
            summary=self._summary,
            state=self._ends,
            preempting=bool(self.request.preempting),
            told_at=self._told_at or run.told_at,
        )

    def _candidates(self) -> Iterator[dict[str, Any]]:
        if self.of.run.state is RunPhase.RUNNING and self.now - self.of.run.told_at >= self.heartbeat / BEATS:
            self._told_at = self.now
            yield self.of.running(self.heartbeat, self.now)
        chunk = self.request.history
        # What was published of a request that comes again, save for its last line, which has the step.
        known = 0 if self.of.writer else self.of.run.history_lines - chunk.offset
        for place in range(min(max(known, 0), max(len(chunk.content) - 1, 0)), len(chunk.content)):
            number = self._at = chunk.offset + place
            logged = read_line(chunk.content[place])
            if logged is None:
                self.unread_lines += 1
                continue
            if logged.step is not None:
                self._last_step = logged.step
            if place >= known:
                yield from self.of.metrics(number, logged)
        self._at = chunk.offset + len(chunk.content)
        if (phase := self._ends) is not None:
            yield self.of.ended(phase, self._summary or self.of.run.summary, self.now)

    @property
    def _ends(self) -> RunPhase | None:
        if not self.request.complete:
            return None
        preempting = self.of.run.preempting or bool(self.request.preempting)
        return phase_of_exit(self.request.exitcode or 0, preempting=preempting)
