"""Claims of deliveries, and until when each may be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from shared.domain.delivery.circuits import Circuit, CircuitState
from shared.domain.delivery.rate_limit import HORIZON
from shared.domain.delivery.retries import DeliveryPolicy
from shared.storage.database.clock import DatabaseClock
from shared.storage.database.transactions import write_statement, write_transaction
from shared.storage.delivery.admission import admit, needs_admission, record_admitted
from shared.storage.delivery.claims import ClaimedDelivery, claim
from worker.delivery.attempt_result import LONG_AGO

MAX_SEND_DELAY_SECONDS = 5.0
"""A delivery is sent within this time of its claim, or of its rate-limit slot, or its claim is released to all workers.

In between may come the requests before it, a commit whose answer was slow, or a process that stood still. The lease,
which counts from the claim too, has to outlast the request, so this is part of every lease: twice as much and the
deliveries of a killed worker would wait 5 s longer; half, and a busy second would send claims back and forth.
"""

PREFETCH_MAX_PAYLOAD_CHARS = 16_000
"""More is claimed than is sent at a time only where payloads are no longer than this on average.

Chosen so that what is prefetched stays small: `PREFETCH_FACTOR` times `HOOKLINE_MAX_CONNECTIONS` payloads of this size
are some tens of megabytes. Payloads of 1 MiB would take gigabytes.
"""


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """What was claimed of one webhook in one statement or transaction."""

    claimed_at: datetime
    claimed: Sequence[ClaimedDelivery] = ()
    send_at: Sequence[datetime] | None = None
    """When each of `claimed` may be sent, if the webhook's rate is limited; there may be more times than deliveries."""
    probe: bool = False
    """Whether this is the one request that tries a half-open circuit."""
    limited: bool = False
    """Whether the webhook's own limits or its circuit let fewer be claimed than were asked for."""

    @property
    def has_small_payloads(self) -> bool:
        """Whether payloads are short enough, on average, to claim more of them than are sent at a time."""
        return sum(len(one.payload) for one in self.claimed) <= len(self.claimed) * PREFETCH_MAX_PAYLOAD_CHARS


def lease_of(policy: DeliveryPolicy, margin: timedelta) -> timedelta:
    """How long a claim lasts: until a delivery that was sent as late as may be has ended, and `margin` more.

    A rate-limited delivery may wait for its slot for as long as slots are given ahead, `HORIZON`.
    """
    lease = timedelta(seconds=policy.timeout_seconds + MAX_SEND_DELAY_SECONDS) + margin
    return lease if policy.rate_limit is None else lease + HORIZON


class WebhookClaimer:
    """Claims due deliveries of one webhook under one token, for one drain. It belongs to that drain's thread."""

    def __init__(
        self,
        *,
        engine: Engine,
        clock: DatabaseClock,
        webhook_id: int,
        policy: DeliveryPolicy,
        lease: timedelta,
        token: int,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._policy = policy
        self._lease = lease
        self.webhook_id = webhook_id
        self.token = token
        self.leased_until = LONG_AGO
        """When the last lease that this claimer took ends."""

    def is_limited(self, circuit: Circuit) -> bool:
        """Whether the webhook has limits of its own, or a circuit that is not closed: claims take turns then."""
        return needs_admission(self._policy, circuit)

    def is_held_up(self, circuit: Circuit) -> bool:
        """Whether nothing can be claimed now because the circuit is open."""
        return circuit.state(self._clock.now()) is CircuitState.OPEN

    def claim(self, limit: int, *, circuit: Circuit, max_bytes: int) -> ClaimedBatch:
        """Claim up to `limit` of what is due.

        Leases and rate-limit slots count from when the database let this drain in: it may have waited long for a
        connection, for SQLite's one writer, or for others that claim under the webhook's limits.

        Args:
            limit: how many there are slots for.
            circuit: as last known; a closed one without limits needs no lock on the webhook's row.
            max_bytes: the claim ends with the delivery whose payload reaches this.

        Raises:
            SQLAlchemyError: when the database is away or does not take it. Nothing is claimed then, or the claim is
                lost with the answer and its lease runs out.
        """
        # Not later, with a connection in hand: a thread that holds one must not wait for a second.
        self._clock.refresh()
        if not self.is_limited(circuit):
            with write_statement(self._engine) as connection:
                now = self._clock.estimate()
                return ClaimedBatch(now, self._claim(connection, limit, now, max_bytes))
        with write_transaction(self._engine) as connection:
            admission = admit(connection, self.webhook_id, self._policy, wanted=limit, clock=self._clock.estimate)
            now, limited = admission.at, admission.limit < limit
            if not admission.limit:
                return ClaimedBatch(now, limited=limited)
            claimed = self._claim(connection, admission.limit, now, max_bytes)
            record_admitted(
                connection,
                self.webhook_id,
                self._policy,
                admission,
                claimed=len(claimed),
                lease_until=now + self._lease,
            )
            return ClaimedBatch(now, claimed, admission.slots, admission.probing, limited)

    def _claim(self, connection: Connection, limit: int, now: datetime, max_bytes: int) -> Sequence[ClaimedDelivery]:
        self.leased_until = until = now + self._lease
        return claim(
            connection,
            self.webhook_id,
            limit=limit,
            now=now,
            lease_until=until,
            token=self.token,
            max_bytes=max_bytes,
        )
