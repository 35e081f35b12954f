"""Results of attempts to one webhook, recorded in bulk, with what follows for the webhook.

Must not send anything nor hold slots: whoever calls it releases them, also where recording fails. What all went well is
recorded by `joint_recorder`, for many webhooks together.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from shared.delivery.endpoint import Endpoint
from shared.domain.delivery.circuits import Circuit, CircuitState, failure_streak_of, is_responsive
from shared.observability import metrics
from shared.observability.logs import get_logger
from shared.storage.database.transactions import write_statement, write_transaction
from shared.storage.definitions.webhooks import keep_disabled
from shared.storage.delivery.admission import needs_admission
from shared.storage.delivery.circuits import CircuitTransition, reset_health, set_lane, update_circuit
from shared.storage.delivery.claims import ClaimedDelivery
from shared.storage.delivery.failure_recording import HealthUpdate, record_with_health, records_in_one_statement
from shared.storage.delivery.notices import notify_dead_letters, notify_disabled, notify_transition
from shared.storage.delivery.recording import record, release_claims
from shared.storage.delivery.webhook_health import disable_webhook, update_health
from shared.storage.delivery.webhook_snapshots import WebhookSnapshot
from worker.delivery.attempt_result import LONG_AGO, CompletedAttempt
from worker.delivery.decided_batch import DecidedBatch, decide_batch
from worker.delivery.recorded_batch import NotRecorded, RecordedBatch

log = get_logger("hookline.deliver")

_jitter = random.Random()  # noqa: S311  (spreads retries, guards nothing)
GONE = "the endpoint answered 410 Gone"
RECOVERED = "the endpoint answers again"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingPolicy:
    """The settings that recording goes by."""

    retry_for: timedelta
    """How long a database that is away is waited for. Longer than leases hold would record what others send again."""
    disable_after: timedelta
    """A webhook that has done nothing but fail for this long is disabled."""
    metrics_per_webhook: bool
    """Whether metrics name the webhook."""


class OutcomeRecorder:
    """Records what was sent to one webhook under one claim token, for the `JointRecorder` that is given the results.

    A drain's recorder is used by its thread, and by the background recorder's once the drain has left. A fast-path
    session's recorder records on the background recorder's threads, while threads of evaluations `refresh` it.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        policy: RecordingPolicy,
        snapshot: WebhookSnapshot,
        endpoint: Endpoint,
        token: int,
    ) -> None:
        self._engine = engine
        self._policy = policy
        self.webhook_id = snapshot.id
        self.endpoint = endpoint
        self.token = token
        self.refresh(snapshot)

    def refresh(self, snapshot: WebhookSnapshot) -> None:
        """Go by a webhook's row as it was just read.

        Two attributes, each an immutable value that is replaced by one assignment, so a reader has one or the other and
        never half of one. `last` is also written by whoever records. Whichever writes last, the lane and the circuit in
        it were the database's a moment ago, and nothing is decided by them alone: a statement that finds the row
        otherwise does nothing, and the transaction after it reads the row under a lock.
        """
        self.last = RecordedBatch(frozenset(), snapshot.circuit, snapshot.slow, None)
        """What the webhook is like, as last heard of."""
        self._prompt_since = _prompt_since(snapshot, self.endpoint)

    def decide(self, completed: Sequence[CompletedAttempt], now: datetime) -> DecidedBatch:
        """What follows from attempts that have ended."""
        # Before anything is made of it: an endpoint may send back the secrets it got, and reasons quote errors.
        masked = [self._masked(one) for one in completed]
        policy, was_slow = self.endpoint.policy, self.last.slow
        url = self.endpoint.shown_url
        return decide_batch(policy, masked, url=url, at=now, was_slow=was_slow, jitter=_jitter.random)

    def commit(self, batch: DecidedBatch) -> RecordedBatch:
        """Record a batch of this webhook alone: in one statement where it is of a usual kind, else in a transaction.

        Raises:
            SQLAlchemyError: when the database is away or does not take it.
        """
        recorded = self._record_with_health(batch)
        return recorded if isinstance(recorded, RecordedBatch) else self._record_in_transaction(batch)

    def release(self, released: Sequence[ClaimedDelivery]) -> None:
        """Make deliveries due again that were claimed and not sent. Raises as `commit`."""
        with write_statement(self._engine) as connection:
            due = [(one.seq, one.due_at) for one in released]
            release_claims(connection, due, token=self.token)

    def _record_with_health(self, batch: DecidedBatch) -> RecordedBatch | NotRecorded:
        """The webhook's row changes, and there is nothing in it that its owners have to be told."""
        if not records_in_one_statement(self._engine):
            return NotRecorded.NOT_APPLICABLE
        health = self._health_update(batch)
        if health is None:
            return NotRecorded.NOT_APPLICABLE
        with write_statement(self._engine) as connection:
            found = record_with_health(connection, self.webhook_id, batch.rows, health, token=self.token, now=batch.at)
        if found is None:
            return NotRecorded.ROW_DIFFERS
        finished, failures = found
        return RecordedBatch(frozenset(finished), Circuit(failures=failures), batch.slow, None)

    def _health_update(self, batch: DecidedBatch) -> HealthUpdate | None:
        """What the attempts change in the webhook's row; None where its owners may have to be told of it."""
        if not batch.tells_owners_nothing:
            return None
        policy = self.endpoint.policy
        streak = failure_streak_of(policy, batch.signals)
        if streak is None:
            return None
        return HealthUpdate(
            streak=streak,
            circuit_failures=policy.circuit_failures,
            slow=batch.slow,
            succeeded=batch.succeeded,
            failed=batch.failed,
            disable_before=self._disable_before(batch),
        )

    def _record_in_transaction(self, batch: DecidedBatch) -> RecordedBatch:
        with write_transaction(self._engine) as connection:
            finished = frozenset(record(connection, batch.rows, token=self.token, now=batch.at))
            if batch.lane_changes:
                set_lane(connection, self.webhook_id, slow=batch.slow)
            disabled = None
            if batch.all_delivered:
                change = reset_health(connection, self.webhook_id, batch.at)
            else:
                policy = self.endpoint.policy
                change = update_circuit(connection, self.webhook_id, policy, batch.signals, batch.at)
                disabled = self._disable(connection, batch)
            recorded = RecordedBatch(finished, change.circuit, batch.slow, disabled)
            self._write_notices(connection, batch, recorded, change)
            return recorded

    def _disable(self, connection: Connection, batch: DecidedBatch) -> str | None:
        """Disable the webhook where this batch is a reason to; the reason, or None."""
        reason = update_health(
            connection,
            self.webhook_id,
            succeeded=batch.succeeded,
            failed=batch.failed,
            disable_before=self._disable_before(batch),
            now=batch.at,
        )
        if batch.disables_webhook and disable_webhook(connection, self.webhook_id, reason=GONE, now=batch.at):
            reason = GONE
        if reason is not None:
            keep_disabled(connection, self.webhook_id, reason=reason, now=batch.at)
        return reason

    def _disable_before(self, batch: DecidedBatch) -> datetime:
        return batch.at - self._policy.disable_after

    def _write_notices(
        self, connection: Connection, batch: DecidedBatch, recorded: RecordedBatch, change: CircuitTransition
    ) -> None:
        """Write what the webhook's owners are told of this batch. Mostly that is nothing."""
        if change.transition is not None:
            seqs = [one.delivery.seq for one, _ in batch.attempts]
            reason = RECOVERED
            if change.transition is CircuitState.OPEN:
                last = next(
                    decision.reason
                    for one, decision in reversed(batch.undelivered)
                    if is_responsive(one.outcome) is False
                )
                reason = f"{change.circuit.failures} failures in a row; the last: {last}"
            notify_transition(connection, self.webhook_id, change.transition, seqs=seqs, reason=reason, now=batch.at)
        if recorded.disabled:
            notify_disabled(connection, self.webhook_id, reason=recorded.disabled, now=batch.at)
        dead = [one.delivery.id for one, _ in batch.undelivered if one.delivery.seq in recorded.finished]
        notify_dead_letters(connection, dead, batch.at)

    def report_changes(self, batch: DecidedBatch, recorded: RecordedBatch) -> None:
        """Tell what changed for the webhook: only after the commit."""
        if recorded.disabled:
            metrics.WEBHOOKS_DISABLED_AUTOMATICALLY.inc()
            log.warning("webhook.disabled", webhook_id=self.endpoint.webhook, reason=recorded.disabled)
        if recorded.circuit.opened_at == batch.at:
            metrics.CIRCUIT_OPENINGS.inc()
            failures = recorded.circuit.failures
            log.warning("webhook.circuit_opened", webhook_id=self.endpoint.webhook, failures=failures)

    def _masked(self, attempt: CompletedAttempt) -> CompletedAttempt:
        outcome = self.endpoint.mask_outcome(attempt.outcome, attempt.delivery.payload)
        if outcome.exchange is None or attempt.headers is None:
            return attempt if outcome is attempt.outcome else replace(attempt, outcome=outcome)
        return replace(attempt, outcome=outcome, headers=self.endpoint.mask_headers(attempt.headers))

    def delays_seconds(self, batch: DecidedBatch) -> list[float]:
        """How late requests were sent that nothing but Hookline held up."""
        since = self._prompt_since
        if since is None:
            return []
        return [
            (one.started_at - one.delivery.due_at).total_seconds()
            for one, _ in batch.attempts
            if one.delivery.due_at >= since
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderFactory:
    """Makes the recorders of a process, each for a webhook and a claim token."""

    engine: Engine
    policy: RecordingPolicy

    def open(self, snapshot: WebhookSnapshot, endpoint: Endpoint, *, token: int) -> OutcomeRecorder:
        """A recorder for what is claimed of a webhook under this token."""
        return OutcomeRecorder(
            engine=self.engine, policy=self.policy, snapshot=snapshot, endpoint=endpoint, token=token
        )


def _prompt_since(snapshot: WebhookSnapshot, endpoint: Endpoint) -> datetime | None:
    """What fell due since then should be sent at once; None while the webhook itself has others wait."""
    if snapshot.slow or needs_admission(endpoint.policy, snapshot.circuit):
        return None
    return snapshot.resumed_at or LONG_AGO
