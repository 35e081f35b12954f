"""drain_webhook: claim what is due for a webhook, send it concurrently, record every outcome in bulk.

The drain's thread talks to the database, the process's event loop sends; between them is a queue of outcomes. While one
batch is being recorded others finish, so writes grow with the load by themselves.
"""

from __future__ import annotations

import queue
import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from redis.lock import Lock
from sqlalchemy.exc import OperationalError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from shared import telemetry
from shared.domain.ids import IdKind, encode_id
from shared.domain.outcomes import Outcome, OutcomeKind
from shared.domain.payloads import SecretUnavailable
from shared.domain.retries import Decision, Verdict, decide
from shared.logs import get_logger
from shared.sender import Request
from shared.storage.engine import reading, writing
from shared.storage.health import disable_webhook, note_health
from shared.storage.queue import (
    Attempted,
    Claimed,
    claim,
    has_due,
    load_endpoint,
    record,
)
from shared.vault import SecretUnreadable
from shared.wakes import WEBHOOK_TASK
from worker.endpoint import Endpoint, open_endpoint
from worker.locks import one_of, renew
from worker.runtime import Runtime

log = get_logger(__name__)

_jitter = random.Random()  # noqa: S311  (spreads retries, guards nothing)
POLL_SECONDS = 1.0
RECORD_AT_MOST = 500
GONE = "the endpoint answered 410 Gone"


@dataclass(frozen=True, slots=True)
class Sent:
    """A delivery whose attempt has ended."""

    delivery: Claimed
    started_at: datetime
    outcome: Outcome


def drain_webhook(runtime: Runtime, webhook_id: int) -> int:
    """Deliver what is due for a webhook until nothing is or the time slice is over.

    Returns:
        The number of attempts made.
    """
    runtime.waker.started(WEBHOOK_TASK, webhook_id)
    with one_of(runtime.redis, f"webhook:{webhook_id}", runtime.settings.drains_per_webhook) as lock:
        if lock is None:
            return 0
        endpoint = _endpoint(runtime, webhook_id)
        if endpoint is None:
            return 0
        made = WebhookDrain(runtime, webhook_id, endpoint, lock).run()
    # What became due while the place was still taken woke nobody; what is left after the slice needs another turn.
    with reading(runtime.engine) as connection:
        if has_due(connection, webhook_id, datetime.now(UTC)):
            runtime.waker.webhooks([webhook_id])
    return made


def _endpoint(runtime: Runtime, webhook_id: int) -> Endpoint | None:
    with reading(runtime.engine) as connection:
        row = load_endpoint(connection, webhook_id)
    if row is None:
        return None
    try:
        return open_endpoint(row, runtime.vault)
    except SecretUnreadable as exc:
        # Ours to mend, not the receiver's: the deliveries stay due until the key is back.
        log.error("webhook.secret_unreadable", webhook_id=webhook_id, error=str(exc))
        return None


class WebhookDrain:
    """One drain at work: what it has claimed and sent, and what came back."""

    def __init__(self, runtime: Runtime, webhook_id: int, endpoint: Endpoint, lock: Lock) -> None:
        self._runtime = runtime
        self._settings = runtime.settings
        self._webhook_id = webhook_id
        self._endpoint = endpoint
        self._lock = lock
        self._token = secrets.randbits(62)
        self._lease = timedelta(seconds=endpoint.policy.timeout_seconds) + self._settings.lease_margin
        self._ended: queue.SimpleQueue[Sent] = queue.SimpleQueue()
        self._in_flight = 0
        self._stopped = False

    def run(self) -> int:
        """Work until nothing is due or the slice is over, and everything claimed is recorded."""
        deadline = time.monotonic() + self._settings.drain_slice.total_seconds()
        renewed, made, dry = time.monotonic(), 0, False
        while True:
            now = time.monotonic()
            if now >= deadline:
                self._stopped = True
            if now - renewed > POLL_SECONDS:
                renewed = now
                self._stopped |= not renew(self._lock)
            room = self._settings.max_in_flight - self._in_flight
            if not self._stopped and not dry and room * 2 >= self._settings.max_in_flight:
                dry = self._claim_and_send(min(room, self._settings.claim_batch)) == 0
            if self._in_flight == 0:
                if self._stopped or dry:
                    return made
                continue
            sent = self._collect()
            if sent:
                self._record(sent)
                made += len(sent)

    def _claim_and_send(self, limit: int) -> int:
        now = datetime.now(UTC)
        with writing(self._runtime.engine) as connection:
            claimed = claim(
                connection, self._webhook_id, limit=limit, now=now, lease_until=now + self._lease, token=self._token
            )
        self._in_flight += len(claimed)
        prepared = [(delivery, request) for delivery in claimed if (request := self._request(delivery, now))]
        if prepared:
            self._runtime.sending.submit(self._start(prepared))
        return len(claimed)

    def _request(self, delivery: Claimed, now: datetime) -> Request | None:
        try:
            return self._endpoint.request(delivery, now)
        except SecretUnavailable as exc:
            outcome = Outcome(kind=OutcomeKind.BLOCKED, error=str(exc), duration_seconds=0.0)
            self._ended.put(Sent(delivery, now, outcome))
            return None

    async def _start(self, prepared: Sequence[tuple[Claimed, Request]]) -> None:
        for delivery, request in prepared:
            self._runtime.sending.spawn(self._attempt(delivery, request))

    async def _attempt(self, delivery: Claimed, request: Request) -> None:
        started_at = datetime.now(UTC)
        try:
            outcome = await self._runtime.sending.sender.send(request)
        except Exception as exc:
            # A fault of ours must not leave the drain waiting for an outcome that never comes.
            log.exception("delivery.fault", delivery_id=delivery.id)
            outcome = Outcome(kind=OutcomeKind.NETWORK, error=type(exc).__name__, duration_seconds=0.0)
        self._ended.put(Sent(delivery, started_at, outcome))

    def _collect(self) -> list[Sent]:
        """What has ended: waits for the first, then takes all that are there."""
        try:
            sent = [self._ended.get(timeout=POLL_SECONDS)]
        except queue.Empty:
            return []
        while len(sent) < RECORD_AT_MOST:
            try:
                sent.append(self._ended.get_nowait())
            except queue.Empty:
                break
        self._in_flight -= len(sent)
        return sent

    def _record(self, sent: Sequence[Sent]) -> None:
        now = datetime.now(UTC)
        # Before anything is made of it: an endpoint may send back the secrets it got, and reasons quote errors.
        sent = [replace(one, outcome=self._endpoint.masked(one.outcome)) for one in sent]
        decided = [(one, self._decide(one)) for one in sent]
        # What was sent is known here only: a database that is away for a moment is waited for, as long as the lease.
        persistent = Retrying(
            retry=retry_if_exception_type(OperationalError),
            wait=wait_exponential(multiplier=0.1, max=2),
            stop=stop_after_delay(self._settings.lease_margin),
            reraise=True,
        )
        ended, disabled = persistent(self._commit, decided, now)
        if disabled:
            self._stopped = True
            log.warning("webhook.disabled", webhook_id=self._webhook_id, reason=disabled)
        named = encode_id(IdKind.WEBHOOK, self._webhook_id) if self._settings.metrics_per_webhook else None
        telemetry.attempts_finished(
            ((str(one.outcome.kind), one.outcome.duration_seconds) for one, _ in decided), webhook=named
        )
        _announce(self._webhook_id, decided, ended, now)

    def _commit(self, decided: Sequence[tuple[Sent, Decision]], now: datetime) -> tuple[set[int], str | None]:
        """Record attempts and the webhook's health: which deliveries ended, and why the webhook is disabled now."""
        delivered = [decision.verdict is Verdict.DELIVERED for _, decision in decided]
        with writing(self._runtime.engine) as connection:
            ended = record(connection, [_attempted(*pair, now) for pair in decided], token=self._token, now=now)
            disabled = note_health(
                connection,
                self._webhook_id,
                succeeded=any(delivered),
                failed=not all(delivered),
                disable_before=now - self._settings.disable_after,
                now=now,
            )
            gone = any(decision.disable_webhook for _, decision in decided)
            if gone and disable_webhook(connection, self._webhook_id, reason=GONE, now=now):
                disabled = GONE
        return ended, disabled

    def _decide(self, sent: Sent) -> Decision:
        return decide(self._endpoint.policy, sent.outcome, attempt=sent.delivery.attempts + 1, jitter=_jitter.random())


def _attempted(sent: Sent, decision: Decision, now: datetime) -> Attempted:
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


def _announce(webhook_id: int, decided: Sequence[tuple[Sent, Decision]], ended: set[int], now: datetime) -> None:
    """Metrics and one log line for each attempt: only after the commit."""
    for sent, decision in decided:
        delivery = sent.delivery
        if delivery.seq in ended:
            telemetry.deliveries_finished(str(decision.verdict), 1)
        if decision.verdict is Verdict.DELIVERED:
            telemetry.EVENT_TO_DELIVERY.observe(max(0.0, (now - delivery.event_received_at).total_seconds()))
        log.info(
            "delivery.attempted",
            delivery_id=delivery.id,
            webhook_id=webhook_id,
            attempt=delivery.attempts + 1,
            outcome=str(sent.outcome.kind),
            status=sent.outcome.status,
            error=sent.outcome.error,
            duration_ms=round(sent.outcome.duration_seconds * 1000),
            verdict=str(decision.verdict),
            retry_in_seconds=decision.delay_seconds,
        )
