"""Requests that outlive their drain: recorded by one thread of the process when they end.

A drain holds a place among the worker's threads. One whose endpoint takes its time leaves what is in flight here and
goes, so that no endpoint keeps a thread from the others, however many hang.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Protocol

from shared.logs import get_logger
from worker.recording import Sent

log = get_logger("hookline.deliver")

_AT_ONCE = 500
_POLL_SECONDS = 0.05


class Leaver(Protocol):
    """A drain that has left requests behind."""

    def finish(self, sent: list[Sent]) -> None:
        """Record what has ended and give its places back."""


class Stragglers:
    """Takes what is left behind, and waits for it when the process ends."""

    def __init__(self) -> None:
        self._ended: queue.SimpleQueue[tuple[Leaver, Sent] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._expected = 0
        self._thread = threading.Thread(target=self._work, name="stragglers", daemon=True)
        self._thread.start()

    def expect(self, leaver: Leaver, count: int) -> Callable[[Sent], None]:
        """Where `count` attempts of a drain that leaves are to be put when they end."""
        with self._lock:
            self._expected += count
        return lambda sent: self._ended.put((leaver, sent))

    def close(self, grace_seconds: float) -> None:
        """Wait for what is underway, but not for longer; what is left then is sent again after its lease."""
        deadline = time.monotonic() + grace_seconds
        while self._waiting() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if left := self._waiting():
            log.warning("deliveries.left_in_flight", deliveries=left)
        self._ended.put(None)
        self._thread.join(timeout=5)

    def _waiting(self) -> int:
        with self._lock:
            return self._expected

    def _work(self) -> None:
        while (first := self._ended.get()) is not None:
            batch, last = [first], False
            while len(batch) < _AT_ONCE and not last:
                try:
                    ended = self._ended.get_nowait()
                except queue.Empty:
                    break
                last = ended is None
                if ended is not None:
                    batch.append(ended)
            self._finish(batch)
            if last:
                return

    def _finish(self, batch: list[tuple[Leaver, Sent]]) -> None:
        of: dict[Leaver, list[Sent]] = {}
        for leaver, sent in batch:
            of.setdefault(leaver, []).append(sent)
        for leaver, several in of.items():
            try:
                leaver.finish(several)
            except Exception as exc:
                # Their leases run out and they are sent again; the others' outcomes must be recorded all the same.
                log.warning("deliveries.not_recorded", deliveries=len(several), error=str(exc).partition("\n")[0])
        with self._lock:
            self._expected -= len(batch)
