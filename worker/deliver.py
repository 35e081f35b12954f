"""drain_webhook: claim what is due for a webhook, send it concurrently, record every outcome in bulk.

The drain's thread talks to the database, the process's event loop sends; between them is a queue of outcomes. While one
batch is being recorded others finish, so writes grow with the load by themselves. A drain waits for an endpoint only as
long as it answers briskly: what takes longer it leaves to the process's stragglers.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from redis.exceptions import RedisError
from redis.lock import Lock
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from shared import telemetry
from shared.domain.circuits import CircuitState
from shared.domain.outcomes import Outcome, OutcomeKind
from shared.domain.pacing import HORIZON
from shared.domain.payloads import SecretUnavailable
from shared.logs import get_logger, places
from shared.send_failures import own_fault
from shared.sender import Request
from shared.storage.engine import at_once, glance, reading, writing
from shared.storage.flow import admit, is_limited, note_claimed
from shared.storage.queue import Claimed, EndpointRow, claim, has_due, load_endpoint
from shared.storage.webhooks import public_id
from shared.tracing import TRACEPARENT
from shared.vault import SecretUnreadable
from shared.wakes import WEBHOOK_TASK, BrokerUnavailable
from worker.endpoint import Endpoint
from worker.locks import one_of, renew
from worker.outcomes import Outcomes
from worker.recording import Fared, Recorder, Sent
from worker.runtime import Runtime
from worker.traces import context_of

log = get_logger(__name__)

RENEW_SECONDS = 1.0
PATIENCE_SECONDS = 0.25
"""A drain waits this long for the next outcome before it leaves what is in flight to the stragglers."""


@dataclass(frozen=True, slots=True)
class Flight:
    """A request on its way out: after how long it may be sent, and whether it is let through a half-open circuit."""

    delivery: Claimed
    request: Request
    wait_seconds: float
    probe: bool


@dataclass(frozen=True, slots=True)
class Haul:
    """What was claimed at once: when, at which times it may be sent if the rate is limited, and whether to probe."""

    at: datetime
    claimed: Sequence[Claimed] = ()
    slots: Sequence[datetime] | None = None
    probe: bool = False


def drain_webhook(runtime: Runtime, webhook_id: int) -> int:
    """Deliver what is due for a webhook until nothing is, nothing more may be sent, or the time slice is over.

    Returns:
        The number of attempts that this drain saw the end of.
    """
    with one_of(runtime.redis, f"webhook:{webhook_id}", runtime.settings.drains_per_webhook) as lock:
        if lock is None:
            return 0
        try:
            opened = _open(runtime, webhook_id)
            if opened is None:
                return 0
            row, endpoint = opened
            drain = WebhookDrain(runtime, row, endpoint, lock)
            made = drain.run()
        finally:
            # Until here news woke nobody, since this drain would claim it.
            runtime.waker.ended(WEBHOOK_TASK, webhook_id)
    # What became due since the last claim woke nobody either, and what is left after the slice needs another turn.
    if not drain.held_up:
        wake_if_due(runtime, webhook_id, slow=row.slow)
    return made


def wake_if_due(runtime: Runtime, webhook_id: int, *, slow: bool) -> None:
    """Ask for another drain of the webhook where something is due."""
    now = runtime.clock.now()
    with glance(runtime.engine) as connection:
        due = has_due(connection, webhook_id, now)
    if due:
        wake(runtime, webhook_id, slow=slow)


def wake(runtime: Runtime, webhook_id: int, *, slow: bool) -> None:
    """Ask for another drain of the webhook; if that fails, the pump's next sweep finds the work."""
    try:
        runtime.waker.webhooks([webhook_id], slow={webhook_id} if slow else ())
    except (RedisError, BrokerUnavailable, OSError) as exc:
        log.warning("wake.failed", error=type(exc).__name__)


def _open(runtime: Runtime, webhook_id: int) -> tuple[EndpointRow, Endpoint] | None:
    """The webhook with its secrets decrypted; None while nothing may be sent to it."""
    now = runtime.clock.now()
    with glance(runtime.engine) as connection:
        row = load_endpoint(connection, webhook_id)
    if row is None or row.circuit.state(now) is CircuitState.OPEN:
        return None
    if (kept := runtime.endpoints.kept(row)) is not None:
        return row, kept
    # With its secrets it is read again, so that they are of one picture.
    with reading(runtime.engine) as connection:
        row = load_endpoint(connection, webhook_id)
        if row is None:
            return None
        try:
            return row, runtime.endpoints.open(connection, row)
        except SecretUnreadable as exc:
            telemetry.SECRETS_UNREADABLE.inc()
            # Ours to mend, not the receiver's: the deliveries stay due until the key is back.
            log.error("webhook.secret_unreadable", webhook_id=public_id(row.kind, row.id), error=str(exc))
            return None


def _prompt_since(row: EndpointRow, endpoint: Endpoint) -> datetime | None:
    """What fell due since then should be sent at once; None while the webhook itself has others wait."""
    if row.slow or is_limited(endpoint.policy, row.circuit):
        return None
    return row.resumed_at or datetime.min.replace(tzinfo=UTC)


class WebhookDrain:
    """One drain at work: what it has claimed and sent, and what came back."""

    def __init__(self, runtime: Runtime, row: EndpointRow, endpoint: Endpoint, lock: Lock) -> None:
        self._runtime = runtime
        self._settings = runtime.settings
        self._webhook_id = row.id
        self._endpoint = endpoint
        self._circuit = row.circuit
        self._slow = row.slow
        self._lock = lock
        self._token = secrets.randbits(62)
        self._lease = timedelta(seconds=endpoint.policy.timeout_seconds) + self._settings.lease_margin
        if endpoint.policy.rate_limit is not None:
            self._lease += HORIZON  # so long may a delivery wait for its slot
        self._recorder = Recorder(
            runtime.engine,
            runtime.clock,
            runtime.settings,
            row.id,
            endpoint,
            slow=row.slow,
            token=self._token,
            prompt_since=_prompt_since(row, endpoint),
            tracing=runtime.tracing,
        )
        self._outcomes = Outcomes()
        self._in_flight = 0
        self._stopped = self._dry = self._joined = False
        self.webhook = endpoint.webhook
        self.leased_until = datetime.min.replace(tzinfo=UTC)
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
                self._stopped |= not renew(self._lock)
            if self._may_claim():
                self._claim_and_send()
            if self._in_flight == 0:
                return made
            sent = self._collect()
            if not sent:
                return made
            made += len(sent)
            try:
                fared = self._recorder.record(sent)
            finally:
                self._release(len(sent))
            self._heed(fared)

    def _may_claim(self) -> bool:
        """Half of the places must be free: claiming for each answer anew would be many small transactions."""
        has_room = self._in_flight * 2 <= self._settings.max_in_flight
        return has_room and not (self._stopped or self._dry or self.held_up)

    def finish(self, sent: list[Sent]) -> None:
        """Record what ended after this drain had left, and wake another where there is more to do."""
        try:
            fared = self._recorder.record(sent)
        finally:
            self._runtime.flights.give_back(self._webhook_id, len(sent))
        if fared.disabled or fared.circuit.opened_at is not None:
            return
        try:
            wake_if_due(self._runtime, self._webhook_id, slow=fared.slow)
        except SQLAlchemyError as exc:
            log.warning("wake.failed", error=type(exc).__name__)  # and what has ended is recorded all the same

    def _claim_and_send(self) -> None:
        wanted = min(self._settings.max_in_flight - self._in_flight, self._settings.claim_batch)
        places = self._runtime.flights.take(self._webhook_id, wanted, slow=self._slow)
        if not places:
            self.held_up = True
            return
        taken = 0
        try:
            haul = self._claim(places)
            taken = len(haul.claimed)
        finally:
            self._runtime.flights.give_back(self._webhook_id, places - taken)
        self._dry = not taken and not self.held_up
        self._in_flight += taken
        prepared = [
            Flight(delivery, request, (haul.slots[number] - haul.at).total_seconds() if haul.slots else 0.0, haul.probe)
            for number, delivery in enumerate(haul.claimed)
            if (request := self._request(delivery, haul))
        ]
        if prepared:
            self._runtime.sending.launch(self._attempt(flight) for flight in prepared)
        if taken == places and not self._joined:
            self._joined = True
            self._call_another()

    def _call_another(self) -> None:
        """There is more than this drain can send at once: another worker may join it."""
        self._runtime.waker.ended(WEBHOOK_TASK, self._webhook_id)
        wake(self._runtime, self._webhook_id, slow=self._slow)

    def _claim(self, limit: int) -> Haul:
        """Claim up to `limit` of what is due.

        Leases and slots count from when the database let this drain in: it may have waited long for a connection, for
        SQLite's one writer, or for others that claim under the webhook's limits.
        """
        policy, clock = self._endpoint.policy, self._runtime.clock
        clock.now()  # looks at the database where it is time to: not later, with a connection in hand
        if not is_limited(policy, self._circuit):
            with at_once(self._runtime.engine) as connection:
                now = clock.reckoned()
                return Haul(now, self._claim_up_to(connection, limit, now))
        with writing(self._runtime.engine) as connection:
            admission = admit(connection, self._webhook_id, policy, wanted=limit, clock=clock.reckoned)
            now, self.held_up = admission.at, admission.limit < limit
            if not admission.limit:
                return Haul(now)
            claimed = self._claim_up_to(connection, admission.limit, now)
            until = now + self._lease
            note_claimed(connection, self._webhook_id, policy, admission, claimed=len(claimed), lease_until=until)
            return Haul(now, claimed, admission.slots, admission.probing)

    def _claim_up_to(self, connection: Connection, limit: int, now: datetime) -> Sequence[Claimed]:
        self.leased_until = until = now + self._lease
        return claim(connection, self._webhook_id, limit=limit, now=now, lease_until=until, token=self._token)

    def _request(self, delivery: Claimed, haul: Haul) -> Request | None:
        try:
            request = self._endpoint.request(delivery, haul.at)
            if self._runtime.tracing is not None:
                request.headers[TRACEPARENT] = context_of(delivery, self._token).header
            return request
        except SecretUnavailable as exc:
            outcome = Outcome(kind=OutcomeKind.BLOCKED, error=str(exc), duration_seconds=0.0)
        except Exception as exc:
            outcome = _fault(delivery, exc)
        self._outcomes.put(Sent(delivery, haul.at, outcome, haul.probe))
        return None

    async def _attempt(self, flight: Flight) -> None:
        if flight.wait_seconds > 0:
            await asyncio.sleep(flight.wait_seconds)
        started_at = self._runtime.clock.reckoned()
        try:
            outcome = await self._runtime.sending.sender.send(flight.request)
        except Exception as exc:
            outcome = _fault(flight.delivery, exc)
        self._outcomes.put(Sent(flight.delivery, started_at, outcome, flight.probe))

    def _collect(self) -> list[Sent]:
        """What has ended: about half of what is in flight, so that what is free is claimed at once."""
        return self._outcomes.take(wanted=(self._in_flight + 1) // 2, patience_seconds=PATIENCE_SECONDS)

    def _release(self, count: int) -> None:
        self._in_flight -= count
        self._runtime.flights.give_back(self._webhook_id, count)

    def _heed(self, fared: Fared) -> None:
        """Go on by what the answers said about the webhook; places are free again, so what held it up may be over."""
        self._circuit, self._slow, self._dry = fared.circuit, fared.slow, False
        self.held_up = fared.disabled is not None or fared.circuit.state(self._runtime.clock.now()) is CircuitState.OPEN

    def _leave(self) -> None:
        """Leave what is in flight, and what has ended and is not recorded yet, to the stragglers."""
        self._outcomes.hand_over(self._runtime.stragglers.expect(self, self._in_flight))


def _fault(delivery: Claimed, exc: Exception) -> Outcome:
    """A fault of ours: it must not leave the drain waiting for an outcome that never comes, nor keep others back."""
    log.error("delivery.fault", delivery_id=delivery.id, error=type(exc).__name__, at=places(exc))
    return Outcome(kind=OutcomeKind.INTERNAL, error=own_fault(exc), duration_seconds=0.0)
