"""drain_webhook: claim what is due for a webhook, send it concurrently, record every result in bulk.

The drain's thread talks to the database, the process's event loop sends; between them is a buffer of results. While one
batch is being recorded others finish, so writes grow with the load by themselves. A drain waits for an endpoint only as
long as it answers quickly: what takes longer it leaves to the process's background recorder.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from redis import Redis
from sqlalchemy import Engine

from shared.delivery.endpoint import Endpoint
from shared.messaging.celery_app import WEBHOOK_TASK
from shared.messaging.keys import key_tag
from shared.messaging.wakeups import token_key
from shared.storage.database.clock import DatabaseClock
from shared.storage.delivery.webhook_snapshots import WebhookSnapshot
from worker.coordination.webhook_slots import WebhookSlot, acquire_slot
from worker.delivery.attempt_executor import AttemptExecutor
from worker.delivery.attempt_result import AttemptResult
from worker.delivery.background_recorder import BackgroundRecorder
from worker.delivery.claim_budget import ClaimBudget
from worker.delivery.claims import ClaimedBatch, WebhookClaimer, lease_of
from worker.delivery.completion_buffer import CompletionBuffer
from worker.delivery.detached_drain import DetachedDrain
from worker.delivery.due_check import DueCheck
from worker.delivery.endpoint_cache import EndpointCache
from worker.delivery.in_flight import InFlightLimiter
from worker.delivery.joint_recorder import JointRecorder
from worker.delivery.payload_budget import PayloadBudget
from worker.delivery.recorded_batch import RecordedBatch
from worker.delivery.recorder import OutcomeRecorder, RecorderFactory

RENEW_SECONDS = 1.0
"""How often a drain renews its slot, which lasts `LOCK_SECONDS` (5): it may miss three times in a row. Twice as often
is one more round trip a second; half as often, and a pause of the machine gives its slot to another."""
OUTCOME_WAIT_SECONDS = 0.25
"""How long a drain waits for the next result before it leaves what is in flight to the background recorder.

An endpoint that answers within this keeps its drain, with all that a drain saves. At half of it the background recorder
does more of the work, a wake-up for each batch; at twice, endpoints that hang hold threads for twice as long.
"""


class Wakeups(Protocol):
    """What requests one more drain of a webhook."""

    def recruit(self, webhook_id: int, *, slow: bool) -> None:
        """Request it while another drain of the webhook is at work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainLimits:
    """The settings that drains of webhooks go by."""

    drains_per_webhook: int
    """Of all workers, at a time."""
    slice_seconds: float
    max_in_flight: int
    claim_batch: int
    lease_margin: timedelta


class WebhookDrainer:
    """Drains webhooks, each on the thread that asks for it. Threads share it: it keeps nothing of a drain."""

    def __init__(
        self,
        *,
        redis: Redis,
        engine: Engine,
        clock: DatabaseClock,
        endpoints: EndpointCache,
        limiter: InFlightLimiter,
        payloads: PayloadBudget,
        executor: AttemptExecutor,
        recorders: RecorderFactory,
        joint: JointRecorder,
        background: BackgroundRecorder,
        due_check: DueCheck,
        wakeups: Wakeups,
        limits: DrainLimits,
    ) -> None:
        self._redis = redis
        self._engine = engine
        self._clock = clock
        self._endpoints = endpoints
        self._limiter = limiter
        self._payloads = payloads
        self._executor = executor
        self._recorders = recorders
        self._joint = joint
        self._background = background
        self._due_check = due_check
        self._wakeups = wakeups
        self._limits = limits

    def drain(self, webhook_id: int) -> int:
        """Deliver what is due for a webhook until nothing is, nothing more may be sent, or the time slice is over.

        Returns:
            The number of attempts that this drain saw the end of.

        Raises:
            SQLAlchemyError, RedisError: when the database or Redis is away. What is in flight then is recorded in the
                background.
        """
        token, slots = token_key(self._redis, WEBHOOK_TASK, webhook_id), self._limits.drains_per_webhook
        # Until its slot is released news wakes nobody, since this drain would claim it.
        with acquire_slot(self._redis, f"webhook:{key_tag(self._redis, webhook_id)}", slots, token=token) as slot:
            opened = None if slot is None else self._endpoints.open_webhook(webhook_id)
            if slot is None or opened is None:
                return 0
            snapshot, endpoint = opened
            drain = self._prepare(snapshot, endpoint, slot)
            try:
                made = drain.run(self._limits.slice_seconds)
            finally:
                self._detach(drain, endpoint)
        # What became due since the last claim woke nobody either, and what is left after the slice needs another drain.
        if not drain.is_blocked:
            self._due_check.wake_if_due({webhook_id: snapshot.slow})
        return made

    def _prepare(self, snapshot: WebhookSnapshot, endpoint: Endpoint, slot: WebhookSlot) -> WebhookDrain:
        token, results = secrets.randbits(62), CompletionBuffer[AttemptResult]()
        claimer = WebhookClaimer(
            engine=self._engine,
            clock=self._clock,
            webhook_id=snapshot.id,
            policy=endpoint.policy,
            lease=lease_of(endpoint.policy, self._limits.lease_margin),
            token=token,
        )
        return WebhookDrain(
            snapshot,
            claimer=claimer,
            send=lambda batch: self._executor.submit(
                batch, webhook_id=snapshot.id, endpoint=endpoint, token=token, complete=results.put
            ),
            results=results,
            recorder=self._recorders.open(snapshot, endpoint, token=token),
            record=self._record,
            limiter=self._limiter,
            payloads=self._payloads,
            wakeups=self._wakeups,
            keep_slot=slot.renew,
            budget=ClaimBudget(max_in_flight=self._limits.max_in_flight, full_claim_size=self._limits.claim_batch),
        )

    def _record(self, recorder: OutcomeRecorder, results: list[AttemptResult]) -> RecordedBatch:
        """Record the results of one webhook's attempts. Raises whatever kept them from being recorded."""
        [recorded] = self._joint.record([(recorder, results)])
        if isinstance(recorded, Exception):
            raise recorded
        return recorded

    def _detach(self, drain: WebhookDrain, endpoint: Endpoint) -> None:
        """Leave what is in flight, and what has ended and is not recorded yet, to the background recorder."""
        if not drain.in_flight:
            return
        session = DetachedDrain(
            webhook_id=drain.claimer.webhook_id,
            webhook=endpoint.webhook,
            leased_until=drain.claimer.leased_until,
            recorder=drain.recorder,
        )
        drain.results.redirect_to(self._background.register(session, drain.in_flight))


class WebhookDrain:
    """One drain at work, on one thread: claim, send, wait for results, record, and again.

    Everything here belongs to that thread, but for the buffer of results, which the event loop puts to. Its slots in
    the limiter are those of `_budget.in_flight`, whatever ends it.
    """

    def __init__(
        self,
        snapshot: WebhookSnapshot,
        *,
        claimer: WebhookClaimer,
        send: Callable[[ClaimedBatch], None],
        results: CompletionBuffer[AttemptResult],
        recorder: OutcomeRecorder,
        record: Callable[[OutcomeRecorder, list[AttemptResult]], RecordedBatch],
        limiter: InFlightLimiter,
        payloads: PayloadBudget,
        wakeups: Wakeups,
        keep_slot: Callable[[], bool],
        budget: ClaimBudget,
    ) -> None:
        """Args that types do not tell:

        send: has what was claimed sent, and the result of each put to `results`.
        record: records results with the recorder; what the webhook is like then.
        keep_slot: renews this drain's slot; whether it still had it.
        """
        self.claimer = claimer
        self.recorder = recorder
        self.results = results
        self._send = send
        self._record_results = record
        self._limiter = limiter
        self._payloads = payloads
        self._wakeups = wakeups
        self._keep_slot = keep_slot
        self._budget = budget
        self._webhook = RecordedBatch(frozenset(), snapshot.circuit, snapshot.slow, None)
        """The webhook as last heard of."""
        self._recruited = False
        """Whether another drain was asked to join: once is enough."""

    @property
    def in_flight(self) -> int:
        """What this drain claimed and did not record."""
        return self._budget.in_flight

    @property
    def is_blocked(self) -> bool:
        """Whether what is due has to wait: for a limit, for the circuit, or for a slot among those in flight."""
        return self._budget.blocked

    def run(self, slice_seconds: float) -> int:
        """Work until nothing is due, nothing more may be sent, or the slice is over; how many attempts were recorded.

        Something may be in flight then, and also when this raises.
        """
        renewed = time.monotonic()
        deadline, stopped, made = renewed + slice_seconds, False, 0
        while True:
            now = time.monotonic()
            stopped |= now >= deadline
            if now - renewed > RENEW_SECONDS:
                renewed = now
                stopped |= not self._keep_slot()
            if not stopped:
                self._claim_what_fits()
            if self.in_flight == 0:
                return made
            # About half of what is in flight, so that what is free is claimed at once.
            results = self.results.take_batch(wanted=(self.in_flight + 1) // 2, patience_seconds=OUTCOME_WAIT_SECONDS)
            if not results:
                return made
            made += len(results)
            self._record(results)

    def _claim_what_fits(self) -> None:
        """Claim and send until the budget is used up, or nothing more is due."""
        while wanted := self._budget.next_claim():
            slots = self._limiter.acquire(
                self.claimer.webhook_id, wanted, slow=self._webhook.slow, prefetch=self._budget.prefetch
            )
            max_chars = self._payloads.reserve(slots) if slots else 0
            if not max_chars:
                self._limiter.release(self.claimer.webhook_id, slots)
                self._budget = self._budget.after_refusal()
                return
            batch = self._claim(slots, max_chars)
            self._budget = self._budget.after_claim(
                asked=slots,
                claimed=len(batch.claimed),
                limited=batch.limited,
                small_payloads=batch.has_small_payloads,
            )
            self._send(batch)
            if len(batch.claimed) == slots and self._budget.is_saturated:
                self._recruit()

    def _claim(self, slots: int, max_chars: int) -> ClaimedBatch:
        """Claim as much as there are slots for and memory, and release the slots of what there was not."""
        claimed = chars = 0
        try:
            batch = self.claimer.claim(slots, circuit=self._webhook.circuit, max_bytes=max_chars)
            claimed, chars = len(batch.claimed), sum(len(one.payload) for one in batch.claimed)
        finally:
            self._payloads.settle(max_chars, chars)
            self._limiter.release(self.claimer.webhook_id, slots - claimed)
        return batch

    def _recruit(self) -> None:
        """There is more than this drain can send at a time: another worker may join it."""
        if not self._recruited:
            self._recruited = True
            self._wakeups.recruit(self.claimer.webhook_id, slow=self._webhook.slow)

    def _record(self, results: list[AttemptResult]) -> None:
        try:
            self._webhook = self._record_results(self.recorder, results)
        finally:
            self._budget = self._budget.after_results(len(results))
            self._payloads.release(sum(len(one.delivery.payload) for one in results))
            self._limiter.release(self.claimer.webhook_id, len(results))
        circuit = self._webhook.circuit
        self._budget = self._budget.after_recording(
            may_prefetch=self._webhook.healthy and not self.claimer.is_limited(circuit),
            blocked=self._webhook.disabled is not None or self.claimer.is_held_up(circuit),
        )
