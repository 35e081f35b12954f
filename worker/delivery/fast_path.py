"""Deliveries sent by the process that makes them: claimed as they are stored, and on their way with the commit.

That saves the message, the claim and the reads of a drain. It is for the usual case: the webhook was sent to from this
process before and nobody edited anything since, its circuit is closed, nothing limits it, and there is room. Everything
else waits in the database for a drain, and so does what this process leaves when it is killed, once its lease is over.

Must not decide what fires nor store anything: evaluation calls `reserve` before its commit, and `submit` or `cancel`
after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from shared.messaging.celery_app import DELIVER_QUEUE, SLOW_QUEUE
from shared.storage.delivery.claims import ClaimedDelivery
from shared.storage.delivery.webhook_snapshots import WebhookSnapshot
from shared.storage.evaluation.new_deliveries import NewClaims, NewDelivery
from worker.delivery.claims import MAX_SEND_DELAY_SECONDS, PREFETCH_MAX_PAYLOAD_CHARS
from worker.delivery.endpoint_cache import EndpointCache
from worker.delivery.in_flight import InFlightLimiter, SlotRequest
from worker.delivery.payload_budget import PayloadBudget
from worker.delivery.reservation import Reservation
from worker.delivery.sessions import WebhookSessions


class FastPath:
    """Decides which new deliveries a process sends by itself, and sends them. Threads of evaluations share it."""

    def __init__(
        self,
        *,
        limiter: InFlightLimiter,
        payloads: PayloadBudget,
        endpoints: EndpointCache,
        sessions: WebhookSessions,
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
        self._payloads = payloads
        self._endpoints = endpoints
        self._sessions = sessions
        self._now = now
        self._consumes = consumes
        self._lease_margin = lease_margin

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
        open_ones = self._sessions.open(
            [webhooks[one] for one in counts if one in webhooks and self._takes(webhooks[one])]
        )
        acquired = self._limiter.acquire_whole(
            SlotRequest(
                webhook_id,
                count := counts[webhook_id],
                session.slow,
                session.healthy and chars[webhook_id] <= count * PREFETCH_MAX_PAYLOAD_CHARS,
            )
            for webhook_id, session in open_ones.items()
        )
        if too_large := {one: counts[one] for one in acquired if not self._payloads.take(chars[one])}:
            self._limiter.release_all(too_large)  # their drains claim as much as there is memory for
        sessions = {one: open_ones[one] for one in acquired if one not in too_large}
        waiting = {
            one
            for one, session in open_ones.items()
            if session.slow and one not in acquired and self._limiter.wait_for_capacity(one, slow=True)
        }
        longest = max((one.endpoint.policy.timeout_seconds for one in sessions.values()), default=0.0)
        until = claimed_at + timedelta(seconds=longest + MAX_SEND_DELAY_SECONDS) + self._lease_margin
        claims = NewClaims(tuple(sessions), self._sessions.token, until)
        held = sum(chars[one] for one in sessions)
        return Reservation(sessions, {one: counts[one] for one in sessions}, held, claims, claimed_at, waiting)

    def cancel(self, reservation: Reservation) -> None:
        """Release the slots: nothing of the batch was stored."""
        if reservation.counts:
            self._limiter.release_all(reservation.counts)
            self._payloads.release(reservation.chars)

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
        missing = {one: reservation.counts[one] - len(several) for one, several in claimed.items()}
        if any(missing.values()):
            self._limiter.release_all({one: count for one, count in missing.items() if count})
            kept = sum(len(one.payload) for several in claimed.values() for one in several)
            self._payloads.release(reservation.chars - kept)
        several = [(reservation.sessions[one], some) for one, some in claimed.items() if some]
        for session, _ in several:
            session.leased_until = reservation.claims.lease_until
        self._sessions.send(several, claimed_at=reservation.claimed_at)

    def warm_up(self, snapshots: Iterable[WebhookSnapshot]) -> None:
        """Open the endpoints of webhooks whose deliveries had to wait because they were not, for the next time."""
        if self.takes_part():
            self._endpoints.warm_up(snapshots)

    def takes_part(self) -> bool:
        """Whether this worker delivers at all, in either lane."""
        return self._consumes(DELIVER_QUEUE) or self._consumes(SLOW_QUEUE)

    def _takes(self, snapshot: WebhookSnapshot) -> bool:
        """Whether this worker delivers in the webhook's lane."""
        return self._consumes(SLOW_QUEUE if snapshot.slow else DELIVER_QUEUE)


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
