"""Threads for calls that may take long, shared fairly: few calls run at the same time, and fewer of one user."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread
from anyio import CapacityLimiter

from dispatcher.api.problems import RETRY_AFTER_SECONDS, Problem

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(slots=True)
class _UserQueue:
    """One user's calls that run or wait."""

    running: anyio.Semaphore
    length: int = 0


@dataclass(slots=True)
class FairThreads:
    """Runs calls that block in threads that nothing else uses, so that `/readyz` and publishing never wait for them.

    Only the event loop's thread uses it.
    """

    threads: int
    """How many calls run at the same time."""
    threads_of_a_user: int
    """How many calls of one user run at the same time."""
    longest_queue: int
    """How many calls of one user may run or wait; the next is refused."""
    _threads: CapacityLimiter = field(init=False)
    _queues: dict[int, _UserQueue] = field(init=False)

    def __post_init__(self) -> None:
        self._threads = CapacityLimiter(self.threads)
        self._queues = defaultdict(lambda: _UserQueue(anyio.Semaphore(self.threads_of_a_user)))

    async def run(self, user_id: int, call: Callable[_P, _R], *arguments: _P.args, **named: _P.kwargs) -> _R:
        """The call's result, once a thread is free. Raises Problem (429) when too many of the user's calls wait."""
        queue = self._queues[user_id]
        if queue.length >= self.longest_queue:
            detail = f"{self.longest_queue} requests of yours are being answered or wait: try again when they are done"
            raise Problem(429, "too-many-requests", detail, headers={"Retry-After": RETRY_AFTER_SECONDS})
        queue.length += 1
        try:
            async with queue.running:
                return await anyio.to_thread.run_sync(lambda: call(*arguments, **named), limiter=self._threads)
        finally:
            queue.length -= 1
            if not queue.length:
                del self._queues[user_id]
