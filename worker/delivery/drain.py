"""drain_webhook: claim what is due for a webhook, send it concurrently, record every outcome in bulk.

The drain's thread talks to the database, the process's event loop sends; between them is a queue of outcomes. While one
batch is being recorded others finish, so writes grow with the load by themselves. A drain waits for an endpoint only as
long as it answers briskly: what takes longer it leaves to the process's stragglers.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from shared.delivery.endpoint import Endpoint
from shared.domain.delivery.circuits import CircuitState
from shared.domain.delivery.rate_limit import HORIZON
from shared.messaging.celery_app import WEBHOOK_TASK
from shared.messaging.wakeups import token_key
from shared.observability.logs import get_logger
from shared.storage.database.transactions import read_statement, write_statement, write_transaction
from shared.storage.delivery.admission import admit, needs_admission, note_claimed
from shared.storage.delivery.claims import ClaimedDelivery, claim, has_due
from shared.storage.delivery.webhook_snapshots import WebhookSnapshot
from worker.bootstrap import WorkerProcess
from worker.coordination.wakeups import give_back, wake
from worker.coordination.webhook_slots import WebhookSlot, acquire_slot
from worker.delivery.attempt_executor import AttemptExecutor
from worker.delivery.attempt_result import LONG_AGO, AttemptResult
from worker.delivery.claims import MAX_SEND_DELAY_SECONDS, PREFETCH_MAX_PAYLOAD_CHARS, ClaimedBatch
from worker.delivery.completion_buffer import CompletionBuffer
from worker.delivery.endpoint_cache import open_webhook
from worker.delivery.in_flight import PREFETCH_FACTOR
from worker.delivery.recorder import OutcomeRecorder, RecordedBatch

log = get_logger("hookline.deliver")

RENEW_SECONDS = 1.0
INITIAL_CLAIM_SIZE = 16
"""Mostly there is little: places for more would be held while it is looked for, and others would find none."""
OUTCOME_WAIT_SECONDS = 0.25
"""A drain waits this long for the next outcome before it leaves what is in flight to the stragglers."""


def drain_webhook(runtime: WorkerProcess, webhook_id: int) -> int:
    """Deliver what is due for a webhook until nothing is, nothing more may be sent, or the time slice is over.

    Returns:
        The number of attempts that this drain saw the end of.
    """
    token = token_key(WEBHOOK_TASK, webhook_id)
    # Until its place is given back news wakes nobody, since this drain would claim it.
    with acquire_slot(runtime.redis, f"webhook:{webhook_id}", runtime.settings.drains_per_webhook, token=token) as lock:
        opened = None if lock is None else open_webhook(runtime, webhook_id)
        if lock is None or opened is None:
            return 0
        row, endpoint = opened
        drain = WebhookDrain(runtime, row, endpoint, lock)
        made = drain.run()
    # What became due since the last claim woke nobody either, and what is left after the slice needs another turn.
    if not drain.held_up:
        wake_if_due(runtime, webhook_id, slow=row.slow)
    return made


def wake_if_due(runtime: WorkerProcess, webhook_id: int, *, slow: bool) -> None:
    """Ask for another drain of the webhook where something is due; of a slow one, where it may have a place."""
    if slow and not runtime.flights.is_open(webhook_id, slow=slow):
        return
    now = runtime.clock.now()
    with read_statement(runtime.engine) as connection:
        due = has_due(connection, webhook_id, now)
    if due:
        wake(runtime, webhook_id, slow=slow)


class WebhookDrain:
    """One drain at work: what it has claimed and sent, and what came back."""

    def __init__(self, runtime: WorkerProcess, row: WebhookSnapshot, endpoint: Endpoint, lock: WebhookSlot) -> None:
        self._runtime = runtime
        self._settings = runtime.settings
        self._webhook_id = row.id
        self._endpoint = endpoint
        self._circuit = row.circuit
        self._slow = row.slow
        self._lock = lock
        self._token = secrets.randbits(62)
        self._lease = (
            timedelta(seconds=endpoint.policy.timeout_seconds + MAX_SEND_DELAY_SECONDS) + self._settings.lease_margin
        )
        if endpoint.policy.rate_limit is not None:
            self._lease += HORIZON  # so long may a delivery wait for its slot
        self._recorder = OutcomeRecorder(runtime, row, endpoint, token=self._token)
        self._outcomes = CompletionBuffer()
        self._attempts = AttemptExecutor(runtime, row.id, endpoint, token=self._token, put=self._outcomes.put)
        self._in_flight = 0
        self._light = True
        self._batch = INITIAL_CLAIM_SIZE
        self._stopped = self._dry = self._joined = self._ahead = False
        self.webhook = endpoint.webhook
        self.leased_until = LONG_AGO
        self.held_up = False
        """Whether what is due has to wait: for a limit, for the circuit, or for a place among those in flight."""

    def run(self) -> int:
        """Work until nothing is due, nothing more may be sent or the slice is over.

        Whatever ends it, what is in flight then is left to the stragglers.
        """
        made = 0
        try:
            made = self._work()
        finally:
            if self._in_flight:
                self._leave()
        return made

    def _work(self) -> int:
        deadline = time.monotonic() + self._settings.drain_slice.total_seconds()
        renewed, made = time.monotonic(), 0
        while True:
            now = time.monotonic()
            self._stopped |= now >= deadline
            if now - renewed > RENEW_SECONDS:
                renewed = now
                self._stopped |= not self._lock.renew()
            while self._may_claim():
                self._claim_and_send()
            if self._in_flight == 0:
                return made
            ended = self._collect()
            if not ended:
                return made
            made += len(ended)
            try:
                fared = self._recorder.record(ended)
            finally:
                self._release(len(ended))
            self._heed(fared)

    @property
    def _most(self) -> int:
        """What may be claimed at a time."""
        return self._settings.max_in_flight * (PREFETCH_FACTOR if self._ahead else 1)

    def _may_claim(self) -> bool:
        """Half of the places must be free: claiming for each answer anew would be many small transactions."""
        return self._in_flight * 2 <= self._most and not (self._stopped or self._dry or self.held_up)

    def finish(self, ended: list[AttemptResult]) -> None:
        """Record what ended after this drain had left, and wake another where there is more to do."""
        try:
            fared = self._recorder.record(ended)
        finally:
            give_back(self._runtime, self._webhook_id, len(ended))
        if fared.disabled or fared.circuit.opened_at is not None:
            return
        try:
            wake_if_due(self._runtime, self._webhook_id, slow=fared.slow)
        except SQLAlchemyError as exc:
            log.warning("wake.failed", error=type(exc).__name__)  # and what has ended is recorded all the same

    def _claim_and_send(self) -> None:
        wanted = min(self._most - self._in_flight, self._batch)
        places = self._runtime.flights.take(self._webhook_id, wanted, slow=self._slow, ahead=self._ahead)
        if not places:
            self.held_up = True
            return
        taken = 0
        try:
            haul = self._claim(places)
            taken = len(haul.claimed)
        finally:
            give_back(self._runtime, self._webhook_id, places - taken)
        self._light = sum(len(one.payload) for one in haul.claimed) <= taken * PREFETCH_MAX_PAYLOAD_CHARS
        self._dry = taken < places and not self.held_up
        if taken == places:
            self._batch = self._settings.claim_batch
        self._in_flight += taken
        self._attempts.launch(haul)
        if taken == places and self._in_flight >= self._settings.max_in_flight and not self._joined:
            self._joined = True
            self._call_another()

    def _call_another(self) -> None:
        """There is more than this drain can send at once: another worker may join it."""
        self._runtime.waker.clear_token(WEBHOOK_TASK, self._webhook_id)
        wake(self._runtime, self._webhook_id, slow=self._slow)

    def _claim(self, limit: int) -> ClaimedBatch:
        """Claim up to `limit` of what is due.

        Leases and slots count from when the database let this drain in: it may have waited long for a connection, for
        SQLite's one writer, or for others that claim under the webhook's limits.
        """
        policy, clock = self._endpoint.policy, self._runtime.clock
        clock.now()  # looks at the database where it is time to: not later, with a connection in hand
        if not needs_admission(policy, self._circuit):
            with write_statement(self._runtime.engine) as connection:
                now = clock.estimate()
                return ClaimedBatch(now, self._claim_up_to(connection, limit, now))
        with write_transaction(self._runtime.engine) as connection:
            admission = admit(connection, self._webhook_id, policy, wanted=limit, clock=clock.estimate)
            now, self.held_up = admission.at, admission.limit < limit
            if not admission.limit:
                return ClaimedBatch(now)
            claimed = self._claim_up_to(connection, admission.limit, now)
            until = now + self._lease
            note_claimed(connection, self._webhook_id, policy, admission, claimed=len(claimed), lease_until=until)
            return ClaimedBatch(now, claimed, admission.slots, admission.probing)

    def _claim_up_to(self, connection: Connection, limit: int, now: datetime) -> Sequence[ClaimedDelivery]:
        self.leased_until = until = now + self._lease
        return claim(connection, self._webhook_id, limit=limit, now=now, lease_until=until, token=self._token)

    def _collect(self) -> list[AttemptResult]:
        """What has ended: about half of what is in flight, so that what is free is claimed at once."""
        return self._outcomes.take(wanted=(self._in_flight + 1) // 2, patience_seconds=OUTCOME_WAIT_SECONDS)

    def _release(self, count: int) -> None:
        self._in_flight -= count
        give_back(self._runtime, self._webhook_id, count)

    def _heed(self, fared: RecordedBatch) -> None:
        """Go on by what the answers said about the webhook; places are free again, so what held it up may be over."""
        self._circuit, self._slow, self._dry = fared.circuit, fared.slow, False
        # It answered within a drain's patience: what waits here for its turn will not wait for long.
        self._ahead = self._light and fared.untroubled and not needs_admission(self._endpoint.policy, fared.circuit)
        self.held_up = fared.disabled is not None or fared.circuit.state(self._runtime.clock.now()) is CircuitState.OPEN

    def _leave(self) -> None:
        """Leave what is in flight, and what has ended and is not recorded yet, to the stragglers."""
        self._outcomes.hand_over(self._runtime.stragglers.expect(self, self._in_flight))
