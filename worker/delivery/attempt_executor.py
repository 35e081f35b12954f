"""From claimed deliveries to requests on the process's event loop, each of which ends as an outcome.

Must not know where deliveries come from nor record what came of them: `drain.py` and `fast_path.py` do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from shared.delivery.endpoint import Endpoint
from shared.domain.delivery.outcomes import Outcome, OutcomeKind
from shared.domain.payloads.sealed import SecretsTooLarge, SecretUnavailable
from shared.http.failures import own_fault
from shared.http.request import Request
from shared.observability.logs import get_logger, traceback_places
from shared.observability.trace_context import TRACEPARENT
from shared.storage.delivery.claims import ClaimedDelivery
from worker.delivery.attempt_result import AttemptResult, CompletedAttempt, ReleasedClaim
from worker.delivery.claims import MAX_SEND_DELAY_SECONDS, ClaimedBatch
from worker.delivery.request_scheduler import Request as Attempt
from worker.delivery.spans import context_of

if TYPE_CHECKING:
    from worker.bootstrap import WorkerProcess

log = get_logger("hookline.deliver")


@dataclass(frozen=True, slots=True)
class PendingAttempt:
    """A request on its way out, since when it may be sent, and whether it is let through a half-open circuit."""

    delivery: ClaimedDelivery
    request: Request
    since: datetime
    probe: bool


class AttemptExecutor:
    """Attempts to deliver to one webhook what was claimed with `token`; `put` is told how each ended, on any thread."""

    def __init__(
        self,
        runtime: WorkerProcess,
        webhook_id: int,
        endpoint: Endpoint,
        *,
        token: int,
        put: Callable[[AttemptResult], None],
    ) -> None:
        self._runtime = runtime
        self._webhook_id = webhook_id
        self._endpoint = endpoint
        self._token = token
        self._put = put

    def launch(self, haul: ClaimedBatch) -> None:
        """Send what was claimed, as soon as it may be sent; from any thread."""
        at_once, later = [], []
        for number, delivery in enumerate(haul.claimed):
            request = self._request(delivery, haul)
            if request is None:
                continue
            since = haul.slots[number] if haul.slots else haul.at
            flight = partial(self._attempt, PendingAttempt(delivery, request, since, haul.probe))
            if since > haul.at:
                later.append(((since - haul.at).total_seconds(), flight))
            else:
                at_once.append(flight)
        if at_once or later:
            self._runtime.sending.call(self._take_off, at_once, later)

    def _take_off(self, at_once: Sequence[Attempt], later: Sequence[tuple[float, Attempt]]) -> None:
        self._runtime.wire.launch(self._webhook_id, at_once)
        for wait_seconds, flight in later:
            asyncio.get_running_loop().call_later(wait_seconds, self._runtime.wire.launch, self._webhook_id, [flight])

    def _request(self, delivery: ClaimedDelivery, haul: ClaimedBatch) -> Request | None:
        try:
            request = self._endpoint.request(delivery, haul.at)
            if self._runtime.tracing is not None:
                request.headers[TRACEPARENT] = context_of(delivery, self._token).header
            return request
        except (SecretUnavailable, SecretsTooLarge) as exc:
            outcome = Outcome(kind=OutcomeKind.BLOCKED, error=str(exc), duration_seconds=0.0)
        except Exception as exc:
            outcome = _fault(delivery, exc)
        self._put(CompletedAttempt(delivery, haul.at, outcome, haul.probe))
        return None

    async def _attempt(self, flight: PendingAttempt) -> None:
        started_at = self._runtime.clock.estimate()
        if (started_at - flight.since).total_seconds() > MAX_SEND_DELAY_SECONDS:
            self._put(ReleasedClaim(flight.delivery))
            return
        try:
            outcome = await self._runtime.sending.sender.send(flight.request)
        except Exception as exc:
            outcome = _fault(flight.delivery, exc)
        self._put(CompletedAttempt(flight.delivery, started_at, outcome, flight.probe))


def _fault(delivery: ClaimedDelivery, exc: Exception) -> Outcome:
    """A fault of ours: it must not leave a drain waiting for an outcome that never comes, nor keep others back."""
    log.error("delivery.fault", delivery_id=delivery.id, error=type(exc).__name__, at=traceback_places(exc))
    return Outcome(kind=OutcomeKind.INTERNAL, error=own_fault(exc), duration_seconds=0.0)
