"""Results of requests for whose end no drain waits: recorded by a few threads of the process.

A drain holds one of the worker's threads. One whose endpoint takes its time leaves what is in flight here and goes, so
that no endpoint keeps a thread from the others, however many hang. What is sent without a drain ends here too.

Successes of all webhooks are recorded together, by one thread, as many at a time as have ended. A webhook that fails
has its results recorded apart from the others', since that locks its row: who holds the row holds up this webhook only.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from shared.observability.logs import get_logger
from worker.delivery.attempt_result import AttemptResult, is_failure
from worker.delivery.completion_buffer import LINGER_SECONDS, CompletionBuffer
from worker.delivery.recorded_batch import NotRecorded, RecordedBatch
from worker.delivery.recorder import OutcomeRecorder

log = get_logger("hookline.deliver")

THREADS = 16
"""One records what goes well. The others record a batch of a failing webhook each, and mostly wait for the database
meanwhile.

Beside 32 drains they share 40 database connections, which is enough as long as each needs one for milliseconds. With
half as many, the records of many failing webhooks queue up behind one another; twice as many would have drains wait for
connections.
"""
FAILURE_WAIT_SECONDS = 0.25
"""How long a batch with failures waits for another such batch to be recorded.

Time-outs tend to expire together. Recording them on all threads at the same time would starve other threads of the
interpreter, so failures are recorded one batch at a time. The bound keeps a stuck database from stopping them all.
"""
RECORDED_AT_A_TIME = 512
"""Successes that are waited for before they are recorded, at most. Half as many make more statements under load; twice
as many keep slots from others for longer."""
POLL_SECONDS = 0.05

THEN = "sent again with the same webhook-id"
"""What follows when leases end of deliveries whose results were not recorded."""


Part = tuple[OutcomeRecorder, Sequence[AttemptResult]]
_Outcome = RecordedBatch | NotRecorded | Exception
_Record = Callable[[Sequence[Part]], Sequence[_Outcome]]


class RecordingSession(Protocol):
    """What was sent to one webhook under one claim token. Its identity is the key."""

    @property
    def webhook_id(self) -> int:
        """The webhook."""

    @property
    def webhook(self) -> str:
        """The public id of the webhook."""

    @property
    def leased_until(self) -> datetime:
        """When the last of the deliveries' leases ends."""

    @property
    def recorder(self) -> OutcomeRecorder:
        """What records its results."""

    def note(self, recorded: RecordedBatch) -> None:
        """Results are recorded, and their slots are about to be released."""

    def may_have_more(self, recorded: RecordedBatch, results: Sequence[AttemptResult]) -> bool:
        """Whether something may be due now that no drain knows of."""


class Recorder(Protocol):
    """What records results of any webhooks."""

    def record(self, parts: Sequence[Part]) -> Sequence[RecordedBatch | Exception]:
        """Record them; for each part what came of it."""

    def record_usual(self, parts: Sequence[Part]) -> Sequence[RecordedBatch | NotRecorded | Exception]:
        """The same for those parts that lock no webhook's row; the others are left."""


class Slots(Protocol):
    """Where slots of those in flight are given back."""

    def release_all(self, counts: Mapping[int, int]) -> None:
        """Give back so many slots of each webhook."""


class Payloads(Protocol):
    """Where it is counted how much of payloads is held."""

    def release(self, chars: int) -> None:
        """Hold so much less."""


class DueCheck(Protocol):
    """What wakes drains where something is due."""

    def wake_if_due(self, lanes: Mapping[int, bool]) -> None:
        """Wake drains of those of these webhooks, each given with whether it is slow, that have something due."""


@dataclass(slots=True)
class _Apart:
    """The results of one failing webhook that wait to be recorded.

    The buffer is put to by any thread and taken from by the queue's worker only. A queue is in `_apart` exactly while
    it has a worker, or one is about to begin.
    """

    results: CompletionBuffer[AttemptResult] = field(default_factory=CompletionBuffer)


class BackgroundRecorder:
    """Records what is registered with it, and waits for the rest when the process ends.

    `_lock` guards `_outstanding`, `_together_works` and `_apart`. It is never held while something is recorded.
    """

    def __init__(
        self, *, recorder: Recorder, slots: Slots, payloads: Payloads, due_check: DueCheck, threads: int = THREADS
    ) -> None:
        self._recorder = recorder
        self._slots = slots
        self._payloads = payloads
        self._due_check = due_check
        self._lock = threading.Lock()
        self._outstanding: Counter[RecordingSession] = Counter()
        """Registered attempts whose results are not recorded."""
        self._total = 0
        """Their number. Workers read it without the lock: an old value makes a batch smaller or larger, no more."""
        self._together: CompletionBuffer[tuple[RecordingSession, AttemptResult]] = CompletionBuffer()
        """Successes that wait to be recorded, of all webhooks."""
        self._together_works = False
        """Whether a thread records them, or is about to: there is at most one."""
        self._apart: dict[RecordingSession, _Apart] = {}
        """The failing webhooks."""
        self._failures = threading.Lock()
        """Held while a batch with failures is recorded, see `FAILURE_WAIT_SECONDS`."""
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="stragglers")

    def register(self, session: RecordingSession, count: int) -> Callable[[AttemptResult], None]:
        """Expect `count` results of a session's attempts; the function that takes each of them, on any thread."""
        self.register_all({session: count})
        return lambda result: self.put(session, result)

    def register_all(self, counts: Mapping[RecordingSession, int]) -> None:
        """Expect so many results of each session's attempts, which are to be `put`."""
        with self._lock:
            for session, count in counts.items():
                self._outstanding[session] += count
                self._total += count

    def put(self, session: RecordingSession, result: AttemptResult) -> None:
        """Take a result of a session's attempts, on any thread."""
        # A failing webhook's results stay in their order, so a success that follows them waits in the same queue.
        if is_failure(result) or session in self._apart:
            self._put_apart(session, [result])
            return
        # The result is in the buffer before the flag is looked at, and the worker looks into the buffer under the same
        # lock as it clears the flag. So either it finds this result, or this thread finds no worker and starts one.
        self._together.put((session, result))
        with self._lock:
            if self._together_works:
                return
            self._together_works = True
        self._start(self._work_together)

    def close(self, grace_seconds: float) -> None:
        """Wait for what is outstanding, but no longer than this; what is left is sent again after its lease."""
        deadline = time.monotonic() + grace_seconds
        while self._left() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if left := self._left():
            log.warning(
                "deliveries.left_in_flight",
                deliveries=sum(left.values()),
                webhooks=len({session.webhook for session in left}),
                leases_end=_isoformat(max(session.leased_until for session in left)),
                then=THEN,
            )
        self._threads.shutdown(wait=not left, cancel_futures=bool(left))

    def _left(self) -> dict[RecordingSession, int]:
        with self._lock:
            return dict(self._outstanding)

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        try:
            self._threads.submit(work, *arguments)
        except RuntimeError:
            return  # closed: the attempt was reported as left in flight

    def _put_apart(self, session: RecordingSession, results: Sequence[AttemptResult]) -> None:
        with self._lock:
            queue = self._apart.get(session)
            is_new = queue is None
            if queue is None:
                queue = self._apart[session] = _Apart()
            for result in results:
                queue.results.put(result)
        if is_new:
            self._start(self._work_apart, session, queue)

    def _work_together(self) -> None:
        """Record successes, about half of what is outstanding at a time, until none is there."""
        while True:
            wanted = min((self._total + 1) // 2, RECORDED_AT_A_TIME)
            taken = self._together.take_batch(wanted=wanted, patience_seconds=LINGER_SECONDS)
            parts: dict[RecordingSession, list[AttemptResult]] = {}
            for session, result in taken:
                parts.setdefault(session, []).append(result)
            if parts:
                self._record(parts, self._recorder.record_usual)
            with self._lock:
                if self._together.is_empty():
                    self._together_works = False
                    return

    def _work_apart(self, session: RecordingSession, queue: _Apart) -> None:
        """Record a failing webhook's results, about half of what is outstanding at a time, until none is there."""
        while True:
            wanted = (self._outstanding[session] + 1) // 2
            results = queue.results.take_batch(wanted=wanted, patience_seconds=LINGER_SECONDS)
            if results:
                in_turn = any(map(is_failure, results)) and self._failures.acquire(timeout=FAILURE_WAIT_SECONDS)
                try:
                    self._record({session: results}, self._recorder.record)
                finally:
                    if in_turn:
                        self._failures.release()
            with self._lock:
                if queue.results.is_empty():
                    del self._apart[session]
                    return

    def _record(self, parts: Mapping[RecordingSession, list[AttemptResult]], record: _Record) -> None:
        """Record results and give their slots back; drains are woken for what was not sent, or came meanwhile."""
        slots: Counter[int] = Counter()
        lanes: dict[int, bool] = {}
        ended: dict[RecordingSession, int] = {}
        chars = 0
        for (session, results), outcome in zip(parts.items(), _outcomes(parts, record), strict=True):
            if isinstance(outcome, NotRecorded):
                self._put_apart(session, results)
                continue
            ended[session] = len(results)
            slots[session.webhook_id] += len(results)
            chars += sum(len(one.delivery.payload) for one in results)
            if isinstance(outcome, RecordedBatch):
                session.note(outcome)  # before others are given the slots
                if session.may_have_more(outcome, results):
                    lanes[session.webhook_id] = outcome.slow
            else:
                _report_lost(session, len(results), outcome)
        self._payloads.release(chars)
        self._slots.release_all(slots)
        if lanes:
            try:
                self._due_check.wake_if_due(lanes)
            except SQLAlchemyError as exc:
                log.warning("wake.failed", error=type(exc).__name__)  # the pump's next sweep looks
        with self._lock:
            for session, count in ended.items():
                self._outstanding[session] -= count
                self._total -= count
                if self._outstanding[session] <= 0:
                    del self._outstanding[session]


def _outcomes(parts: Mapping[RecordingSession, list[AttemptResult]], record: _Record) -> Sequence[_Outcome]:
    try:
        return record([(session.recorder, results) for session, results in parts.items()])
    except Exception as exc:
        return [exc] * len(parts)  # what ends later must be recorded all the same


def _report_lost(session: RecordingSession, count: int, exc: Exception) -> None:
    log.warning(
        "deliveries.not_recorded",
        webhook_id=session.webhook,
        deliveries=count,
        error=str(exc).partition("\n")[0],
        leases_end=_isoformat(session.leased_until),
        then=THEN,
    )


def _isoformat(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
