"""Waking drains from within a worker, where a wake that is not sent costs a moment and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from redis.exceptions import RedisError

from shared.messaging.celery_app import WEBHOOK_TASK
from shared.messaging.wakeups import BrokerUnavailable, Waker
from shared.observability.logs import get_logger

log = get_logger("hookline.wakeups")


class DrainWakeups:
    """Requests drains of webhooks and logs when Redis or the broker is away, instead of raising.

    The pump's next sweep finds what a lost request was for, so callers go on with what they were doing. Threads may
    share it: it keeps nothing.
    """

    def __init__(self, waker: Waker) -> None:
        self._waker = waker

    def request(self, webhook_id: int, *, slow: bool) -> None:
        """Request a drain of a webhook, in the lane for slow ones where it is `slow`."""
        self.request_all({webhook_id: slow})

    def request_all(self, lanes: Mapping[int, bool]) -> None:
        """Request drains of these webhooks, each given with whether it is slow."""
        self._request(lanes, together=True)

    def request_each(self, lanes: Mapping[int, bool]) -> None:
        """Request a drain of its own for each of these webhooks, given with whether it is slow."""
        self._request(lanes, together=False)

    def _request(self, lanes: Mapping[int, bool], *, together: bool) -> None:
        try:
            slow = {one for one, is_slow in lanes.items() if is_slow}
            self._waker.wake_webhooks(lanes, slow=slow, together=together)
        except (RedisError, BrokerUnavailable, OSError) as exc:
            log.warning("wake.failed", error=type(exc).__name__)

    def recruit(self, webhook_id: int, *, slow: bool) -> None:
        """Request one more drain of a webhook while another is at work.

        The drain at work holds the token that coalesces wake-ups: without it the request would not be sent.

        Raises:
            RedisError: when the token cannot be cleared.
        """
        self._waker.clear_token(WEBHOOK_TASK, webhook_id)
        self.request(webhook_id, slow=slow)
