"""Where a process makes its requests, so many at a time: what finds no slot waits here for its turn.

A few tasks make all requests, one after another: a task for each, or a semaphore, would cost as much as the rest.

Everything here runs on the one event loop, between two awaits at a time. That is what makes its state safe: there are
no locks, and no other thread may call it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

Request = Callable[[], Awaitable[None]]
"""Makes a request, when its turn has come; raises nothing."""


@dataclass(slots=True)
class _WebhookQueue:
    """The requests to one webhook that wait for their turn, and how many tasks make some."""

    waiting: deque[Request] = field(default_factory=deque)
    tasks: int = 0


class RequestScheduler:
    """Makes requests on the event loop on which it is used: `total` at a time, `per_webhook` of them to one webhook.

    Invariants, after each method and each task's end:

    - a webhook is in `_queues` exactly while requests to it wait or are being made;
    - where requests of a webhook wait and it has fewer than `per_webhook` tasks, `total` tasks are at work and the
      webhook is in `_round_robin`. So nothing waits while a slot is free.
    """

    def __init__(self, *, total: int, per_webhook: int) -> None:
        self._total = total
        self._per_webhook = per_webhook
        self._queues: dict[int, _WebhookQueue] = {}
        self._round_robin: dict[int, None] = {}
        """The webhooks whose requests wait because of `total`, in the order of their turns: an ordered set."""
        self._tasks: set[asyncio.Task[None]] = set()
        """The tasks at work. asyncio itself keeps only weak references to them."""

    def submit(self, webhook_id: int, requests: Iterable[Request]) -> None:
        """Make requests to a webhook as soon as there are slots."""
        queue = self._queues.setdefault(webhook_id, _WebhookQueue())
        queue.waiting.extend(requests)
        self._start_tasks(webhook_id, queue)

    def is_idle(self) -> bool:
        """Whether no request is being made, or waits for its turn."""
        return not self._queues

    def _start_tasks(self, webhook_id: int, queue: _WebhookQueue) -> None:
        """Start as many tasks as have something to do and a slot."""
        for _ in range(min(len(queue.waiting), self._per_webhook - queue.tasks)):
            if len(self._tasks) >= self._total:
                self._round_robin[webhook_id] = None
                return
            queue.tasks += 1
            self._tasks.add(asyncio.get_running_loop().create_task(self._work(webhook_id, queue)))
        if not queue.waiting and not queue.tasks:
            self._queues.pop(webhook_id, None)

    async def _work(self, webhook_id: int, queue: _WebhookQueue) -> None:
        try:
            while queue.waiting:
                await queue.waiting.popleft()()
                if self._round_robin:
                    break  # others have their turn first; what is left here goes to the end of the round below
        finally:
            queue.tasks -= 1
            if (task := asyncio.current_task()) is not None:
                self._tasks.discard(task)
            while self._round_robin and len(self._tasks) < self._total:
                first = next(iter(self._round_robin))
                del self._round_robin[first]
                if (theirs := self._queues.get(first)) is not None:  # else its own tasks have made them all
                    self._start_tasks(first, theirs)
            self._start_tasks(webhook_id, queue)
