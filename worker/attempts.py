"""From claimed deliveries to requests on the process's event loop, each of which ends as an outcome.

Must not know where deliveries come from nor record what came of them: `worker.deliver` and `worker.firsthand` do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from shared.domain.outcomes import Outcome, OutcomeKind
from shared.domain.payloads import SecretUnavailable
from shared.logs import get_logger, places
from shared.send_failures import own_fault
from shared.sender import Request
from shared.storage.queue import Claimed
from shared.tracing import TRACEPARENT
from worker.endpoint import Endpoint
from worker.recording import Ended, Sent, Unsent
from worker.traces import context_of

if TYPE_CHECKING:
    from worker.runtime import Runtime

log = get_logger(__name__)

HOLD_SECONDS = 5.0
"""A delivery that waited longer for its turn in the process is put back where all workers find it."""
LIGHT_CHARS = 16_000
"""Only of payloads that are no longer than this, on average, more is claimed than is sent at once."""


@dataclass(frozen=True, slots=True)
class Haul:
    """What was claimed at once: when, at which times it may be sent if the rate is limited, and whether to probe."""

    at: datetime
    claimed: Sequence[Claimed] = ()
    slots: Sequence[datetime] | None = None
    probe: bool = False


@dataclass(frozen=True, slots=True)
class Flight:
    """A request on its way out: after how long it may be sent, and whether it is let through a half-open circuit."""

    delivery: Claimed
    request: Request
    wait_seconds: float
    probe: bool


class Attempts:
    """Attempts to deliver to one webhook what was claimed with `token`; `put` is told how each ended, on any thread."""

    def __init__(
        self, runtime: Runtime, webhook_id: int, endpoint: Endpoint, *, token: int, put: Callable[[Ended], None]
    ) -> None:
        self._runtime = runtime
        self._webhook_id = webhook_id
        self._endpoint = endpoint
        self._token = token
        self._put = put

    def launch(self, haul: Haul) -> None:
        """Send what was claimed, as soon as it may be sent; from any thread."""
        flights = [
            Flight(delivery, request, (haul.slots[number] - haul.at).total_seconds() if haul.slots else 0.0, haul.probe)
            for number, delivery in enumerate(haul.claimed)
            if (request := self._request(delivery, haul))
        ]
        if flights:
            self._runtime.sending.launch(self._attempt(flight) for flight in flights)

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
        self._put(Sent(delivery, haul.at, outcome, haul.probe))
        return None

    async def _attempt(self, flight: Flight) -> None:
        if flight.wait_seconds > 0:
            await asyncio.sleep(flight.wait_seconds)
        wire, began = self._runtime.wire, time.monotonic()
        await wire.take(self._webhook_id)
        try:
            self._put(await self._sent(flight, waited_seconds=time.monotonic() - began))
        finally:
            wire.give_back(self._webhook_id)

    async def _sent(self, flight: Flight, *, waited_seconds: float) -> Ended:
        if waited_seconds > HOLD_SECONDS:
            return Unsent(flight.delivery)
        started_at = self._runtime.clock.reckoned()
        try:
            outcome = await self._runtime.sending.sender.send(flight.request)
        except Exception as exc:
            outcome = _fault(flight.delivery, exc)
        return Sent(flight.delivery, started_at, outcome, flight.probe)


def _fault(delivery: Claimed, exc: Exception) -> Outcome:
    """A fault of ours: it must not leave a drain waiting for an outcome that never comes, nor keep others back."""
    log.error("delivery.fault", delivery_id=delivery.id, error=type(exc).__name__, at=places(exc))
    return Outcome(kind=OutcomeKind.INTERNAL, error=own_fault(exc), duration_seconds=0.0)
