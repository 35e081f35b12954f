"""Deliveries sent by the process that makes them: claimed as they are stored, and on their way with the commit.

That saves the message, the claim and the reads of a drain. It is for the usual case: the webhook was sent to from this
process before and nobody edited anything since, its circuit is closed, nothing limits it, and there is room. Everything
else waits in the database for a drain, and so does what this process leaves when it is killed, once its lease is over.

Must not decide what fires nor store anything: evaluation calls `reserve` before its commit, and `submit` or `cancel`
after it.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from shared.delivery.endpoint import Endpoint
from shared.messaging.celery_app import DELIVER_QUEUE, SLOW_QUEUE
from shared.storage.delivery.admission import needs_admission
from shared.storage.delivery.claims import ClaimedDelivery
from shared.storage.delivery.webhook_snapshots import WebhookSnapshot
from shared.storage.evaluation.new_deliveries import NewClaims, NewDelivery
from worker.delivery.attempt_executor import AttemptExecutor
from worker.delivery.attempt_result import LONG_AGO, AttemptResult, ReleasedClaim
from worker.delivery.background_recorder import BackgroundRecorder
from worker.delivery.claims import MAX_SEND_DELAY_SECONDS, PREFETCH_MAX_PAYLOAD_CHARS, ClaimedBatch
from worker.delivery.endpoint_cache import KEPT_ENDPOINTS, EndpointCache
from worker.delivery.in_flight import InFlightLimiter
from worker.delivery.recorder import OutcomeRecorder, RecorderFactory
from worker.delivery.reservation import Reservation


class Wakeups(Protocol):
    """What requests drains, and raises nothing where that fails."""

    def request(self, webhook_id: int, *, slow: bool) -> None:
        """Request a drain of a webhook."""


class FastPathSession:
    """What a process sends to one webhook on the fast path, as long as its endpoint stays open.

    Threads of evaluations `refresh` and `submit`; threads of the background recorder `complete`, one at a time. Each
    attribute that changes is one immutable value, replaced by one assignment, and an old one does no harm: `slow` and
    `healthy` only choose how many slots are asked for, and the limiter decides.
    """

    def __init__(
        self,
        *,
        webhook_id: int,
        endpoint: Endpoint,
        slow: bool,
        token: int,
        executor: AttemptExecutor,
        recorder: OutcomeRecorder,
        background: BackgroundRecorder,
        limiter: InFlightLimiter,
        wakeups: Wakeups,
    ) -> None:
        self._webhook_id = webhook_id
        self._token = token
        self._executor = executor
        self._recorder = recorder
        self._background = background
        self._limiter = limiter
        self._wakeups = wakeups
        self.endpoint = endpoint
        self.webhook = endpoint.webhook
        self.leased_until = LONG_AGO
        """When the lease of what was submitted last ends. Written by evaluations, read for logs."""
        self.slow = slow
        """As the webhook's row was read last. Written by `refresh`."""
        self.healthy = False
        """Whether all went well when it was last heard of: then more may be claimed than is sent at a time. Written by
        `complete`."""

    def refresh(self, snapshot: WebhookSnapshot) -> None:
        """Go by the webhook's row as it was just read."""
        self.slow = snapshot.slow
        self._recorder.refresh(snapshot)

    def submit(self, claimed: Sequence[ClaimedDelivery], claimed_at: datetime, lease_until: datetime) -> None:
        """Send what was claimed at a time, until another. Slots for all of it are held, and released by `complete`."""
        self.leased_until = lease_until
        self._executor.submit(
            ClaimedBatch(claimed_at, claimed),
            webhook_id=self._webhook_id,
            endpoint=self.endpoint,
            token=self._token,
            complete=self._background.register(self, len(claimed)),
        )

    def complete(self, results: list[AttemptResult]) -> None:
        """Record results and release their slots; a drain is woken for what was not sent after all."""
        try:
            recorded = self._recorder.record(results)
            self.healthy = recorded.healthy  # before others are given the slots, who ask for more by it
        finally:
            self._limiter.release(self._webhook_id, len(results))
        if any(isinstance(one, ReleasedClaim) for one in results):
            self._wakeups.request(self._webhook_id, slow=recorded.slow)


class FastPath:
    """Decides which new deliveries a process sends by itself, and sends them.

    Threads of several evaluations share it. `_lock` guards `_sessions`, and that sessions are refreshed one at a time.
    """

    def __init__(
        self,
        *,
        limiter: InFlightLimiter,
        endpoints: EndpointCache,
        executor: AttemptExecutor,
        recorders: RecorderFactory,
        background: BackgroundRecorder,
        wakeups: Wakeups,
        now: Callable[[], datetime],
        consumes: Callable[[str], bool],
        lease_margin: timedelta,
    ) -> None:
        """Args, besides the parts that it sends with:

        now: the database's time, without asking it.
        consumes: whether this worker takes messages of a queue: operators may keep delivering to other hosts.
        lease_margin: how long past its time-out a claim lasts.
        """
        self._limiter = limiter
        self._endpoints = endpoints
        self._executor = executor
        self._recorders = recorders
        self._background = background
        self._wakeups = wakeups
        self._now = now
        self._consumes = consumes
        self._lease_margin = lease_margin
        self._token = secrets.randbits(62)
        """The claim token of all that this process sends on the fast path."""
        self._sessions: dict[int, FastPathSession] = {}
        """By webhook. A session that is replaced, because its endpoint was opened anew, lives on until its requests
        have ended."""
        self._lock = threading.Lock()

    def reserve(self, deliveries: Sequence[NewDelivery], webhooks: Mapping[int, WebhookSnapshot]) -> Reservation:
        """Take slots for those of these new deliveries that can be sent as soon as they are committed.

        Args:
            deliveries: what is about to be stored.
            webhooks: as this transaction read them.

        Returns:
            The slots taken. The caller must `submit` or `cancel` it.
        """
        claimed_at = self._now()
        counts: Counter[int] = Counter()
        chars: Counter[int] = Counter()
        for delivery in deliveries:
            webhook_id, payload = delivery["webhook_id"], delivery["payload"]
            if delivery["status"] == "pending" and webhook_id is not None and payload is not None:
                counts[webhook_id] += 1
                chars[webhook_id] += len(payload)
        sessions: dict[int, FastPathSession] = {}
        waiting: set[int] = set()
        for webhook_id, count in counts.items():
            session = self._session(webhooks.get(webhook_id))
            if session is None:
                continue
            prefetch = session.healthy and chars[webhook_id] <= count * PREFETCH_MAX_PAYLOAD_CHARS
            if self._limiter.try_acquire_all(webhook_id, count, slow=session.slow, prefetch=prefetch):
                sessions[webhook_id] = session
            elif session.slow and self._limiter.wait_for_capacity(webhook_id, slow=True):
                waiting.add(webhook_id)
        longest = max((one.endpoint.policy.timeout_seconds for one in sessions.values()), default=0.0)
        until = claimed_at + timedelta(seconds=longest + MAX_SEND_DELAY_SECONDS) + self._lease_margin
        claims = NewClaims(tuple(sessions), self._token, until)
        return Reservation(sessions, {one: counts[one] for one in sessions}, claims, claimed_at, waiting)

    def cancel(self, reservation: Reservation) -> None:
        """Release the slots: nothing of the batch was stored."""
        for webhook_id, count in reservation.counts.items():
            self._limiter.release(webhook_id, count)

    def submit(
        self,
        reservation: Reservation,
        deliveries: Sequence[NewDelivery],
        stored: Mapping[str, int],
        entities: Mapping[int, str],
    ) -> None:
        """Send what was reserved and is committed.

        Args:
            reservation: from `reserve`.
            deliveries: the same.
            stored: the `seq` of those that were stored under the claim, by their ids. Another evaluation may have
                stored some before; their slots are released.
            entities: the names of the deliveries' entities, by their ids.
        """
        claimed: dict[int, list[ClaimedDelivery]] = {webhook_id: [] for webhook_id in reservation.sessions}
        for delivery in deliveries:
            webhook_id, payload = delivery["webhook_id"], delivery["payload"]
            if (seq := stored.get(delivery["id"])) is not None and webhook_id is not None and payload is not None:
                claimed[webhook_id].append(_as_claimed(delivery, payload, seq, entities[delivery["entity_id"]]))
        for webhook_id, several in claimed.items():
            missing = reservation.counts[webhook_id] - len(several)
            if missing:
                self._limiter.release(webhook_id, missing)
            if several:
                reservation.sessions[webhook_id].submit(several, reservation.claimed_at, reservation.claims.lease_until)

    def warm_up(self, snapshots: Iterable[WebhookSnapshot]) -> None:
        """Open the endpoints of webhooks whose deliveries had to wait because they were not, for the next time."""
        if self.takes_part():
            self._endpoints.warm_up(snapshots)

    def takes_part(self) -> bool:
        """Whether this worker delivers at all, in either lane."""
        return self._consumes(DELIVER_QUEUE) or self._consumes(SLOW_QUEUE)

    def _session(self, snapshot: WebhookSnapshot | None) -> FastPathSession | None:
        """The session of a webhook that may be sent to just now and whose endpoint is open here; else None."""
        if snapshot is None or snapshot.paused or not self._consumes(SLOW_QUEUE if snapshot.slow else DELIVER_QUEUE):
            return None
        endpoint = self._endpoints.get(snapshot)
        if endpoint is None or needs_admission(endpoint.policy, snapshot.circuit):
            return None
        with self._lock:
            session = self._sessions.get(snapshot.id)
            if session is None or session.endpoint is not endpoint:
                if len(self._sessions) >= KEPT_ENDPOINTS:
                    self._sessions = {}
                session = self._sessions[snapshot.id] = self._open_session(snapshot, endpoint)
            session.refresh(snapshot)
        return session

    def _open_session(self, snapshot: WebhookSnapshot, endpoint: Endpoint) -> FastPathSession:
        return FastPathSession(
            webhook_id=snapshot.id,
            endpoint=endpoint,
            slow=snapshot.slow,
            token=self._token,
            executor=self._executor,
            recorder=self._recorders.open(snapshot, endpoint, token=self._token),
            background=self._background,
            limiter=self._limiter,
            wakeups=self._wakeups,
        )


def _as_claimed(delivery: NewDelivery, payload: str, seq: int, entity: str) -> ClaimedDelivery:
    """A new delivery as a claim of it would return it."""
    return ClaimedDelivery(
        seq=seq,
        id=delivery["id"],
        payload=payload,
        attempts=0,
        event_received_at=delivery["event_received_at"],
        due_at=delivery["created_at"],
        automation_id=delivery["automation_id"],
        entity=entity,
        event_id=delivery["event_id"],
        event_source=delivery["event_source"],
        event_type=delivery["event_type"],
        traceparent=delivery.get("traceparent"),
    )
