"""`Background`: publishes from a thread of its own, so that nothing of Hookline's can hurt a training.

What `publish` takes is on disk (`hookline.spool`) before it returns, in memory where there is no spool. One thread
sends, in order, and goes on trying for as long as the process lives; what is left then is sent by the next process that
publishes to the same Hookline with the same key.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hookline import batches, configuration, ranks, transport
from hookline.client import Client, refused
from hookline.errors import Refused, Unreachable
from hookline.events import Event
from hookline.forks import after_fork_in_child
from hookline.spool import IS_POSSIBLE, SpoolFile, left_behind

if TYPE_CHECKING:
    from typing_extensions import Self

    from hookline.client import OnError

log = logging.getLogger("hookline")
MAX_SPOOL_BYTES = 256 << 20
_ROTATE_BYTES = 16 << 20
_SYNC_SECONDS = 1.0
_JOIN_SECONDS = 0.5
_HELD_SECONDS = 60.0
"""How long to wait when Hookline refuses the key: somebody has to do something first."""
_METRIC = b'"type":"RUN_METRIC"'


@dataclass
class _Batch:
    """Events that are being sent, and how to note that they were."""

    events: list[bytes]
    note_sent: Callable[[], None]


class Background:
    """Publishes in the background; `publish` never blocks on a network and never raises.

    - `client`: where to; default `Client()`, of HOOKLINE_URL and HOOKLINE_API_KEY.
    - `spool`: the folder for events that are not sent yet; default HOOKLINE_SPOOL or `~/.hookline/spool`; None keeps
      them in memory only. `max_spool_bytes` bounds it; metrics are refused first, the last tenth is for other events.
    - `max_events`: how many are kept in memory, without a spool or while it can't be written.
    - `every_seconds`: how long events are collected before they are sent together.
    - `exit_seconds`: how long the end of the process waits for what is not sent yet.
    - `on_error`: called from any thread with what went wrong; default: a warning in the log `hookline`.
    - `rank_zero_only`: whether other processes of a distributed training publish nothing.

    A forked child starts empty: what its parent has not sent yet stays with the parent.

    Raises:
        InvalidConfiguration: naming the variable.
    """

    def __init__(
        self,
        client: Client | None = None,
        *,
        spool: str | Path | bool | None = True,
        max_spool_bytes: int = MAX_SPOOL_BYTES,
        max_events: int = 10_000,
        every_seconds: float = 0.5,
        exit_seconds: float = 10.0,
        on_error: OnError | None = None,
        rank_zero_only: bool = True,
    ) -> None:
        self._client = client or Client(timeout_seconds=15.0)
        self._is_client_ours = client is None
        self._folder = _folder(spool, self._client)
        self._max_spool_bytes = max_spool_bytes
        self._max_events = max_events
        self._every_seconds = every_seconds
        self._exit_seconds = exit_seconds
        self._on_error = on_error
        self.is_active = not rank_zero_only or ranks.is_rank_zero()
        """Whether this process publishes at all."""
        self._begin()
        after_fork_in_child(self, Background._after_fork)
        atexit.register(self.close)

    def _begin(self) -> None:
        # Held for moments: by callers while an event is written, by the sender while it reads a batch or notes it sent.
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._older: deque[SpoolFile] = deque()
        self._file: SpoolFile | None = None
        self._memory: deque[bytes] = deque()
        self._is_spooling = self._folder is not None
        self._is_closed = self._is_hurried = self._has_adopted = self._is_dirty = False
        self._dropped = 0
        self._tries = 0
        self._told: set[str] = set()

    def _after_fork(self) -> None:
        for file in (*self._older, self._file):
            if file is not None:
                file.forget()
        self._begin()

    def __repr__(self) -> str:
        return f"Background({self._client.url!r}, spool={str(self._folder)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def publish(self, events: Event | Iterable[Event | Mapping[str, Any] | bytes]) -> bool:
        """Keep events, to be sent soon; whether all of them were kept. Never raises.

        Without room for one, those after it are not kept either, so that they don't overtake it when it is tried again.
        A kept event survives the end of this process, unless there is no spool or `on_error` was told that it can't be
        written.
        """
        try:
            if not self.is_active:
                return False
            one_by_one = [events] if isinstance(events, (Event, Mapping, bytes)) else events
            texts = [batches.encoded(event) for event in one_by_one]
            with self._changed:
                are_kept = all(self._keep(text) for text in texts)
                self._start()
                self._changed.notify_all()
            return are_kept
        except Exception as exc:
            self._tell(exc)
            return False

    @property
    def has_unsent(self) -> bool:
        """Whether anything that was kept is not sent yet."""
        with self._changed:
            return self._has_unsent()

    @property
    def dropped(self) -> int:
        """How many events were not kept because there was no room."""
        return self._dropped

    def flush(self, timeout_seconds: float | None = None) -> bool:
        """Wait until everything is sent; whether it was in time. Default: `exit_seconds`."""
        until = time.monotonic() + (self._exit_seconds if timeout_seconds is None else timeout_seconds)
        with self._changed:
            self._is_hurried = True
            self._start()
            self._changed.notify_all()
            while self._has_unsent() and (left := until - time.monotonic()) > 0:
                if self._thread is None:  # the interpreter ends, and starts no threads
                    break
                self._changed.wait(min(left, 0.5))
        while self._thread is None and self.has_unsent and time.monotonic() < until:
            if not self._send_one():
                time.sleep(0.2)
        self._is_hurried = False
        return not self.has_unsent

    def close(self, timeout_seconds: float | None = None) -> None:
        """Flush, and end. What could not be sent stays in the spool for the next process. Never raises."""
        with suppress(Exception):
            if self._is_closed:
                return
            self.flush(timeout_seconds)
            with self._changed:
                self._is_closed = True
                thread, self._thread = self._thread, None  # it ends when it sees this
                self._changed.notify_all()
                while self._memory and self._spool(self._memory[0]):
                    self._memory.popleft()
                lost = len(self._memory)
                self._memory.clear()
                for file in (*self._older, self._file):
                    if file is not None:
                        file.close()
                self._older.clear()
                self._file = None
                self._has_adopted = False
            atexit.unregister(self.close)
            if thread is not None:
                thread.join(_JOIN_SECONDS)  # no longer: it may wait for an answer
            elif self._is_client_ours:
                self._client.close()
            if lost:
                self._tell(Unreachable(f"{lost} events are lost: Hookline was away until this process ended"))

    def _keep(self, text: bytes) -> bool:
        if self._is_closed:
            self._is_closed = False  # after close, as a run does that ends in an exit handler
            atexit.register(self.close)
        if not self._memory and self._spool(text):
            return True
        if len(self._memory) >= self._max_events:
            self._dropped += 1
            self._tell_once("room", Unreachable("there is no room for more events; the newest are dropped"))
            return False
        self._memory.append(text)
        return True

    def _spool(self, text: bytes) -> bool:
        if not self._is_spooling or self._folder is None:
            return False
        bound = self._max_spool_bytes - sum(file.unsent_bytes for file in self._older)
        if _METRIC in text[:1024]:
            bound -= self._max_spool_bytes // 10
        try:
            if self._file is not None and self._file.end > _ROTATE_BYTES:
                self._older.append(self._file)
                self._file = None
            if self._file is None:
                self._file = SpoolFile.create(self._folder)
            self._file.append(text, max_bytes=bound)
        except OSError as exc:
            self._tell_once("spool", Unreachable(f"the spool can't be written, so events are kept in memory: {exc}"))
            return False
        self._told.discard("spool")
        self._is_dirty = True
        return True

    def _start(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        self._thread = threading.Thread(target=self._send_all, name="hookline", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None

    def _has_unsent(self) -> bool:
        files = (*self._older, self._file)
        return bool(self._memory) or any(file is not None and file.unsent_bytes for file in files)

    def _send_all(self) -> None:
        """The thread."""
        try:
            self._send_until_closed()
        finally:
            if self._is_client_ours:
                self._client.close()

    def _send_until_closed(self) -> None:
        while True:
            try:
                if not self._wait():
                    return
                while self._send_one():
                    if not self._is_sender():
                        return
            except Exception as exc:  # whatever it is, it must not end the sending
                self._tell(exc)
                time.sleep(1.0)

    def _wait(self) -> bool:
        """Until there is something to send; False when there will be nothing."""
        with self._changed:
            if not self._has_unsent() and not self._is_closed:
                self._changed.wait(_SYNC_SECONDS)
            if self._has_unsent() and not self._is_hurried:
                self._changed.wait_for(lambda: self._is_hurried or self._is_closed, self._every_seconds)
            return self._is_sender()

    def _is_sender(self) -> bool:
        return self._thread is threading.current_thread()

    def _send_one(self) -> bool:
        """Send a batch and note it; whether there may be more to send at once."""
        if not self._has_adopted:
            self._has_adopted = True
            if self._folder is not None:
                found = list(left_behind(self._folder))
                with self._changed:
                    self._older.extendleft(reversed(found))
        self._sync()
        with self._changed:
            batch = self._next()
        if batch is None:
            return False
        try:
            outcome = self._client.publish_batch(batch.events)
        except Unreachable as exc:
            self._tries += 1
            self._tell_once("away", Unreachable(f"events are kept until Hookline answers: {exc}"))
            self._pause(batches.backoff_seconds(self._tries, exc))
            return False
        except Refused as exc:
            self._tries += 1
            self._tell_once("key", Refused(f"events are kept until Hookline takes this key: {exc}", status=exc.status))
            self._pause(_HELD_SECONDS)
            return False
        with self._changed:
            batch.note_sent()
            self._changed.notify_all()
        self._tries = 0
        self._told -= {"away", "key", "room"}
        if outcome.refusals:
            self._tell(refused(outcome.refusals, outcome.accepted))
        return True

    def _next(self) -> _Batch | None:
        for file in (*self._older, self._file):
            if file is None:
                continue
            events, offset = file.unsent(max_events=batches.MAX_BATCH_EVENTS, max_bytes=batches.MAX_BATCH_BYTES - 2)
            if events:
                return _Batch(events, lambda file=file, offset=offset: self._note(file, offset))  # type: ignore[misc]
            self._note(file, offset)
        if not self._memory:
            return None
        first = batches.cut(islice(self._memory, batches.MAX_BATCH_EVENTS))[0]
        return _Batch(first, lambda: self._forget(len(first)))

    def _note(self, file: SpoolFile, offset: int) -> None:
        if offset != file.sent:
            file.note_sent(offset)
        if file.unsent_bytes == 0 and file in self._older:
            self._older.remove(file)
            file.close()

    def _forget(self, count: int) -> None:
        for _ in range(min(count, len(self._memory))):
            self._memory.popleft()

    def _sync(self) -> None:
        file = self._file
        if self._is_dirty and file is not None:
            self._is_dirty = False
            file.sync()

    def _pause(self, seconds: float) -> None:
        """Wait; shorter while somebody waits for a flush, since that time is short."""
        until = time.monotonic() + seconds
        with self._changed:
            while not self._is_closed and (left := until - time.monotonic()) > 0:
                if self._is_hurried:
                    self._changed.wait(min(left, 0.5))
                    return
                self._changed.wait(min(left, 1.0))

    def _tell_once(self, state: str, exc: Exception) -> None:
        """Tell of a state that lasts, when it begins."""
        if state not in self._told:
            self._told.add(state)
            self._tell(exc)

    def _tell(self, exc: Exception) -> None:
        try:
            if self._on_error is not None:
                self._on_error(exc)
            else:
                log.warning("%s", exc)
        except Exception:
            log.exception("on_error raised")


def _folder(spool: str | Path | bool | None, client: Client) -> Path | None:
    if transport.substituted() is not None or not IS_POSSIBLE or spool is None or spool is False:
        return None
    base = configuration.default_spool() if spool is True else Path(spool).expanduser()
    # Of this Hookline and key alone: others' events would be refused, or tell others what they must not know.
    return None if base is None else base / client.spool_name


_shared: Background | None = None
_shared_lock = threading.Lock()


def shared() -> Background:
    """The publisher of this process that runs and callbacks use, by HOOKLINE_*. Raises InvalidConfiguration."""
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = Background()
        return _shared


def forget_shared() -> None:
    """Close it; the next `shared` makes another, by what HOOKLINE_* say then."""
    global _shared
    with _shared_lock:
        former, _shared = _shared, None
    if former is not None:
        former.close()


def flush_shared() -> None:
    """Flush it, if there is one."""
    if (background := _shared) is not None:
        background.flush()
