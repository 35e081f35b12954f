"""Requests for whose end no drain waits: recorded by a few threads of the process when they end.

A drain holds a place among the worker's threads. One whose endpoint takes its time leaves what is in flight here and
goes, so that no endpoint keeps a thread from the others, however many hang. What is sent without a drain ends here too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from shared.observability.logs import get_logger
from worker.delivery.attempt_result import AttemptResult, is_failure
from worker.delivery.completion_buffer import LINGER_SECONDS, CompletionBuffer

log = get_logger("hookline.deliver")

THREADS = 16
TURN_SECONDS = 0.25
"""Failures come in crowds, as time-outs of one moment do: all their threads at once would keep the interpreter from
what others wait for. They are recorded in turn, but none waits longer than this for its turn."""
_POLL_SECONDS = 0.05


THEN = "sent again with the same webhook-id"
"""What follows when the leases of deliveries end of which nothing was recorded."""


class RecordingSession(Protocol):
    """Who has sent requests and does not wait for them."""

    @property
    def webhook(self) -> str:
        """The public id of the webhook that they go to."""

    @property
    def leased_until(self) -> datetime:
        """When the last of their leases ends."""

    def finish(self, ended: list[AttemptResult]) -> None:
        """Record what has ended and give its places back."""


@dataclass(slots=True)
class _SessionQueue:
    """What is underway of one leaver, and what of it has ended. One thread at a time works here."""

    leaver: RecordingSession
    outcomes: CompletionBuffer = field(default_factory=CompletionBuffer)
    expected: int = 0
    is_taken: bool = False


class BackgroundRecorder:
    """Takes what is left behind, and waits for it when the process ends."""

    def __init__(self, threads: int = THREADS) -> None:
        self._lock = threading.Lock()
        self._desks: dict[RecordingSession, _SessionQueue] = {}
        self._failures = threading.Lock()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="stragglers")

    def expect(self, leaver: RecordingSession, count: int) -> Callable[[AttemptResult], None]:
        """Where `count` attempts of a leaver are to be put when they end."""
        with self._lock:
            desk = self._desks.setdefault(leaver, _SessionQueue(leaver))
            desk.expected += count
        return lambda ended: self._put(desk, ended)

    def close(self, grace_seconds: float) -> None:
        """Wait for what is underway, but not for longer; what is left then is sent again after its lease."""
        deadline = time.monotonic() + grace_seconds
        while self._left() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if left := self._left():
            log.warning(
                "deliveries.left_in_flight",
                deliveries=sum(left.values()),
                webhooks=len({leaver.webhook for leaver in left}),
                leases_end=_told(max(leaver.leased_until for leaver in left)),
                then=THEN,
            )
        self._threads.shutdown(wait=not left, cancel_futures=bool(left))

    def _left(self) -> dict[RecordingSession, int]:
        with self._lock:
            return {desk.leaver: desk.expected for desk in self._desks.values() if desk.expected}

    def _put(self, desk: _SessionQueue, ended: AttemptResult) -> None:
        desk.outcomes.put(ended)
        with self._lock:
            if desk.is_taken:
                return
            desk.is_taken = True
        try:
            self._threads.submit(self._work, desk)
        except RuntimeError:
            return  # closed: it was told as left in flight

    def _work(self, desk: _SessionQueue) -> None:
        """Record what ends at a desk, about half of what is underway at a time, until nothing is there."""
        while True:
            ended = desk.outcomes.take(wanted=(desk.expected + 1) // 2, patience_seconds=LINGER_SECONDS)
            if ended:
                self._finish(desk, ended)
            with self._lock:
                if not desk.outcomes.are_there():
                    desk.is_taken = False
                    return

    def _finish(self, desk: _SessionQueue, ended: list[AttemptResult]) -> None:
        has_turn = any(map(is_failure, ended)) and self._failures.acquire(timeout=TURN_SECONDS)
        try:
            desk.leaver.finish(ended)
        except Exception as exc:
            # The others' outcomes must be recorded all the same.
            log.warning(
                "deliveries.not_recorded",
                webhook_id=desk.leaver.webhook,
                deliveries=len(ended),
                error=str(exc).partition("\n")[0],
                leases_end=_told(desk.leaver.leased_until),
                then=THEN,
            )
        finally:
            if has_turn:
                self._failures.release()
        with self._lock:
            desk.expected -= len(ended)
            if desk.expected == 0:
                self._desks.pop(desk.leaver, None)


def _told(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
