"""Waking drains from within a worker, where a wake that is not sent costs a moment and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from shared.messaging.wakeups import BrokerUnavailable
from shared.observability.logs import get_logger

if TYPE_CHECKING:
    from worker.bootstrap import WorkerProcess

log = get_logger("hookline.wakeups")


def wake(runtime: WorkerProcess, webhook_id: int, *, slow: bool) -> None:
    """Ask for another drain of the webhook; if that fails, the pump's next sweep finds the work."""
    try:
        runtime.waker.wake_webhooks([webhook_id], slow={webhook_id} if slow else ())
    except (RedisError, BrokerUnavailable, OSError) as exc:
        log.warning("wake.failed", error=type(exc).__name__)


def give_back(runtime: WorkerProcess, webhook_id: int, count: int) -> None:
    """Give a webhook's places back, and ask for drains of those that found none when they looked for some."""
    runtime.flights.give_back(webhook_id, count)
    for refused, slow in runtime.flights.let_in().items():
        wake(runtime, refused, slow=slow)
