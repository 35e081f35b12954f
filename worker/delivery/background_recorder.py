"""Results of requests for whose end no drain waits: recorded by a few threads of the process.

A drain holds one of the worker's threads. One whose endpoint takes its time leaves what is in flight here and goes, so
that no endpoint keeps a thread from the others, however many hang. What is sent without a drain ends here too.
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
"""Each records a batch of one webhook, and mostly waits for the database meanwhile.

Beside 32 drains they share 40 database connections, which is enough as long as each needs one for milliseconds. With
half as many, the records of many slow webhooks queue up behind one another; twice as many would have drains wait for
connections.
"""
FAILURE_WAIT_SECONDS = 0.25
"""How long a batch with failures waits for another such batch to be recorded.

Time-outs tend to expire together. Recording them on all threads at the same time would starve other threads of the
interpreter, so failures are recorded one batch at a time. The bound keeps a stuck database from stopping them all.
"""
POLL_SECONDS = 0.05

THEN = "sent again with the same webhook-id"
"""What follows when leases end of deliveries whose results were not recorded."""


class RecordingSession(Protocol):
    """What knows how to record the results of requests to one webhook. Its identity is the key: one queue for each."""

    @property
    def webhook(self) -> str:
        """The public id of the webhook."""

    @property
    def leased_until(self) -> datetime:
        """When the last of the deliveries' leases ends."""

    def complete(self, results: list[AttemptResult]) -> None:
        """Record results and give their slots back. Calls for one session never overlap."""


@dataclass(slots=True)
class _SessionQueue:
    """The results of one session that wait to be recorded.

    Two batching protocols meet here, and each has its owner. The buffer is put to by any thread and taken from by the
    worker only; the two fields below it belong to the recorder's lock.
    """

    session: RecordingSession
    results: CompletionBuffer = field(default_factory=CompletionBuffer)
    outstanding: int = 0
    """Registered attempts whose results are not recorded."""
    has_worker: bool = False
    """Whether a thread works on this queue, or is about to: there is at most one."""


class BackgroundRecorder:
    """Records what is registered with it, and waits for the rest when the process ends.

    `_lock` guards `_queues` and the fields `outstanding` and `has_worker` of each queue. It is never held while
    something is recorded.
    """

    def __init__(self, threads: int = THREADS) -> None:
        self._lock = threading.Lock()
        self._queues: dict[RecordingSession, _SessionQueue] = {}
        """By session, from its first registered attempt until its last is recorded."""
        self._failures = threading.Lock()
        """Held while a batch with failures is recorded, see `FAILURE_WAIT_SECONDS`."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="stragglers")

    def register(self, session: RecordingSession, count: int) -> Callable[[AttemptResult], None]:
        """Expect `count` results of a session's attempts; the function that takes each of them, on any thread."""
        with self._lock:
            queue = self._queues.setdefault(session, _SessionQueue(session))
            queue.outstanding += count
        return lambda result: self._put(queue, result)

    def close(self, grace_seconds: float) -> None:
        """Wait for what is outstanding, but no longer than this; what is left is sent again after its lease."""
        deadline = time.monotonic() + grace_seconds
        while self._outstanding() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if left := self._outstanding():
            log.warning(
                "deliveries.left_in_flight",
                deliveries=sum(left.values()),
                webhooks=len({session.webhook for session in left}),
                leases_end=_isoformat(max(session.leased_until for session in left)),
                then=THEN,
            )
        self._threads.shutdown(wait=not left, cancel_futures=bool(left))

    def _outstanding(self) -> dict[RecordingSession, int]:
        with self._lock:
            return {queue.session: queue.outstanding for queue in self._queues.values() if queue.outstanding}

    def _put(self, queue: _SessionQueue, result: AttemptResult) -> None:
        # The result is in the buffer before the flag is looked at, and the worker looks into the buffer under the same
        # lock as it clears the flag. So either it finds this result, or this thread finds no worker and starts one.
        queue.results.put(result)
        with self._lock:
            if queue.has_worker:
                return
            queue.has_worker = True
        try:
            self._threads.submit(self._work, queue)
        except RuntimeError:
            return  # closed: the attempt was reported as left in flight

    def _work(self, queue: _SessionQueue) -> None:
        """Record a queue's results, about half of what is outstanding at a time, until none is there."""
        while True:
            # `outstanding` is read without the lock: an old value makes this batch smaller or larger, no more.
            results = queue.results.take_batch(wanted=(queue.outstanding + 1) // 2, patience_seconds=LINGER_SECONDS)
            if results:
                self._complete(queue, results)
            with self._lock:
                if queue.results.is_empty():
                    queue.has_worker = False
                    return

    def _complete(self, queue: _SessionQueue, results: list[AttemptResult]) -> None:
        in_turn = any(map(is_failure, results)) and self._failures.acquire(timeout=FAILURE_WAIT_SECONDS)
        try:
            queue.session.complete(results)
        except Exception as exc:
            # The others' results must be recorded all the same.
            log.warning(
                "deliveries.not_recorded",
                webhook_id=queue.session.webhook,
                deliveries=len(results),
                error=str(exc).partition("\n")[0],
                leases_end=_isoformat(queue.session.leased_until),
                then=THEN,
            )
        finally:
            if in_turn:
                self._failures.release()
        with self._lock:
            queue.outstanding -= len(results)
            if queue.outstanding == 0:
                self._queues.pop(queue.session, None)


def _isoformat(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
