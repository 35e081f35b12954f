"""A drain of many webhooks: what is due for them is claimed by one statement, sent, and left to be recorded together.

It waits for no answer, so it holds its thread for milliseconds, however many of the endpoints hang. It is for webhooks
with little due each, of which there are many. What it finds to be another case goes to drains of its own: a webhook
with limits, with a circuit that is half open, in the slow lane, or with a client certificate; and one with much due
where there are few such.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from redis import Redis
from sqlalchemy import Engine

from shared.messaging.celery_app import WEBHOOK_TASK
from shared.messaging.wakeups import token_key
from shared.storage.database.clock import DatabaseClock
from shared.storage.database.transactions import write_statement
from shared.storage.delivery.admission import needs_admission
from shared.storage.delivery.claims import ClaimedDelivery, WantedClaim, claim_many
from worker.delivery.claim_budget import INITIAL_CLAIM_SIZE
from worker.delivery.claims import lease_of
from worker.delivery.endpoint_cache import EndpointCache, Opened
from worker.delivery.in_flight import InFlightLimiter, SlotRequest
from worker.delivery.payload_budget import PayloadBudget
from worker.delivery.sessions import WebhookSession, WebhookSessions

DRAINED_ALONE = 4
"""Where no more webhooks than this have more due than was claimed, each gets a drain of its own, which claims hundreds
at a time. More are drained together again, so that messages stay few."""


class Wakeups(Protocol):
    """What requests drains, and raises nothing where that fails."""

    def request_each(self, lanes: Mapping[int, bool]) -> None:
        """Request a drain of its own for each of these webhooks, given with whether it is slow."""


class JointDrainer:
    """Drains sets of webhooks, each on the thread that asks for it. Threads share it: it keeps nothing of a drain."""

    def __init__(
        self,
        *,
        redis: Redis,
        engine: Engine,
        clock: DatabaseClock,
        endpoints: EndpointCache,
        limiter: InFlightLimiter,
        payloads: PayloadBudget,
        sessions: WebhookSessions,
        wakeups: Wakeups,
        lease_margin: timedelta,
    ) -> None:
        self._redis = redis
        self._engine = engine
        self._clock = clock
        self._endpoints = endpoints
        self._limiter = limiter
        self._payloads = payloads
        self._sessions = sessions
        self._wakeups = wakeups
        self._lease_margin = lease_margin

    def drain(self, webhook_ids: Collection[int]) -> int:
        """Send some of what is due for each of these webhooks, as far as there are slots.

        Returns:
            The number of deliveries that were claimed.

        Raises:
            SQLAlchemyError, RedisError: when the database or Redis is away.
        """
        # From here on news wakes a drain again, since this one may have looked before.
        self._redis.delete(*(token_key(self._redis, WEBHOOK_TASK, one) for one in webhook_ids))
        opened = self._endpoints.open_webhooks(webhook_ids)
        apart = {one: snapshot.slow for one, (snapshot, _) in opened.items() if not _is_usual(opened[one])}
        if apart:
            self._wakeups.request_each(apart)
        usual = [one for one in opened if one not in apart]
        slots = self._limiter.acquire_some([SlotRequest(one, INITIAL_CLAIM_SIZE, slow=False) for one in usual])
        max_chars = self._payloads.reserve(sum(slots.values())) if slots else 0
        if not max_chars:
            self._limiter.release_all(slots)
            return 0
        claimed = self._claim_and_send(opened, slots, max_chars)
        deep = [one for one, several in claimed.items() if len(several) == INITIAL_CLAIM_SIZE]
        if 0 < len(deep) <= DRAINED_ALONE:
            self._wakeups.request_each(dict.fromkeys(deep, False))
        return sum(map(len, claimed.values()))

    def _claim_and_send(
        self, opened: Mapping[int, Opened], slots: Mapping[int, int], max_chars: int
    ) -> Mapping[int, Sequence[ClaimedDelivery]]:
        token = secrets.randbits(62)
        claimed: Mapping[int, Sequence[ClaimedDelivery]] = {}
        # Not later, with a connection in hand: a thread that holds one must not wait for a second.
        self._clock.refresh()
        try:
            with write_statement(self._engine) as connection:
                now = self._clock.estimate()
                wanted = [
                    WantedClaim(one, count, now + lease_of(opened[one][1].policy, self._lease_margin))
                    for one, count in slots.items()
                ]
                claimed = claim_many(connection, wanted, now=now, token=token, max_bytes=max_chars)
        finally:
            chars = sum(len(one.payload) for several in claimed.values() for one in several)
            self._payloads.settle(max_chars, chars)
            left = {one: count - len(claimed.get(one, ())) for one, count in slots.items()}
            self._limiter.release_all({one: count for one, count in left.items() if count})
        leases = {one.webhook_id: one.lease_until for one in wanted}
        several: list[tuple[WebhookSession, Sequence[ClaimedDelivery]]] = []
        for one, deliveries in claimed.items():
            session = self._sessions.make(*opened[one], token=token)
            session.leased_until = leases[one]
            session.left_some_due = len(deliveries) == slots[one] or chars >= max_chars
            several.append((session, deliveries))
        self._sessions.send(several, claimed_at=now)
        return claimed


def _is_usual(opened: Opened) -> bool:
    """Whether a webhook's deliveries may be claimed and sent with those of others."""
    snapshot, endpoint = opened
    return not snapshot.slow and endpoint.tls is None and not needs_admission(endpoint.policy, snapshot.circuit)
