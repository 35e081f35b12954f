"""From claimed deliveries to requests on the process's event loop, each of which ends as an attempt's result.

Must not know where deliveries come from nor record what came of them: `drain.py` and `fast_path.py` do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, Protocol

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
from worker.delivery.request_scheduler import RequestScheduler
from worker.delivery.spans import context_of

log = get_logger("hookline.deliver")

Complete = Callable[[AttemptResult], None]
"""Takes the result of each claimed delivery, exactly once: on the thread that submits where no request could be built,
else on the event loop's. So it has to be quick and must not raise."""


class EventLoop(Protocol):
    """The event loop that makes requests, as other threads see it."""

    def call_soon(self, act: Callable[..., None], *arguments: Any) -> None:
        """Have the loop call a function in its next round."""


@dataclass(frozen=True, slots=True)
class PendingAttempt:
    """A request that waits to be sent."""

    delivery: ClaimedDelivery
    request: Request
    not_before: datetime
    """When it may be sent; `MAX_SEND_DELAY_SECONDS` later it may not be sent any more."""
    probe: bool


@dataclass(frozen=True, slots=True)
class Submission:
    """Deliveries of one webhook that are to be sent, see `AttemptExecutor.submit`."""

    batch: ClaimedBatch
    webhook_id: int
    endpoint: Endpoint
    token: int
    complete: Complete


class _Prepared(NamedTuple):
    """The requests to one webhook."""

    webhook_id: int
    now: list[Attempt]
    later: list[tuple[float, Attempt]]
    """Each with after how many seconds it may be sent."""

    @property
    def any(self) -> bool:
        return bool(self.now or self.later)


class AttemptExecutor:
    """Makes the requests of claimed deliveries, of all webhooks of a process.

    It keeps no state of its own, so any thread may submit; `scheduler` is touched on the event loop only.
    """

    def __init__(
        self,
        *,
        loop: EventLoop,
        scheduler: RequestScheduler,
        send: Callable[[Request], Awaitable[Outcome]],
        now: Callable[[], datetime],
        traced: bool,
    ) -> None:
        self._loop = loop
        self._scheduler = scheduler
        self._send = send
        self._now = now
        self._traced = traced

    def submit(
        self, batch: ClaimedBatch, *, webhook_id: int, endpoint: Endpoint, token: int, complete: Complete
    ) -> None:
        """Send what was claimed, each as soon as it may be sent; from any thread, and without waiting.

        Args:
            batch: deliveries of one webhook.
            webhook_id: the webhook, whose bound on concurrent requests applies.
            endpoint: the webhook's endpoint.
            token: the claim's, which tells attempts of one delivery apart in traces.
            complete: is given the result of each.
        """
        self.submit_all([Submission(batch, webhook_id, endpoint, token, complete)])

    def submit_all(self, submissions: Iterable[Submission]) -> None:
        """Send what was claimed of several webhooks, as `submit` does, with one step to the event loop."""
        if built := [attempts for one in submissions if (attempts := self._prepare(one)).any]:
            self._loop.call_soon(self._schedule, built)

    def _prepare(self, one: Submission) -> _Prepared:
        """The requests of a submission; where one can't be built, its result is given at once."""
        batch, prepared = one.batch, _Prepared(one.webhook_id, [], [])
        for number, delivery in enumerate(batch.claimed):
            built = self._build(delivery, batch, one.endpoint, one.token)
            if isinstance(built, Outcome):
                one.complete(CompletedAttempt(delivery, batch.claimed_at, built, batch.probe))
                continue
            not_before = batch.send_at[number] if batch.send_at else batch.claimed_at
            attempt = partial(self._attempt, PendingAttempt(delivery, built, not_before, batch.probe), one.complete)
            if not_before > batch.claimed_at:
                prepared.later.append(((not_before - batch.claimed_at).total_seconds(), attempt))
            else:
                prepared.now.append(attempt)
        return prepared

    def _schedule(self, several: Sequence[_Prepared]) -> None:
        """Runs on the event loop."""
        for one in several:
            self._scheduler.submit(one.webhook_id, one.now)
            for wait_seconds, attempt in one.later:
                asyncio.get_running_loop().call_later(wait_seconds, self._scheduler.submit, one.webhook_id, [attempt])

    def _build(
        self, delivery: ClaimedDelivery, batch: ClaimedBatch, endpoint: Endpoint, token: int
    ) -> Request | Outcome:
        """The request of a delivery; or the outcome of its attempt, where no request can be built."""
        try:
            request = endpoint.request(delivery, batch.claimed_at)
            if self._traced:
                request.headers[TRACEPARENT] = context_of(delivery, token).header
            return request
        except (SecretUnavailable, SecretsTooLarge) as exc:
            return Outcome(kind=OutcomeKind.BLOCKED, error=str(exc), duration_seconds=0.0)
        except Exception as exc:
            return _fault(delivery, exc)

    async def _attempt(self, attempt: PendingAttempt, complete: Complete) -> None:
        """Runs on the event loop, when the scheduler has a free slot."""
        started_at = self._now()
        if (started_at - attempt.not_before).total_seconds() > MAX_SEND_DELAY_SECONDS:
            complete(ReleasedClaim(attempt.delivery))
            return
        try:
            outcome = await self._send(attempt.request)
        except Exception as exc:
            outcome = _fault(attempt.delivery, exc)
        headers = attempt.request.headers
        complete(CompletedAttempt(attempt.delivery, started_at, outcome, attempt.probe, headers))


def _fault(delivery: ClaimedDelivery, exc: Exception) -> Outcome:
    """A fault of ours: it must not leave a drain waiting for an outcome that never comes, nor keep others back."""
    log.error("delivery.fault", delivery_id=delivery.id, error=type(exc).__name__, at=traceback_places(exc))
    return Outcome(kind=OutcomeKind.INTERNAL, error=own_fault(exc), duration_seconds=0.0)
