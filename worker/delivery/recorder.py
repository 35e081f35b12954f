"""What came of attempts, recorded in bulk: one transaction, then metrics and a log line for each attempt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypedDict

from sqlalchemy import Connection
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

from shared.delivery.endpoint import Endpoint
from shared.domain.delivery.circuits import (
    Circuit,
    CircuitSignal,
    CircuitState,
    failure_streak_of,
    is_responsive,
    is_slow,
)
from shared.domain.delivery.outcomes import OutcomeKind
from shared.domain.delivery.retries import Decision, Verdict, decide
from shared.domain.ids import IdKind, encode_id
from shared.observability import metrics
from shared.observability.logs import get_logger
from shared.storage.database.transactions import write_statement, write_transaction
from shared.storage.database.transient_errors import is_passing
from shared.storage.delivery.admission import needs_admission
from shared.storage.delivery.circuits import CircuitTransition, reset_health, set_lane, update_circuit
from shared.storage.delivery.failure_recording import HealthUpdate, record_with_health
from shared.storage.delivery.notices import notify_dead_letters, notify_disabled, notify_transition
from shared.storage.delivery.recording import Attempted, record, record_all_well, release_claims
from shared.storage.delivery.webhook_health import disable_webhook, note_health
from shared.storage.delivery.webhook_snapshots import WebhookSnapshot
from worker.delivery.attempt_result import LONG_AGO, AttemptResult, CompletedAttempt, ReleasedClaim
from worker.delivery.report import report_attempts
from worker.delivery.spans import add_attempt_exemplars, trace_attempt

if TYPE_CHECKING:
    from worker.bootstrap import WorkerProcess

log = get_logger("hookline.deliver")

_jitter = random.Random()  # noqa: S311  (spreads retries, guards nothing)
GONE = "the endpoint answered 410 Gone"
RECOVERED = "the endpoint answers again"
_COMMON = frozenset({Verdict.DELIVERED, Verdict.RETRY})


@dataclass(frozen=True, slots=True)
class RecordedBatch:
    """How the webhook fares after a batch of attempts was recorded."""

    ended: frozenset[int]
    circuit: Circuit
    slow: bool
    disabled: str | None

    @property
    def untroubled(self) -> bool:
        """Whether all goes well."""
        return self.disabled is None and not self.slow and self.circuit == Circuit()


class OutcomeRecorder:
    """Records what one drain sent to one webhook, for as long as something of it is underway."""

    def __init__(self, runtime: WorkerProcess, row: WebhookSnapshot, endpoint: Endpoint, *, token: int) -> None:
        self._tracing = runtime.tracing
        self._engine = runtime.engine
        self._clock = runtime.clock
        self._settings = runtime.settings
        self._webhook_id = row.id
        self._endpoint = endpoint
        self._token = token
        self.see(row)

    def see(self, row: WebhookSnapshot) -> None:
        """Go by the webhook's row as it was just read."""
        self._fared = RecordedBatch(frozenset(), row.circuit, row.slow, None)
        self._prompt_since = _prompt_since(row, self._endpoint)

    def record(self, ended: Sequence[AttemptResult]) -> RecordedBatch:
        """Record attempts that have ended, and what follows from them.

        Raises:
            SQLAlchemyError: when the database was away for longer than the leases hold, or does not take it for good.
        """
        if sent := [one for one in ended if isinstance(one, CompletedAttempt)]:
            self._fared = self._record(sent)
        if unsent := [one.delivery for one in ended if isinstance(one, ReleasedClaim)]:
            with write_statement(self._engine) as connection:
                release_claims(connection, [(one.seq, one.due_at) for one in unsent], token=self._token)
        return self._fared

    def _record(self, sent: Sequence[CompletedAttempt]) -> RecordedBatch:
        now = self._clock.now()
        # Before anything is made of it: an endpoint may send back the secrets it got, and reasons quote errors.
        sent = [self._masked(one) for one in sent]
        decided = [(one, self._decide(one)) for one in sent]
        # What was sent is known here only: a database that is away for a moment is waited for, as long as the lease.
        persistent = Retrying(
            retry=retry_if_exception(is_passing),
            wait=wait_exponential(multiplier=0.1, max=2),
            stop=stop_after_delay(self._settings.lease_margin),
            reraise=True,
        )
        fared = persistent(self._commit, decided, now)
        if fared.disabled:
            metrics.WEBHOOKS_DISABLED_AUTOMATICALLY.inc()
            log.warning("webhook.disabled", webhook_id=self._endpoint.webhook, reason=fared.disabled)
        if fared.circuit.opened_at == now:
            metrics.CIRCUIT_OPENINGS.inc()
            failures = fared.circuit.failures
            log.warning("webhook.circuit_opened", webhook_id=self._endpoint.webhook, failures=failures)
        self._count(decided)
        report_attempts(self._endpoint, decided, fared.ended, now, claim=self._token if self._tracing else None)
        if self._tracing is not None:
            for one, decision in decided:
                trace_attempt(self._tracing, self._endpoint.webhook, one, decision, self._token)
            add_attempt_exemplars(decided, self._token, now)
        return fared

    def _commit(self, decided: Sequence[tuple[CompletedAttempt, Decision]], now: datetime) -> RecordedBatch:
        before = self._fared.slow
        slow = is_slow([one.outcome for one, _ in decided], before=before)
        results = [_attempted(*pair, now) for pair in decided]
        all_well = all(decision.verdict is Verdict.DELIVERED for _, decision in decided)
        if all_well and slow == before:
            with write_statement(self._engine) as connection:
                ended = record_all_well(connection, self._webhook_id, results, token=self._token, now=now)
            if ended is not None:
                return RecordedBatch(frozenset(ended), Circuit(), slow, None)
        if (told := self._standing(decided, now, slow=slow)) is not None:
            with write_statement(self._engine) as connection:
                found = record_with_health(connection, self._webhook_id, results, told, token=self._token, now=now)
            if found is not None:
                return RecordedBatch(frozenset(found[0]), Circuit(failures=found[1]), slow, None)
        with write_transaction(self._engine) as connection:
            ended = record(connection, results, token=self._token, now=now)
            if slow != before:
                set_lane(connection, self._webhook_id, slow=slow)
            if all_well:
                turn = reset_health(connection, self._webhook_id, now)
                fared = RecordedBatch(frozenset(ended), turn.circuit, slow, None)
            else:
                turn = update_circuit(connection, self._webhook_id, self._endpoint.policy, _answers(decided), now)
                fared = RecordedBatch(frozenset(ended), turn.circuit, slow, self._disabled(connection, decided, now))
            self._tell(connection, decided, fared, turn, now)
            return fared

    def _standing(
        self, decided: Sequence[tuple[CompletedAttempt, Decision]], now: datetime, *, slow: bool
    ) -> HealthUpdate | None:
        """What these attempts tell of the webhook, unless it is something that its owners may have to be told."""
        # SQLite would take its one writer's turn for nothing.
        if self._engine.dialect.name != "postgresql" or any(one.verdict not in _COMMON for _, one in decided):
            return None
        policy = self._endpoint.policy
        run = failure_streak_of(policy, _answers(decided))
        if run is None:
            return None
        return HealthUpdate(
            run=run,
            circuit_failures=policy.circuit_failures,
            slow=slow,
            disable_before=now - self._settings.disable_after,
            **_health(decided),
        )

    def _tell(
        self,
        connection: Connection,
        decided: Sequence[tuple[CompletedAttempt, Decision]],
        fared: RecordedBatch,
        turn: CircuitTransition,
        now: datetime,
    ) -> None:
        """Write what the webhook's owners are told of this batch. Mostly that is nothing."""
        failed = [(one, decision) for one, decision in decided if decision.verdict is not Verdict.DELIVERED]
        if turn.transition is not None:
            seqs = [one.delivery.seq for one, _ in decided]
            reason = RECOVERED
            if turn.transition is CircuitState.OPEN:
                last = next(
                    decision.reason for one, decision in reversed(failed) if is_responsive(one.outcome) is False
                )
                reason = f"{turn.circuit.failures} failures in a row; at last: {last}"
            notify_transition(connection, self._webhook_id, turn.transition, seqs=seqs, reason=reason, now=now)
        if fared.disabled:
            notify_disabled(connection, self._webhook_id, reason=fared.disabled, now=now)
        notify_dead_letters(connection, [one.delivery.id for one, _ in failed if one.delivery.seq in fared.ended], now)

    def _disabled(
        self, connection: Connection, decided: Sequence[tuple[CompletedAttempt, Decision]], now: datetime
    ) -> str | None:
        """Why the webhook is disabled just now, if it is."""
        disable_before = now - self._settings.disable_after
        reason = note_health(connection, self._webhook_id, disable_before=disable_before, now=now, **_health(decided))
        gone = any(decision.disable_webhook for _, decision in decided)
        if gone and disable_webhook(connection, self._webhook_id, reason=GONE, now=now):
            return GONE
        return reason

    def _masked(self, sent: CompletedAttempt) -> CompletedAttempt:
        outcome = self._endpoint.masked(sent.outcome)
        return sent if outcome is sent.outcome else replace(sent, outcome=outcome)

    def _decide(self, sent: CompletedAttempt) -> Decision:
        return decide(self._endpoint.policy, sent.outcome, attempt=sent.delivery.attempts + 1, jitter=_jitter.random())

    def _count(self, decided: Sequence[tuple[CompletedAttempt, Decision]]) -> None:
        named = encode_id(IdKind.WEBHOOK, self._webhook_id) if self._settings.metrics_per_webhook else None
        metrics.attempts_finished(
            ((str(one.outcome.kind), one.outcome.duration_seconds) for one, _ in decided),
            delays_seconds=self._delays_seconds(decided),
            webhook=named,
        )

    def _delays_seconds(self, decided: Sequence[tuple[CompletedAttempt, Decision]]) -> list[float]:
        """How late requests were sent that nothing but Hookline held up."""
        since = self._prompt_since
        if since is None:
            return []
        return [
            (one.started_at - one.delivery.due_at).total_seconds() for one, _ in decided if one.delivery.due_at >= since
        ]


def _answers(decided: Sequence[tuple[CompletedAttempt, Decision]]) -> list[CircuitSignal]:
    return [CircuitSignal(is_responsive(one.outcome), one.probe) for one, _ in decided]


class _Health(TypedDict):
    succeeded: bool
    failed: bool


def _health(decided: Sequence[tuple[CompletedAttempt, Decision]]) -> _Health:
    """Whether some succeeded, and whether some failed. A fault of Hookline's own is no failure of the webhook."""
    theirs = [pair for pair in decided if pair[0].outcome.kind is not OutcomeKind.INTERNAL]
    delivered = [decision.verdict is Verdict.DELIVERED for _, decision in theirs]
    return {"succeeded": any(delivered), "failed": not all(delivered)}


def _prompt_since(row: WebhookSnapshot, endpoint: Endpoint) -> datetime | None:
    """What fell due since then should be sent at once; None while the webhook itself has others wait."""
    if row.slow or needs_admission(endpoint.policy, row.circuit):
        return None
    return row.resumed_at or LONG_AGO


def _attempted(sent: CompletedAttempt, decision: Decision, now: datetime) -> Attempted:
    again = decision.verdict is Verdict.RETRY
    delivered = decision.verdict is Verdict.DELIVERED
    return Attempted(
        seq=sent.delivery.seq,
        number=sent.delivery.attempts + 1,
        started_at=sent.started_at,
        duration_ms=round(sent.outcome.duration_seconds * 1000),
        outcome=str(sent.outcome.kind),
        status_code=sent.outcome.status,
        error=sent.outcome.error,
        response_body=sent.outcome.response_body,
        response_truncated=sent.outcome.response_truncated,
        next_attempt_at=now + timedelta(seconds=decision.delay_seconds or 0) if again else None,
        final_status=None if again else str(decision.verdict),
        reason=None if delivered else decision.reason,
    )
