"""Where a process makes its requests, so many at a time: what finds no place waits here for its turn.

A few tasks make all requests, one after another: a task for each, or a semaphore, would cost as much as the rest.
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
    """The requests to a webhook that wait for their turn, and how many tasks make some."""

    waiting: deque[Request] = field(default_factory=deque)
    tasks: int = 0


class RequestScheduler:
    """Makes requests on the event loop on which it is used: `total` at a time, `per_webhook` of them to one webhook."""

    def __init__(self, *, total: int, per_webhook: int) -> None:
        self._total = total
        self._per_webhook = per_webhook
        self._lines: dict[int, _WebhookQueue] = {}
        self._standing: dict[int, None] = {}
        """The webhooks whose requests wait because of `total`, in the order of their turns."""
        self._tasks: set[asyncio.Task[None]] = set()

    def launch(self, webhook_id: int, requests: Iterable[Request]) -> None:
        """Make requests to a webhook as soon as there are places."""
        line = self._lines.setdefault(webhook_id, _WebhookQueue())
        line.waiting.extend(requests)
        self._attend(webhook_id, line)

    def is_idle(self) -> bool:
        """Whether no request is being made, or waits for its turn."""
        return not self._lines

    def _attend(self, webhook_id: int, line: _WebhookQueue) -> None:
        """Start as many tasks as have something to do and a place."""
        for _ in range(min(len(line.waiting), self._per_webhook - line.tasks)):
            if len(self._tasks) >= self._total:
                self._standing[webhook_id] = None
                return
            line.tasks += 1
            self._tasks.add(asyncio.get_running_loop().create_task(self._work(webhook_id, line)))
        if not line.waiting and not line.tasks:
            self._lines.pop(webhook_id, None)

    async def _work(self, webhook_id: int, line: _WebhookQueue) -> None:
        try:
            while line.waiting:
                await line.waiting.popleft()()
                if self._standing:
                    break  # others have their turn first
        finally:
            line.tasks -= 1
            if (task := asyncio.current_task()) is not None:
                self._tasks.discard(task)
            while self._standing and len(self._tasks) < self._total:
                first = next(iter(self._standing))
                del self._standing[first]
                if (theirs := self._lines.get(first)) is not None:  # else its own tasks have made them all
                    self._attend(first, theirs)
            self._attend(webhook_id, line)
