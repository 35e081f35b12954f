"""Requests that outlive their drain: recorded by one thread of the process when they end.

A drain holds a place among the worker's threads. One whose endpoint takes its time leaves what is in flight here and
goes, so that no endpoint keeps a thread from the others, however many hang.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from shared.logs import get_logger
from worker.recording import Sent

log = get_logger("hookline.deliver")

_AT_ONCE = 500
_POLL_SECONDS = 0.05


THEN = "sent again with the same webhook-id"
"""What follows when the leases of deliveries end of which nothing was recorded."""


class Leaver(Protocol):
    """A drain that has left requests behind."""

    @property
    def webhook(self) -> str:
        """The public id of the webhook that they go to."""

    @property
    def leased_until(self) -> datetime:
        """When the last of their leases ends."""

    def finish(self, sent: list[Sent]) -> None:
        """Record what has ended and give its places back."""


class Stragglers:
    """Takes what is left behind, and waits for it when the process ends."""

    def __init__(self) -> None:
        self._ended: queue.SimpleQueue[tuple[Leaver, Sent] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._expected: Counter[Leaver] = Counter()
        self._thread = threading.Thread(target=self._work, name="stragglers", daemon=True)
        self._thread.start()

    def expect(self, leaver: Leaver, count: int) -> Callable[[Sent], None]:
        """Where `count` attempts of a drain that leaves are to be put when they end."""
        with self._lock:
            self._expected[leaver] += count
        return lambda sent: self._ended.put((leaver, sent))

    def close(self, grace_seconds: float) -> None:
        """Wait for what is underway, but not for longer; what is left then is sent again after its lease."""
        deadline = time.monotonic() + grace_seconds
        while self._left() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if left := self._left():
            log.warning(
                "deliveries.left_in_flight",
                deliveries=left.total(),
                webhooks=len({leaver.webhook for leaver in left}),
                leases_end=_told(max(leaver.leased_until for leaver in left)),
                then=THEN,
            )
        self._ended.put(None)
        self._thread.join(timeout=5)

    def _left(self) -> Counter[Leaver]:
        with self._lock:
            return +self._expected

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
                # The others' outcomes must be recorded all the same.
                log.warning(
                    "deliveries.not_recorded",
                    webhook_id=leaver.webhook,
                    deliveries=len(several),
                    error=str(exc).partition("\n")[0],
                    leases_end=_told(leaver.leased_until),
                    then=THEN,
                )
            with self._lock:
                self._expected[leaver] -= len(several)
                if not self._expected[leaver]:
                    del self._expected[leaver]


def _told(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
