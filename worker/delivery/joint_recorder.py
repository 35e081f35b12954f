"""Results of attempts to many webhooks, recorded together; then metrics and a log line for each attempt.

What delivered, in the lane that its webhook has, is recorded by one statement however many webhooks it is spread over.
Only where a webhook's row changes too is its part recorded by itself, so that no transaction locks two webhooks' rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Engine
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

from shared.domain.delivery.circuits import Circuit
from shared.domain.ids import IdKind, encode_id
from shared.observability import metrics
from shared.observability.tracing import Tracing
from shared.storage.database.clock import DatabaseClock
from shared.storage.database.transactions import write_statement
from shared.storage.database.transient_errors import is_transient
from shared.storage.delivery.claims import ClaimedDelivery
from shared.storage.delivery.recording import RecordedSuccesses, Successes, record_successes
from worker.delivery.attempt_result import AttemptResult, CompletedAttempt, ReleasedClaim
from worker.delivery.decided_batch import DecidedBatch
from worker.delivery.recorded_batch import NotRecorded, RecordedBatch
from worker.delivery.recorder import OutcomeRecorder, RecordingPolicy
from worker.delivery.report import count_attempts, log_attempts
from worker.delivery.spans import add_attempt_exemplars, trace_attempt

Part = tuple[OutcomeRecorder, Sequence[AttemptResult]]
"""The results of one webhook's attempts, and what records them where they need a transaction of their own."""


@dataclass(slots=True)
class _Decided:
    """A webhook's part, with what follows from it."""

    recorder: OutcomeRecorder
    released: list[ClaimedDelivery]
    """What was claimed and not sent."""
    batch: DecidedBatch | None = None
    """What follows from the attempts; None where there are none."""
    recorded: RecordedBatch | None = None
    error: Exception | None = None

    @property
    def is_left(self) -> bool:
        """Whether there is something in it that is not recorded yet."""
        return self.recorded is None and self.error is None and self.batch is not None


class _Done(NamedTuple):
    """A webhook's part that is recorded."""

    recorder: OutcomeRecorder
    batch: DecidedBatch
    recorded: RecordedBatch


class JointRecorder:
    """Records results of any webhooks, on the thread that asks for it. Threads share it: it keeps nothing."""

    def __init__(
        self, *, engine: Engine, clock: DatabaseClock, tracing: Tracing | None, policy: RecordingPolicy
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._tracing = tracing
        self._policy = policy

    def record(self, parts: Sequence[Part]) -> list[RecordedBatch | Exception]:
        """Record results of attempts, and what follows from them.

        What was sent is known here only, so a database that is away for a moment is waited for, as long as leases hold.

        Args:
            parts: one for each webhook and claim token.

        Returns:
            For each part what its webhook is like now, as far as its recorder knows: with nothing but released claims,
            as before. An exception where nothing of it could be recorded; the others are recorded all the same.
        """
        decided = self._decide(parts)
        self._record_usual(decided)
        for one in decided:
            if one.is_left and one.batch is not None:
                self._record_alone(one, one.batch)
        self._report(decided)
        return [one.error or self._finish(one) for one in decided]

    def record_usual(self, parts: Sequence[Part]) -> list[RecordedBatch | NotRecorded | Exception]:
        """Record, as `record` does, the parts for which no webhook's row has to be locked.

        Returns:
            As `record`; `ROW_DIFFERS` for the parts that are left to it, of which nothing was recorded.
        """
        decided = self._decide(parts)
        self._record_usual(decided)
        self._report(decided)
        return [NotRecorded.ROW_DIFFERS if one.is_left else one.error or self._finish(one) for one in decided]

    def _decide(self, parts: Sequence[Part]) -> list[_Decided]:
        now = self._clock.now()
        decided = []
        for recorder, results in parts:
            one = _Decided(recorder, [result.delivery for result in results if isinstance(result, ReleasedClaim)])
            try:
                if completed := [result for result in results if isinstance(result, CompletedAttempt)]:
                    one.batch = recorder.decide(completed, now)
            except Exception as exc:
                one.error = exc
            decided.append(one)
        return decided

    def _record_usual(self, decided: Sequence[_Decided]) -> None:
        """Record together the parts in which all delivered and the webhook stays in its lane and has no failures."""
        usual = [(one, one.batch) for one in decided if one.batch is not None and one.batch.is_usual]
        if not usual:
            return
        several = [Successes(one.recorder.webhook_id, one.recorder.token, batch.rows) for one, batch in usual]
        try:
            found = self._persistent()(self._commit_usual, several, usual[0][1].at)
        except Exception as exc:
            if len(usual) == 1 or is_transient(exc):
                for one, _ in usual:
                    one.error = exc
            return  # else one of them can't be stored, and each is tried by itself
        for one, batch in usual:
            if one.recorder.webhook_id not in found.failing:
                one.recorded = RecordedBatch(found.finished, Circuit(), batch.slow, None)

    def _commit_usual(self, several: Sequence[Successes], now: datetime) -> RecordedSuccesses:
        with write_statement(self._engine) as connection:
            return record_successes(connection, several, now=now)

    def _record_alone(self, one: _Decided, batch: DecidedBatch) -> None:
        try:
            one.recorded = self._persistent()(one.recorder.commit, batch)
        except Exception as exc:
            one.error = exc

    def _persistent(self) -> Retrying:
        return Retrying(
            retry=retry_if_exception(is_transient),
            wait=wait_exponential(multiplier=0.1, max=2),
            stop=stop_after_delay(self._policy.retry_for),
            reraise=True,
        )

    def _finish(self, one: _Decided) -> RecordedBatch | Exception:
        """Release what was not sent, and keep what is known of the webhook now."""
        recorder = one.recorder
        if one.recorded is not None:
            recorder.last = one.recorded
        if one.released:
            try:
                recorder.release(one.released)
            except Exception as exc:
                return exc
        return recorder.last

    def _report(self, decided: Sequence[_Decided]) -> None:
        """Logs, metrics and spans: only after the commit."""
        done = [
            _Done(one.recorder, one.batch, one.recorded)
            for one in decided
            if one.recorded is not None and one.batch is not None
        ]
        if not done:
            return
        self._observe(done)
        everything = [attempt for one in done for attempt in one.batch.attempts]
        finished = frozenset[int]().union(*{id(one.recorded.finished): one.recorded.finished for one in done}.values())
        count_attempts(everything, finished, done[0].batch.at)
        for one in done:
            one.recorder.report_changes(one.batch, one.recorded)
            endpoint, token = one.recorder.endpoint, one.recorder.token
            log_attempts(endpoint, one.batch.attempts, claim=None if self._tracing is None else token)
            if self._tracing is not None:
                for sent, decision in one.batch.attempts:
                    trace_attempt(self._tracing, endpoint.webhook, sent, decision, token)
                add_attempt_exemplars(one.batch.attempts, token, one.batch.at)

    def _observe(self, done: Sequence[_Done]) -> None:
        """Count requests and their durations, by webhook where the operator asked for it."""
        named = self._policy.metrics_per_webhook
        for group in [[one] for one in done] if named else [done]:
            metrics.observe_attempts(
                (
                    (str(sent.outcome.kind), sent.outcome.duration_seconds)
                    for one in group
                    for sent, _ in one.batch.attempts
                ),
                delays_seconds=[delay for one in group for delay in one.recorder.delays_seconds(one.batch)],
                webhook=encode_id(IdKind.WEBHOOK, group[0].recorder.webhook_id) if named else None,
            )
